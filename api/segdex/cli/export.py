"""``segdex export``: segments for other tools, or the whole index as a backup."""

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
    RefinerOption,
    SegmenterOption,
    ServerOption,
    console_err,
    console_out,
    opened,
    print_json,
    refuse_options,
    settings_from,
)
from segdex.cli.query_command import QueryCommand
from segdex.cli.question_options import (
    AlsoOption,
    CollapseDuplicatesOption,
    ColorOption,
    CombineOption,
    DiversityOption,
    ExactOption,
    ImageOption,
    InSetOption,
    LabelOption,
    LevelOption,
    LimitOption,
    MaxAreaOption,
    MinAreaOption,
    MinScoreOption,
    NegativeOption,
    NegativeWeightOption,
    NmsOption,
    PerImageOption,
    RefineOption,
    SegmentOption,
    SinceOption,
    SourceOption,
    TagOption,
    TextArgument,
    UnlikeOption,
    UntilOption,
    ViewOption,
    WeightOption,
)
from segdex_core.choices import ExportFormat
from segdex_core.errors import UsageError
from segdex_core.wire.limits import DEFAULT_NEGATIVE_WEIGHT, PicturesChoice
from segdex_core.wording import count_of

if TYPE_CHECKING:
    from segdex.cli.question import Terms
    from segdex_core.wire.export import Exported, ExportLoss

_OF_A_QUESTION = (
    "negative_weight",
    "weight",
    "view",
    "limit",
    "per_image",
    "min_score",
    "refine",
    "nms",
    "combine",
    "exact",
    "diversity",
    "collapse_duplicates",
)
"""Parameters that need a question."""

