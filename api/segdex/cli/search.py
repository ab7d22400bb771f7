"""``segdex search``."""

from collections.abc import Iterator
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
    refuse_options,
    settings_from,
)
from segdex.cli.lines import JsonLinesOption, json_form
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
from segdex_core.wire.limits import DEFAULT_NEGATIVE_WEIGHT, DEFAULT_REFINED

if TYPE_CHECKING:
    from segdex.answers import Answer, Hit
    from segdex.client import Client
    from segdex.library import Library
    from segdex_search.refine.refiner import Refinement


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("search", cls=QueryCommand)(search_command)


def search_command(
    context: typer.Context,
    text: TextArgument = None,
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
    explain: Annotated[
        Path | None,
        typer.Option("--explain", help="Draw map, prompts and masks of each refined hit to this PNG file."),
    ] = None,
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
    save: Annotated[
        Path | None, typer.Option("--save", help="Write a contact sheet to this PNG file.")
    ] = None,
    as_json: JsonOption = False,
    as_lines: JsonLinesOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    refiner: RefinerOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    server: ServerOption = None,
    device: DeviceOption = None,
) -> int:
    """Find the segments that match a text, a picture or another segment."""
    from segdex.answers import check_first
    from segdex.cli.ids import segment_ids, segments_or_files
    from segdex.cli.question import AUTO, make_filter, search_fields, weigh_terms
    from segdex.cli.search_output import SearchOutput

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
        refuse_options(context, "explain", *OF_MODELS)
    if explain is not None and refine is None:
        refine = DEFAULT_REFINED
    if refine is not None:
        check_first(refine)
    texts = [*([" ".join(text)] if text else []), *(also or [])]
    heading = ", ".join(texts or [*map(str, image or []), *(segment or [])])
    output = SearchOutput(
        json_form(as_json=as_json, as_lines=as_lines),
        console_out(),
        matches_only=min_score == AUTO,
        is_refined=refine is not None,
    )
    with opened(context, settings) as library:
        terms = weigh_terms(
            texts=texts,
            images=image or [],
            segments=[str(one) for one in segment_ids(library, segment or [])],
            weights=weight or [],
            negative=negative or [],
            unlike=segments_or_files(library, unlike or []),
            negative_weight=negative_weight,
        )
        fields = search_fields(
            terms,
            conditions=make_filter(
                min_area=min_area,
                max_area=max_area,
                sources=source or [],
                tags=tag or [],
                colors=color or [],
                labels=label or [],
                sets=in_set or [],
                since=since,
                until=until,
            ),
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
        answer = library.search(*terms.texts, image=terms.images, **fields)
        output.answer(answer.response)
        hits = {hit.id: hit for hit in answer}
        explained: list[tuple[Hit, Refinement]] = []
        for hit in () if refine is None else _refined(library, answer, refine, explained):
            hits[hit.id] = hit
            if hit.refinement is not None:
                output.refined(hit.refinement)
        if save is not None or explain is not None:
            _draw(heading, list(hits.values()), explained, save=save, explain=explain)
    output.end(answer.response)
    for what, path in (("contact sheet", save), ("explanation", explain)):
        if path is not None and output.form == "text":
            output.console.print(f"{what}: {path}", markup=False)
    return 0


def _draw(
    heading: str,
    hits: "list[Hit]",
    explained: "list[tuple[Hit, Refinement]]",
    *,
    save: Path | None,
    explain: Path | None,
) -> None:
    from segdex.render.sheets import answer_row, save_explanation, save_rows

    if save is not None:
        row = answer_row(heading, hits, lambda problem: console_err().print(problem, markup=False))
        save_rows(save, [row], title="segdex search")
    if explain is not None:
        save_explanation(explain, explained, title=heading)


def _refined(
    library: "Library | Client", answer: "Answer", first: int, explained: "list[tuple[Hit, Refinement]]"
) -> "Iterator[Hit]":
    """Yield the first hits with re-decoded masks; a local library also adds them to ``explained``."""
    from segdex.answers import refined_hit
    from segdex.library import Library
    from segdex.render.results import refinement_out

    if not isinstance(library, Library):
        yield from answer.refined(first)
        return
    for hit, one in library.explanations(answer, first):
        explained.append((hit, one))
        yield refined_hit(hit, refinement_out(one))
