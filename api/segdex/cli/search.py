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
    print_json,
    refuse_options,
    settings_from,
)
from segdex.cli.complete import one_of
from segdex.cli.query_command import QueryCommand
from segdex_core.colours import COLOUR_NAMES
from segdex_core.wire.limits import (
    DEFAULT_NEGATIVE_WEIGHT,
    DEFAULT_REFINED,
    DEFAULT_VIEW_WEIGHTS,
    Combine,
    Level,
)

if TYPE_CHECKING:
    from segdex.answers import Answer, Hit
    from segdex.client import Client
    from segdex.library import Library
    from segdex_core.wire.search import RefinementOut
    from segdex_search.refine.refiner import Refinement


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("search", cls=QueryCommand)(search_command)


def search_command(
    context: typer.Context,
    text: Annotated[
        list[str] | None,
        typer.Argument(help="Text to search for, such as: red umbrella. All words are one text."),
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option("--also", help="Another text to search for; repeatable.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="Search for objects like this picture; repeatable.")
    ] = None,
    segment: Annotated[
        list[str] | None, typer.Option("--segment", help="Search for objects like this segment; repeatable.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option("--negative", "--not", help="Text to exclude; repeatable.")
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option(
            "--unlike",
            metavar="ID|FILE",
            help="Segment or picture that hits should be unlike; repeatable.",
        ),
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(
            "--weight",
            help="Weight of each text, --also, --image and --segment, in this order.",
            show_default="1",
        ),
    ] = None,
    negative_weight: Annotated[
        float, typer.Option("--negative-weight", help="Weight of every --negative and --unlike.")
    ] = DEFAULT_NEGATIVE_WEIGHT,
    view: Annotated[
        list[str] | None,
        typer.Option(
            "--view",
            metavar="crop|mask=WEIGHT",
            autocompletion=one_of([f"{name}=" for name in DEFAULT_VIEW_WEIGHTS]),
            help="Weight of a view in the score; repeatable.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Maximum number of pictures.")] = 10,
    per_image: Annotated[int, typer.Option("--per-image", help="Maximum segments per picture.")] = 3,
    min_score: Annotated[
        str | None,
        typer.Option(
            "--min-score",
            metavar="SCORE|auto",
            autocompletion=one_of(("auto",)),
            help="Minimum score; auto hides weaker matches, which otherwise come last.",
        ),
    ] = None,
    refine: Annotated[
        int | None,
        typer.Option(
            "--refine",
            metavar="[N]",
            help="Re-decode the masks of the first N hits.",
            show_default=str(DEFAULT_REFINED),
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option("--explain", help="Draw map, prompts and masks of each refined hit to this PNG file."),
    ] = None,
    min_area: Annotated[
        float | None,
        typer.Option("--min-area", help="Minimum area of a segment as a share of the picture, 0 to 1."),
    ] = None,
    max_area: Annotated[
        float | None,
        typer.Option("--max-area", help="Maximum area of a segment as a share of the picture, 0 to 1."),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only pictures in this folder; repeatable.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="Only pictures with this tag; repeatable, all tags must match."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only pictures taken at or after this date.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Only pictures taken before this date.")
    ] = None,
    color: Annotated[
        list[str] | None,
        typer.Option(
            "--color",
            autocompletion=one_of(COLOUR_NAMES),
            help="Only segments of which at least a quarter is in this color, such as red; repeatable.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="With this label of `segdex label`; repeatable, any of them."),
    ] = None,
    in_set: Annotated[
        list[str] | None,
        typer.Option("--set", help="In this set of `segdex set`; repeatable, any of them."),
    ] = None,
    level: Annotated[
        Level,
        typer.Option(
            "--level",
            help="Prefer whole objects slightly (any) or strongly (whole), or find only parts (part).",
        ),
    ] = "any",
    nms: Annotated[
        bool,
        typer.Option(
            "--nms/--no-nms",
            help="Non-maximum suppression: leave out parts and surroundings of better hits.",
        ),
    ] = True,
    combine: Annotated[
        Combine,
        typer.Option(
            "--combine",
            help="Hits are like the mean of all terms, or like any one of the pictures and segments (best).",
        ),
    ] = "mean",
    exact: Annotated[bool, typer.Option("--exact", help="Compare the query with every vector.")] = False,
    diversity: Annotated[
        float,
        typer.Option("--diversity", help="How much different pictures come first: 0, by score alone, to 1."),
    ] = 0.0,
    collapse_duplicates: Annotated[
        bool,
        typer.Option(
            "--collapse-duplicates", help="One picture of each group of near-duplicates, such as a burst."
        ),
    ] = False,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write a contact sheet to this PNG file.")
    ] = None,
    as_json: JsonOption = False,
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
    from segdex.arguments import SearchFields
    from segdex.cli.answers import print_answer, print_refined
    from segdex.cli.ids import segment_ids, segments_or_files
    from segdex.cli.question import (
        AUTO,
        check_question,
        make_filter,
        parse_min_score,
        parse_view_weights,
        weigh_terms,
    )

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
    console = console_out()
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
        fields = SearchFields(
            segments=terms.segments,
            negative=terms.negative,
            view_weights=parse_view_weights(view or []),
            filter=make_filter(
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
            limit=limit,
            per_image=per_image,
            min_score=parse_min_score(min_score),
            matches_only=min_score == AUTO,
            level=level,
            nms=nms,
            exact=exact,
            combine=combine,
            diversity=diversity,
            collapse_duplicates=collapse_duplicates,
        )
        check_question(terms, fields)
        answer = library.search(*terms.texts, image=terms.images, **fields)
        if not as_json:
            print_answer(answer.response, console, matches_only=min_score == AUTO)
        hits = {hit.id: hit for hit in answer}
        refinements: list[RefinementOut] = []
        explained: list[tuple[Hit, Refinement]] = []
        for hit in () if refine is None else _refined(library, answer, refine, explained):
            hits[hit.id] = hit
            if hit.refinement is not None:
                refinements.append(hit.refinement)
                if not as_json:
                    print_refined(hit.refinement, console)
        if save is not None or explain is not None:
            _draw(heading, list(hits.values()), explained, save=save, explain=explain)
    if as_json:
        document = answer.response.model_dump(mode="json")
        print_json({**document, "refinements": [one.model_dump(mode="json") for one in refinements]})
        return 0
    for what, path in (("contact sheet", save), ("explanation", explain)):
        if path is not None:
            console.print(f"{what}: {path}", markup=False)
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