_OF_A_BACKUP = ("context", "out", "format_name", "as_json", "index")
"""Parameters that a backup heeds."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", cls=QueryCommand)(export_command)


def export_command(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="New or empty folder, or a .zip file; a .json or .csv file if the format is one document.",
        ),
    ],
    text: TextArgument = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every segment of the index, as far as filters allow.")
    ] = False,
    format_name: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="parquet: a backup of the whole index, for `segdex restore`. zip: cut-outs. Others: for the "
            "tools of these names.",
        ),
    ] = "parquet",
    pictures: Annotated[
        PicturesChoice | None,
        typer.Option(
            "--pictures",
            help="Copy the pictures, upright.",
            show_default="copy for yolo and fiftyone, else none",
        ),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(
            "--category",
            help="Category of all segments.",
            show_default="the best label, else the text of the query, or object",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="PX",
            help="Largest distance of a polygon from its mask: more gives fewer corners.",
            show_default="0.5",
        ),
    ] = None,
    url_prefix: Annotated[
        str | None,
        typer.Option("--url-prefix", help="Before each file name, where Label Studio loads pictures from."),
    ] = None,
    also: AlsoOption = None,
    image: ImageOption = None,
    segment: SegmentOption = None,
    negative: NegativeOption = None,
    unlike: UnlikeOption = None,
    weight: WeightOption = None,
    negative_weight: NegativeWeightOption = DEFAULT_NEGATIVE_WEIGHT,
    view: ViewOption = None,
    limit: LimitOption = 10,
    per_image: PerImageOption = 3,
    min_score: MinScoreOption = None,
    refine: RefineOption = None,
    min_area: MinAreaOption = None,
    max_area: MaxAreaOption = None,
    source: SourceOption = None,
    tag: TagOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    color: ColorOption = None,
    label: LabelOption = None,
    in_set: InSetOption = None,
    level: LevelOption = "any",
    nms: NmsOption = True,
    combine: CombineOption = "mean",
    exact: ExactOption = False,
    diversity: DiversityOption = 0.0,
    collapse_duplicates: CollapseDuplicatesOption = False,
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    refiner: RefinerOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    server: ServerOption = None,
    device: DeviceOption = None,
) -> int:
    """Write segments with their masks for another tool, or the whole index as a backup.

    For another tool, give --format and a query as for `segdex search`, --all, or --set NAME for the members
    of a set. docs/export.md has a table of the formats.
    """
    if format_name == "parquet":
        from segdex.cli.backup import write_backup

        _refuse(
            context,
            [name for name in context.params if name not in _OF_A_BACKUP],
            "cannot go with a backup of the whole index: choose another --format for a part of it",
        )
        return write_backup(context, out, index=index, as_json=as_json)
    from segdex.arguments import ExportFields
    from segdex.cli.ids import segment_ids, segments_or_files
    from segdex.cli.progress import shown_progress
    from segdex.cli.question import make_filter, search_fields, weigh_terms

    settings = settings_from(
        context,
        profile=profile,
        index=index,
        server=server,
        device=device,
        embedder=embedder,
        segmenter=segmenter,
        refiner=refiner,
    )
    if settings.server is not None:
        refuse_options(context, *OF_MODELS)
    conditions = make_filter(
        min_area=min_area,
        max_area=max_area,
        sources=source or [],
        tags=tag or [],
        colors=color or [],
        labels=label or [],
        sets=in_set or [],
        since=since,
        until=until,
    )
    fields = ExportFields(
        category=category, pictures=pictures, tolerance_px=tolerance, url_prefix=url_prefix, refine=refine
    )
    with opened(context, settings) as library, shown_progress(done="written") as progress:
        terms: Terms | None = None
        if text or also or image or segment or negative or unlike:
            if everything:
                raise UsageError("--all cannot go with a query: leave one of them out")
            terms = weigh_terms(
                texts=[*([" ".join(text)] if text else []), *(also or [])],
                images=image or [],
                segments=[str(one) for one in segment_ids(library, segment or [])],
                weights=weight or [],
                negative=negative or [],
                unlike=segments_or_files(library, unlike or []),
                negative_weight=negative_weight,
            )
            asked = search_fields(
                terms,
                conditions=conditions,
                view=view or [],
                limit=limit,
                per_image=per_image,
                min_score=min_score,
                level=level,
                nms=nms,
                exact=exact,
                combine=combine,
                diversity=diversity,
                collapse_duplicates=collapse_duplicates,
            )
            fields = ExportFields(**asked, **fields)
        elif everything or in_set:
            _refuse(context, _OF_A_QUESTION, "needs a query: give one instead of --all or --set")
            fields = ExportFields(**fields, everything=True, filter=conditions, level=level)
        else:
            raise UsageError(f"--format {format_name} needs a query, --all, or --set NAME")
        done = library.export(
            out,
            *(terms.texts if terms else ()),
            format=format_name,
            image=(terms.images if terms else None) or None,
            progress=progress,
            **fields,
        )
    if as_json:
        print_json(done)
    else:
        _print(done)
    return 1 if done.missing else 0


def _refuse(context: typer.Context, names: "list[str] | tuple[str, ...]", problem: str) -> None:
    """Raise if one of these parameters was given on the command line.

    Raises:
        UsageError: If one was given; the message names its option.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            name = parameter.opts[0] if parameter.opts[0].startswith("-") else "a query"
            raise UsageError(f"{name} {problem}")


def _print(done: "Exported") -> None:
    """Print what was exported, what polygons lose, and which pictures are missing."""
    console = console_out()
    copied = f" and {count_of(done.pictures, 'picture file')}" if done.pictures else ""
    counts = f"{count_of(done.segments, 'segment')} of {count_of(done.images, 'picture')}{copied}"
    console.print(f"wrote {counts} to {done.path}", markup=False)
    if not done.pictures and done.format not in ("csv", "zip"):
        console.print(f"pictures: none copied; file names are below {done.root}", markup=False)
    if done.loss is not None:
        console.print(_loss(done.loss), markup=False)
    for one in done.missing:
        console_err().print(f"missing: {one.path}: {one.reason}", markup=False)


def _loss(loss: "ExportLoss") -> str:
    parts = [f"mean IoU with the masks {loss.mean_iou:.4f}, lowest {loss.lowest_iou:.4f}"]
    parts += [f"{count_of(loss.lost_holes, 'hole')} filled"] * bool(loss.lost_holes)
    parts += [f"parts joined in {count_of(loss.joined_parts, 'segment')}"] * bool(loss.joined_parts)
    parts += [f"{count_of(loss.left_out, 'segment')} left out"] * bool(loss.left_out)
    return f"polygons: {'; '.join(parts)}"
