"""``segdex search``."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text

from segdex.api.cli.common import (
    DeviceOption,
    EmbedderOption,
    IndexOption,
    JsonOption,
    ProfileOption,
    RefinerOption,
    SegmenterOption,
    console_out,
    opened,
    parse_time,
    print_json,
    settings_from,
)
from segdex.api.cli.refine import (
    DEFAULT_REFINED,
    print_refinement,
    refinement_to_json,
    save_explanation,
)
from segdex.api.results import hit_to_json, read_picture, sheet_row
from segdex.api.services import load_embedder, load_segmenter, make_refiner, profile_of
from segdex.core.errors import QueryError, UsageError
from segdex.core.images import read_image_file
from segdex.core.records import SegmentFilter
from segdex.core.settings import Settings
from segdex.core.uris import display_path, path_to_uri
from segdex.search.queries import (
    DEFAULT_AWAY_WEIGHT,
    DEFAULT_VIEW_WEIGHTS,
    ImageTerm,
    SearchQuery,
    SegmentTerm,
    Term,
    TextTerm,
)
from segdex.search.rank import HitSegment, SearchHit
from segdex.search.refine.presence import PresenceJudge
from segdex.search.refine.service import MAX_REFINED, Refinement, refine_answer
from segdex.search.service import SearchAnswer, require_filled, search


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("search")(search_command)


def search_command(
    context: typer.Context,
    text: Annotated[
        list[str] | None, typer.Argument(help="What to look for, such as: 'red umbrella'.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="Things that look like this picture.")
    ] = None,
    segment: Annotated[
        list[str] | None, typer.Option("--segment", help="Things like this segment id.")
    ] = None,
    away: Annotated[list[str] | None, typer.Option("--not", help="Away from this text; repeatable.")] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(
            "--weight", help="Weight of each text, picture and segment, in this order. [default: 1]"
        ),
    ] = None,
    not_weight: Annotated[
        float, typer.Option("--not-weight", help="Weight of every --not.")
    ] = DEFAULT_AWAY_WEIGHT,
    view: Annotated[
        list[str] | None,
        typer.Option(
            "--view", metavar="crop|context=WEIGHT", help="Share of a view in the score; repeatable."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many pictures.")] = 10,
    per_image: Annotated[int, typer.Option("--per-image", help="How many segments of one picture.")] = 3,
    min_score: Annotated[
        str | None,
        typer.Option(
            "--min-score",
            metavar="SCORE|auto",
            help="Leave out lower scores; auto: leave out pictures that do not show it.",
        ),
    ] = None,
    refine: Annotated[
        int | None,
        typer.Option(
            "--refine", metavar="[N]", help=f"Draw the masks of the first N hits again. [{DEFAULT_REFINED}]"
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option("--explain", help="Write how each refined hit came about to this PNG file."),
    ] = None,
    min_area: Annotated[
        float | None, typer.Option("--min-area", help="Smallest share of the picture, 0 to 1.")
    ] = None,
    max_area: Annotated[
        float | None, typer.Option("--max-area", help="Largest share of the picture, 0 to 1.")
    ] = None,
    source: Annotated[
        list[Path] | None, typer.Option("--source", help="Below this folder; repeatable.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="With this label; repeatable, all must be there.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="Taken at or after this date.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Taken before this date.")] = None,
    nested: Annotated[
        bool, typer.Option("--nested", help="Keep parts and surroundings of better hits.")
    ] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write a contact sheet to this PNG file.")
    ] = None,
    as_json: JsonOption = False,
    segmenter: SegmenterOption = None,
    embedder: EmbedderOption = None,
    refiner: RefinerOption = None,
    profile: ProfileOption = None,
    index: IndexOption = None,
    device: DeviceOption = None,
) -> int:
    """Find the segments that match a text, a picture or another segment."""
    settings = settings_from(
        context,
        profile=profile,
        index=index,
        device=device,
        embedder=embedder,
        segmenter=segmenter,
        refiner=refiner,
    )
    if explain is not None and refine is None:
        refine = DEFAULT_REFINED
    if refine is not None and not 1 <= refine <= MAX_REFINED:
        raise UsageError(f"--refine must be between 1 and {MAX_REFINED}, but got {refine}")
    query = SearchQuery(
        terms=_terms(
            settings,
            texts=text or [],
            images=image or [],
            segments=segment or [],
            away=away or [],
            weights=weight or [],
            not_weight=not_weight,
        ),
        where=_where(
            min_area=min_area,
            max_area=max_area,
            sources=source or [],
            tags=tag or [],
            since=since,
            until=until,
        ),
        limit=limit,
        per_image=per_image,
        min_score=_min_score(min_score),
        view_weights=_view_weights(view or []),
        nested=nested,
        exact=exact,
    )
    with opened(settings) as opened_index:
        found = require_filled(opened_index)
        chosen = profile_of(settings, opened_index)
        model = load_embedder(settings, chosen)
        judge = PresenceJudge.of(model) if min_score == _AUTO or refine is not None else None
        answer = search(
            query, index=opened_index, embedder=model, judge=judge if min_score == _AUTO else None
        )
    console = console_out()
    if not as_json:
        _print_answer(answer, console, judged=min_score == _AUTO)
    refined: dict[UUID, Refinement] = {}
    if refine is not None and judge is not None and answer.hits:
        made = make_refiner(
            settings,
            segmenter=load_segmenter(settings, chosen),
            embedder=model,
            distractors=judge.distractors,
        )
        read = partial(read_picture, max_pixels=settings.max_pixels)
        for one in refine_answer(answer, query, refiner=made, first=refine, read_picture=read):
            refined[one.segment_id] = one
            if not as_json:
                print_refinement(one, console)
    heading = ", ".join(text or [*map(str, image or []), *(segment or [])])
    if save is not None:
        save_sheet(save, [(heading, _with_refined(answer, refined))], settings, title="segdex search")
    if explain is not None:
        save_explanation(explain, answer.hits, refined, settings, title=heading)
    if as_json:
        print_json(
            {
                "models": {"embedder": answer.embedder, "segmenter": found.segmenter},
                "profile": found.profile,
                "timings_ms": answer.timings_ms,
                "answer": "found" if answer.hits else "not there",
                "hits": [hit_to_json(hit, rank=rank) for rank, hit in enumerate(answer.hits, 1)],
                "refined": {str(key): refinement_to_json(one) for key, one in refined.items()},
            }
        )
        return 0
    for what, path in (("contact sheet", save), ("explanation", explain)):
        if path is not None:
            console.print(f"{what}: {path}", markup=False)
    return 0


_AUTO = "auto"


def _min_score(given: str | None) -> float | None:
    if given is None or given == _AUTO:
        return None
    try:
        return float(given)
    except ValueError as error:
        raise UsageError(f"--min-score must be a number or auto, but is {given!r}") from error


def _print_answer(answer: SearchAnswer, console: Console, *, judged: bool) -> None:
    if judged and not answer.hits:
        console.print("not there: no picture stands out for this")
    else:
        print_hits(answer.hits, console)
    stages = ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in answer.timings_ms.items())
    console.print(Text(f"{len(answer.hits)} pictures; scored by {answer.embedder}; {stages}", style="dim"))


def _with_refined(answer: SearchAnswer, refined: Mapping[UUID, Refinement]) -> SearchAnswer:
    """Return the answer with the masks that the gate let pass."""

    def drawn(segment: HitSegment) -> HitSegment:
        one = refined.get(segment.segment_id)
        if one is None or not one.decision.accepted:
            return segment
        mask = one.proposal.mask
        share = mask.area_px / (mask.mask.size_hw[0] * mask.mask.size_hw[1])
        record = replace(
            segment.record, mask=mask.mask, box=mask.box, area_px=mask.area_px, area_fraction=share
        )
        return replace(segment, record=record)

    hits = tuple(replace(hit, segments=tuple(map(drawn, hit.segments))) for hit in answer.hits)
    return replace(answer, hits=hits)


def print_hits(hits: tuple[SearchHit, ...], console: Console) -> None:
    """Print a line for each segment, its picture named in the first; lines are never cut or wrapped."""
    if not hits:
        console.print("nothing found")
        return
    rows = [("rank", "score", "area", "box x1,y1-x2,y2", "segment", "picture")]
    for rank, hit in enumerate(hits, 1):
        for position, found in enumerate(hit.segments):
            box = found.record.box
            rows.append(
                (
                    "" if position else str(rank),
                    f"{found.score:.3f}",
                    f"{found.record.area_fraction:.1%}",
                    f"{box.x1},{box.y1}-{box.x2},{box.y2}",
                    str(found.record.segment_id),
                    "" if position else shown_path(hit),
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if column < _RIGHT_ALIGNED else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        console.print(Text("  ".join((*cells, row[-1])), style="" if number else "dim"), no_wrap=True)


_RIGHT_ALIGNED = 3  # rank, score and area


def shown_path(hit: SearchHit) -> str:
    """Return the path of a hit's picture, relative to the working folder where it lies below it."""
    path = Path(display_path(hit.image.files[0].uri))
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def save_sheet(
    path: Path, answers: list[tuple[str, SearchAnswer]], settings: Settings, *, title: str
) -> None:
    """Write the best segments of each answer as one contact sheet.

    Raises:
        UsageError: If the file cannot be written.
    """
    from segdex.api.drawing import contact_sheet

    rows = [sheet_row(heading, answer.hits, max_pixels=settings.max_pixels) for heading, answer in answers]
    sheet = contact_sheet(rows, title=title)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, "PNG")
    except OSError as error:
        raise UsageError(f"--save {path}: cannot be written: {error.strerror or error}") from error


