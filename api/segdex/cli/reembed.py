"""``segdex reembed``."""

from typing import TYPE_CHECKING, Annotated

import typer

from segdex.cli.common import (
    DeviceOption,
    EmbedderOption,
    IndexOption,
    JsonOption,
    ProfileOption,
    ViewsOption,
    console_out,
    opened_here,
    print_json,
    settings_from,
)
from segdex_core.errors import UsageError
from segdex_core.wording import duration_of

if TYPE_CHECKING:
    from rich.console import Console

    from segdex_core.wire.images import Reembedded


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reembed")(reembed_command)


def reembed_command(
    context: typer.Context,
    embedder: EmbedderOption = None,
    views: ViewsOption = None,
    profile: ProfileOption = None,
    skip_missing: Annotated[
        bool,
        typer.Option(
            "--skip-missing",
            help="Switch although some pictures cannot be read; they are not in the new vectors.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many pictures, and about how long.")
    ] = False,
    drop_old: Annotated[
        bool,
        typer.Option(
            "--drop-old", help="Delete old vectors, and those of a re-embedding that was not finished."
        ),
    ] = False,
    as_json: JsonOption = False,
    index: IndexOption = None,
    device: DeviceOption = None,
) -> int:
    """Change the embedder or the views of an index without segmenting again.

    Masks stay as they are; pictures are read and embedded. Searches continue on the old vectors, and the new
    vectors replace them in one step. After an interruption, run the same command again.
    """
    from segdex.cli.progress import shown_progress

    settings = settings_from(
        context, embedder=embedder, views=views, profile=profile, index=index, device=device
    )
    if drop_old and (embedder or views or profile or skip_missing or dry_run):
        raise UsageError("--drop-old cannot go with other options: re-embed first, look, then drop")
    with opened_here(context, settings) as library:
        if drop_old:
            dropped = library.drop_old_vectors()
            if as_json:
                print_json(dropped)
            else:
                console_out().print(f"deleted {dropped.sets:,} sets of vectors that were not in use")
            return 0
        with shown_progress(done="embedded") as progress:
            report = library.reembed(skip_missing=skip_missing, dry_run=dry_run, progress=progress)
    if as_json:
        print_json(report)
    else:
        print_report(report, console_out())
    return exit_code(report)


def exit_code(report: "Reembedded") -> int:
    """Return 0 when all pictures have new vectors, 1 when some cannot, 130 when the user stopped the run."""
    failed = report.missing or (report.uncolored and not report.dry_run)
    return 130 if report.interrupted else int(bool(failed))


def print_report(report: "Reembedded", console: "Console") -> None:
    """Print which pictures cannot be embedded, what was done, and what to do next."""
    from rich.text import Text

    for picture in report.missing[:_SHOWN_MISSING]:
        console.print(Text(picture.reason, style="yellow"))
    if len(report.missing) > _SHOWN_MISSING:
        console.print(f"... and {len(report.missing) - _SHOWN_MISSING} more; --json lists all")
    for line in _lines(report):
        console.print(line, markup=False)


def _lines(report: "Reembedded") -> list[str]:
    lines = [f"measured the colors of {report.colored:,} segments"] if report.colored else []
    if report.dry_run and report.uncolored:
        lines.append(f"the colors of {report.uncolored:,} segments would be measured")
    elif report.uncolored:
        lines.append(f"{report.uncolored:,} segments have no colors: their pictures cannot be read")
    if report.nothing_to_do:
        return [*lines, f"all {report.images:,} pictures have these vectors already"]
    if report.dry_run:
        long = "" if report.estimated_s is None else f", about {duration_of(report.estimated_s)}"
        lines.append(
            f"{report.to_embed:,} of {report.images:,} pictures would be embedded by {report.embedder} "
            f"(views: {report.views}){long}; none segmented"
        )
        return lines
    lines.append(
        f"embedded {report.embedded:,} pictures with {report.segments:,} segments in {report.elapsed_s:.1f} s"
    )
    if report.interrupted:
        return [*lines, "stopped, the old vectors are in use: run the same command again to go on"]
    if not report.switched:
        lines.append(
            f"{len(report.missing):,} of {report.images:,} pictures cannot be read, so the old vectors stay "
            "in use: bring the files back and run the same command again, remove these pictures with "
            "`segdex sync` or `segdex delete`, or leave them out of the new vectors with --skip-missing"
        )
        return lines
    lines.append(f"the new vectors are in use: {report.embedder} (views: {report.views})")
    if report.missing:
        lines.append(f"{len(report.missing):,} pictures that cannot be read are not in the index any more")
    if report.unknown:
        lines.append(
            f"{report.unknown:,} pictures were made with settings that are not known: the next ingest asks "
            "before it segments them again"
        )
    lines.append(
        "later commands take this embedder without an option, unless its weights are a file of yours: name "
        "that with --embedder; give the same --views to every ingest; restart services; "
        "`segdex reembed --drop-old` deletes the old vectors"
    )
    return lines


_SHOWN_MISSING = 20
