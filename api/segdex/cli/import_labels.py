"""``segdex import``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdex.cli.common import (
    IndexOption,
    JsonOption,
    ServerOption,
    console_out,
    opened,
    print_json,
    settings_from,
)
from segdex_core.wire.limits import DEFAULT_MIN_IOU, ImportFormat
from segdex_core.wording import count_of

if TYPE_CHECKING:
    from segdex_core.wire.imports import ImportReport

_NAMED = 20
"""Problems that are printed; --json has all."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_command)


def import_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="JSON file that another tool exported.")],
    format_name: Annotated[
        ImportFormat,
        typer.Option("--format", help="Format of the file; Label Studio's is its export as JSON."),
    ],
    by: Annotated[str, typer.Option("--by", help="Name of the person whose labels these become.")] = "me",
    min_iou: Annotated[
        float,
        typer.Option(
            "--min-iou", help="Lowest IoU of an annotation and a segment that it was not exported from."
        ),
    ] = DEFAULT_MIN_IOU,
    overrule: Annotated[
        bool,
        typer.Option(
            "--overrule", help="Remove a label that was changed there whoever gave it, also a model."
        ),
    ] = False,
    remove_missing: Annotated[
        bool,
        typer.Option(
            "--remove-missing",
            help="Remove this person's labels from segments of these pictures that have no annotation.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Match and count, and write nothing.")] = False,
    as_json: JsonOption = False,
    index: IndexOption = None,
    server: ServerOption = None,
) -> int:
    """Take annotations back that were corrected in another tool, as labels of segments.

    An annotation is the segment that it was exported from, if their masks are still similar, or else the
    segment with the most similar mask. Annotations that are like no segment are counted and named.
    """
    from segdex.cli.progress import waiting

    settings = settings_from(context, index=index, server=server)
    with opened(context, settings) as library, waiting("matching annotations with segments", is_slow=False):
        report = library.import_labels(
            file,
            format=format_name,
            by=by,
            min_iou=min_iou,
            overrule=overrule,
            remove_missing=remove_missing,
            dry_run=dry_run,
        )
    if as_json:
        print_json(report)
    else:
        _print(report)
    return 0


def _print(report: "ImportReport") -> None:
    console = console_out()

    def line(text: str) -> None:
        console.print(text, markup=False)

    line(
        f"{report.matched:,} of {count_of(report.annotations, 'annotation')} matched a segment in "
        f"{count_of(report.images, 'picture')}: {report.matched_by_id:,} by id, "
        f"{report.matched_by_mask:,} by mask, {report.matched_by_box:,} by box"
    )
    verb = "would change" if report.dry_run else "changed"
    line(
        f"{verb} the labels of {count_of(report.segments_changed, 'segment')}: "
        f"{count_of(report.labels_added, 'label')} added, {report.labels_removed:,} removed; "
        f"{count_of(report.segments_unchanged, 'segment')} had their labels already"
    )
    if report.unmatched or report.unknown_images or report.skipped_images:
        line(
            f"{count_of(report.unmatched, 'annotation')} matched no segment; "
            f"{count_of(report.unknown_images, 'picture')} with "
            f"{count_of(report.of_unknown_images, 'annotation')} not in the index; "
            f"{count_of(report.skipped_images, 'picture')} skipped in the other tool"
        )
    for problem in report.problems[:_NAMED]:
        annotation = "" if problem.annotation is None else f", {problem.annotation}"
        line(f"  {problem.image}{annotation}: {problem.reason}")
    if len(report.problems) > _NAMED:
        line(f"  and {len(report.problems) - _NAMED:,} more; --json names all")