def _terms(
    settings: Settings,
    *,
    texts: list[str],
    images: list[Path],
    segments: list[str],
    away: list[str],
    weights: list[float],
    not_weight: float,
) -> tuple[Term, ...]:
    count = len(texts) + len(images) + len(segments)
    if len(weights) > count:
        raise UsageError(
            f"--weight was given {len(weights)} times, but there are only {count} terms to weigh"
        )
    shares = iter([*weights, *[1.0] * (count - len(weights))])
    terms: list[Term] = [TextTerm(text, next(shares)) for text in texts]
    for path in images:
        if not path.exists():
            raise UsageError(f"--image {path}: there is no such file")
        terms.append(ImageTerm(read_image_file(path, max_pixels=settings.max_pixels).pixels, next(shares)))
    terms += [SegmentTerm(parse_segment_id(given), next(shares)) for given in segments]
    if not_weight <= 0:
        raise QueryError(f"--not-weight must be above 0, but got {not_weight}")
    return (*terms, *(TextTerm(text, -not_weight) for text in away))


def parse_segment_id(text: str) -> UUID:
    """Return the id that a user wrote.

    Raises:
        UsageError: If it is none.
    """
    try:
        return UUID(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no segment id; `segdex search` prints them") from error


def _where(
    *,
    min_area: float | None,
    max_area: float | None,
    sources: list[Path],
    tags: list[str],
    since: str | None,
    until: str | None,
) -> SegmentFilter:
    for option, value in (("--min-area", min_area), ("--max-area", max_area)):
        if value is not None and not 0 <= value <= 1:
            raise QueryError(f"{option} must be between 0 and 1, but got {value}")
    return SegmentFilter(
        min_area_fraction=min_area,
        max_area_fraction=max_area,
        sources=tuple(path_to_uri(path.expanduser()) for path in sources),
        tags=tuple(tags),
        captured_from_s=parse_time(since, option="--since"),
        captured_until_s=parse_time(until, option="--until"),
    )


def _view_weights(given: list[str]) -> dict[str, float]:
    if not given:
        return dict(DEFAULT_VIEW_WEIGHTS)
    weights: dict[str, float] = {}
    for text in given:
        name, _, share = text.partition("=")
        try:
            weights[name] = float(share) if share else 1.0
        except ValueError as error:
            raise UsageError(f"--view must be NAME=WEIGHT, such as crop=0.7, but is {text!r}") from error
        if name not in DEFAULT_VIEW_WEIGHTS:
            raise UsageError(f"--view must be one of {', '.join(DEFAULT_VIEW_WEIGHTS)}, but is {name!r}")
    return weights
