"""``segdex ingest``."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from segdex.cli.common import (
    OF_MODELS,
    BudgetOption,
    CropLayersOption,
    DeviceOption,
    EmbedderOption,
    GridOption,
    IndexOption,
    IngestQualityOption,
    JsonOption,
    ProfileOption,
    SegmenterOption,
    SelectOption,
    ServerOption,
    ViewsOption,
    YesOption,
    console_out,
    in_words,
    opened,
    print_json,
    refuse_options,
    settings_from,
)
from segdex.cli.lines import JsonLinesOption, json_form, print_line
from segdex_core.wording import count_of

if TYPE_CHECKING:
    from rich.console import Console

    from segdex.arguments import IngestProgress
    from segdex_core.wire.images import IngestedFile, IngestReportOut

_OF_AN_INGEST_HERE = (
    "quality",
    "views",
    "select",
    "segments_per_image",
    "points_per_side",
    "crop_layers",
    "decode_threads",
    "max_pixels",
    "dry_run",
    "yes",
)
"""Options for reading and segmenting images; a service refuses them."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ingest")(ingest_command)


def ingest_command(
    context: typer.Context,
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders or quoted patterns such as 'photos/**/*.jpg'.")
    ],
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", help="Leave out a name, a pattern (2024/**/raw) or a path; repeatable."),
    ] = None,
    include_hidden: Annotated[bool, typer.Option("--include-hidden", help="Include hidden files.")] = False,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Tag for every file; repeatable.")] = None,
    quality: IngestQualityOption = None,
    select: SelectOption = "ranked",
    segments_per_image: BudgetOption = None,
    points_per_side: GridOption = None,
    crop_layers: CropLayersOption = None,
    views: ViewsOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Stop after this many segmented pictures.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would happen.")] = False,
    decode_threads: Annotated[
        int | None,
        typer.Option("--decode-threads", help="Threads that read and decode files ahead."),
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option("--max-pixels", help="Refuse pictures with more pixels."),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    as_lines: JsonLinesOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    server: ServerOption = None,
    device: DeviceOption = None,
) -> int:
    """Bring the index up to date: segment, embed and store new and changed pictures."""
    from segdex.arguments import MaskChoices
    from segdex.cli.progress import shown_progress

    form = json_form(as_json=as_json, as_lines=as_lines)
    settings = settings_from(
        context,
        profile=profile,
        index=index,
        server=server,
        device=device,
        segmenter=segmenter,
        embedder=embedder,
        views=views,
        decode_threads=decode_threads,
        max_pixels=max_pixels,
    )
    if settings.server is not None:
        refuse_options(context, *_OF_AN_INGEST_HERE, *OF_MODELS)
    choices = MaskChoices(
        quality=quality,
        select=select,
        segments_per_image=segments_per_image,
        points_per_side=points_per_side,
        crop_layers=crop_layers,
    )
    with ended_by_sigterm(), opened(context, settings) as library, shown_progress(limit=limit) as progress:
        report = library.ingest(
            *paths,
            exclude=exclude or [],
            include_hidden=include_hidden,
            tags=tag or [],
            masks=None if choices == MaskChoices() else choices,
            limit=limit,
            redo_outdated=yes,
            dry_run=dry_run,
            progress=_also_lines(progress) if form == "lines" else progress,
        )
    if form == "lines":
        print_line(report)
    elif form == "json":
        print_json(report)
    else:
        print_report(report, console_out(), dry_run=dry_run)
    return exit_code(report)


def _also_lines(progress: "IngestProgress") -> "IngestProgress":
    """Return what shows the progress and prints what became of each file."""

    def on_file(file: "IngestedFile") -> None:
        print_line(file)
        progress.on_file(file)

    return replace(progress, on_file=on_file)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end a block as Ctrl-C does. Only the main thread gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_code(report: "IngestReportOut") -> int:
    """Return 0 if every file was usable, 1 if some were not, and 130 if the user stopped the run."""
    if report.interrupted:
        return 130
    return int(report.has_failures)


def print_report(report: "IngestReportOut", console: "Console", *, dry_run: bool = False) -> None:
    """Print the failures, a table of outcomes, and the rate."""
    from rich.text import Text

    from segdex.cli.tables import print_table
    from segdex_core.media.others import is_unread_picture
    from segdex_core.wire.images import FAILED, kinds_in_words

    for folder in report.skipped_folders[:_SHOWN_FAILURES]:
        console.print(Text(f"skipped {folder.path}: {folder.reason}", style="yellow"))
    if len(report.skipped_folders) > _SHOWN_FAILURES:
        console.print(f"... and {len(report.skipped_folders) - _SHOWN_FAILURES} more; --json lists all")
    for note in report.notes:
        console.print(Text(f"note: {note}"))
    # what is no picture at all hides no broken picture
    failed = sorted(
        (file for file in report.files if file.outcome in FAILED), key=lambda file: file.kind is not None
    )
    for file in failed[:_SHOWN_FAILURES]:
        console.print(Text(f"{in_words(file.outcome)}: {file.detail}", style="yellow"))
    if len(failed) > _SHOWN_FAILURES:
        console.print(f"... and {len(failed) - _SHOWN_FAILURES} more; --json lists all")
    beside = {kind: count for kind, count in report.kinds.items() if not is_unread_picture(kind)}
    if beside:
        console.print(Text(f"not pictures: {kinds_in_words(beside)}"))
    if dry_run:
        console.print("what would happen")
    counts = [(in_words(outcome), f"{count:,}") for outcome, count in report.outcomes.items() if count]
    print_table(console, ("outcome", "files"), counts, right=[1])
    rate = len(report.files) / report.elapsed_s if report.elapsed_s else 0.0
    console.print(
        f"{count_of(len(report.files), 'file')}, {count_of(report.segments, 'new segment')} "
        f"in {report.elapsed_s:.1f} s"
        f" ({rate:.2f} files/s)"
    )
    if not dry_run and report.files and not report.interrupted and not report.analysed and not failed:
        console.print("nothing had to be ingested again")
    if report.interrupted:
        console.print("stopped: run the same command again to go on")


_SHOWN_FAILURES = 20
