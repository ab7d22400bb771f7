"""``segdex label``."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdex.cli.common import (
    OF_MODELS,
    DeviceOption,
    EmbedderOption,
    IndexOption,
    JsonOption,
    ProfileOption,
    ServerOption,
    console_err,
    console_out,
    opened,
    print_json,
    refuse_options,
    settings_from,
)
from segdex.cli.complete import one_of
from segdex_core.errors import UsageError
from segdex_core.patience import patient
from segdex_core.wording import count_of

if TYPE_CHECKING:
    from segdex.client import Client
    from segdex.library import Library
    from segdex_core.wire.labels import LabelReport, LabelRequest


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("label")(label_command)


def label_command(
    context: typer.Context,
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="WORD...", help="Each argument is one label.")
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from", help="Read labels from this text file, one a line.")
    ] = None,
    several: Annotated[
        bool, typer.Option("--several", help="Give an object every label that fits, not only the best one.")
    ] = False,
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score", help="Lowest score of a label.", show_default="of the embedder's calibration"
        ),
    ] = None,
    segment: Annotated[
        list[str] | None,
        typer.Option("--segment", help="Label this segment alone, as a person; repeatable."),
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Name of that person.", show_default="me")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and write nothing.")] = False,
    list_labels: Annotated[
        bool, typer.Option("--list", help="Only say how many segments carry each label.")
    ] = False,
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove these labels, or all where no word is given.")
    ] = False,
    author: Annotated[
        list[str] | None,
        typer.Option(
            "--author",
            metavar="model|concept|person",
            autocompletion=one_of(("model", "concept", "person")),
            help="Whose labels --clear removes; repeatable.",
            show_default="model",
        ),
    ] = None,
    as_json: JsonOption = False,
    embedder: EmbedderOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    server: ServerOption = None,
    device: DeviceOption = None,
) -> int:
    """Label all segments of the index with words, so that searches can filter by them."""
    from segdex.arguments import check_authors, label_request
    from segdex.cli.ids import segment_ids
    from segdex_search.queries import clean_labels

    words = clean_labels([*(labels or []), *(_read_labels(from_file) if from_file is not None else [])])
    _check_together(words, list_labels=list_labels, clear=clear, author=author)
    if list_labels or clear:
        given = {
            "--several": several,
            "--min-score": min_score is not None,
            "--segment": segment,
            "--by": by is not None,
            "--dry-run": dry_run,
        }
        for option in (name for name, is_given in given.items() if is_given):
            raise UsageError(f"{option} does not go with {'--clear' if clear else '--list'}: leave it out")
    if by is not None and not segment:
        raise UsageError("--by goes with --segment: a person labels the segments that are named")
    authors = check_authors(author or ["model"])
    settings = settings_from(
        context, profile=profile, index=index, server=server, device=device, embedder=embedder
    )
    if settings.server is not None:
        refuse_options(context, *OF_MODELS)
    if list_labels or clear:
        with opened(context, settings) as library:
            found = library.clear_labels(*words, authors=authors) if clear else library.labels()
        if as_json:
            print_json(found)
        else:
            _print_counts(found.counts, "segment", " lost the label" if clear else "")
        return 0
    with opened(context, settings) as library:
        request = label_request(
            words,
            several=several,
            min_score=min_score,
            segments=segment_ids(library, segment or []),
            by=by or "me",
            dry_run=dry_run,
        )
        report = _labelled(library, request)
    if as_json:
        print_json(report)
        return 0
    _print_counts(report.counts, "object")
    verb = "would get" if dry_run else "got"
    console_out().print(
        f"{report.labelled:,} of {count_of(report.segments, 'segment')} {verb} a label "
        f"in {report.elapsed_s:.1f} s; nothing fits the others",
        markup=False,
    )
    return 0


def _labelled(library: "Library | Client", request: "LabelRequest") -> "LabelReport":
    """Return what became of the segments; a library here shows how it goes on."""
    from segdex.library import Library

    if isinstance(library, Library) and not request.segments:
        from segdex.cli.progress import counted

        with (
            counted("segments", library.index.counts().segments) as advance,
            patient(lambda what: console_err().print(what) if what else None),
        ):
            return library.label_as(request, on_batch=advance)
    from segdex.cli.progress import waiting

    with nullcontext() if request.segments else waiting("labeling on the service"):
        return library.label(
            *request.labels,
            several=request.several,
            min_score=request.min_score,
            segments=request.segments,
            by=request.by,
            dry_run=request.dry_run,
        )


def _check_together(words: list[str], *, list_labels: bool, clear: bool, author: list[str] | None) -> None:
    if list_labels and (clear or words):
        raise UsageError("--list goes alone: it takes no word, and not --clear")
    if author and not clear:
        raise UsageError("--author goes with --clear")
    if not (words or list_labels or clear):
        raise UsageError("give labels as words or with --from FILE; or --list, or --clear")


def _read_labels(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(f"--from {path}: cannot be read: {reason}") from error
    labels = [line.strip() for line in lines if line.strip()]
    if not labels:
        raise UsageError(f"--from {path}: there is no label in it; write one a line")
    return labels


def _print_counts(counts: dict[str, int], noun: str, rest: str = "") -> None:
    console = console_out()
    width = max(map(len, counts), default=0)
    for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        number, _, counted = count_of(count, noun).partition(" ")
        console.print(f"{name:<{width}}  {number:>8} {counted}{rest}", markup=False)
    if not counts:
        console.print("no labels")
