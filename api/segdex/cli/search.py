"""``segdex search``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, cast
from uuid import UUID

import typer
from rich.console import Console

from segdex.cli.answers import Answer, answer_to_json, print_answer, print_found, print_refined
from segdex.cli.common import (
    DeviceOption,
    EmbedderOption,
    IndexOption,
    JsonOption,
    ProfileOption,
    RefinerOption,
    SegmenterOption,
    ServerOption,
    Session,
    console_out,
    parse_time,
    print_json,
    settings_from,
)
from segdex.cli.refine import DEFAULT_REFINED
from segdex.cli.remote import OF_MODELS, connected, refuse_options
from segdex.cli.search_here import AnswerHere, ask_here
from segdex.cli.search_service import ask_service
from segdex.render.drawing import SheetRow, contact_sheet
from segdex.render.results import hit_out, sheet_row
from segdex.wiring import open_source
from segdex_core.errors import QueryError, UsageError
from segdex_core.media.decode import read_image_file
from segdex_core.media.uris import canonical_uri, spellings
from segdex_core.records import SegmentFilter
from segdex_core.settings import Settings
from segdex_core.wire.limits import DEFAULT_AWAY_WEIGHT, DEFAULT_VIEW_WEIGHTS, MAX_REFINED, Level
from segdex_core.wire.search import RefinementOut
from segdex_search.answer import SearchAnswer
from segdex_search.queries import ImageTerm, SearchQuery, SegmentTerm, Term, TextTerm
from segdex_search.rank import SearchHit


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("search")(search_command)


def search_command(
    context: typer.Context,
    text: Annotated[
        list[str] | None,
        typer.Argument(help="What to look for, such as: red umbrella. All words are one question."),
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option("--also", help="Like this second text too; repeatable.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="Objects that look like this picture.")
    ] = None,
    segment: Annotated[list[str] | None, typer.Option("--segment", help="Objects like this segment.")] = None,
    away: Annotated[list[str] | None, typer.Option("--not", help="Unlike this text; repeatable.")] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(
            "--weight", help="Weight of each text, --also, --image and --segment, in this order. [default: 1]"
        ),
    ] = None,
    not_weight: Annotated[
        float, typer.Option("--not-weight", help="Weight of every --not.")
    ] = DEFAULT_AWAY_WEIGHT,
    view: Annotated[
        list[str] | None,
        typer.Option("--view", metavar="crop|mask=WEIGHT", help="Share of a view in the score; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many pictures.")] = 10,
    per_image: Annotated[int, typer.Option("--per-image", help="How many segments of one picture.")] = 3,
    min_score: Annotated[
        str | None,
        typer.Option(
            "--min-score",
            metavar="SCORE|auto",
            help="Leave out lower scores; auto: leave out pictures that do not show it. "
            "Without it they come last, as weaker matches.",
        ),
    ] = None,
    refine: Annotated[
        int | None,
        typer.Option(
            "--refine", metavar="[N]", help=f"Re-decode the masks of the first N hits. [{DEFAULT_REFINED}]"
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
    level: Annotated[
        str,
        typer.Option(
            "--level",
            metavar="any|whole|part",
            help="Prefer whole objects a little, prefer them much, or find parts alone.",
        ),
    ] = "any",
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
    server: ServerOption = None,
    device: DeviceOption = None,
) -> int:
    """Find the segments that match a text, a picture or another segment."""
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
    if refine is not None and not 1 <= refine <= MAX_REFINED:
        raise UsageError(f"--refine must be between 1 and {MAX_REFINED}, but got {refine}")
    texts = [*([" ".join(text)] if text else []), *(also or [])]
    query = SearchQuery(
        terms=_terms(
            settings,
            texts=texts,
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
        level=cast("Level", level),  # checked by the query
        nested=nested,
        exact=exact,
    )
    judged = min_score == _AUTO
    heading = ", ".join(texts or [*map(str, image or []), *(segment or [])])
    with _asked(
        context, settings, query, images=image or [], judged=judged, refined=refine is not None
    ) as answer:
        console = console_out()
        if not as_json:
            print_answer(answer.response, console, judged=judged)
        refined: dict[UUID, RefinementOut] = {}
        for one in answer.refine(refine) if refine is not None else ():
            refined[one.segment_id] = one
            if not as_json:
                print_refined(one, console)
        if save is not None:
            _write_sheet(save, [answer.sheet_row(heading)], title="segdex search")
        if explain is not None and isinstance(answer, AnswerHere):
            answer.save_explanation(explain, title=heading)
    if as_json:
        print_json(answer_to_json(answer, refined))
        return 0
    for what, path in (("contact sheet", save), ("explanation", explain)):
        if path is not None:
            console.print(f"{what}: {path}", markup=False)
    return 0


@contextmanager
def _asked(
    context: typer.Context,
    settings: Settings,
    query: SearchQuery,
    *,
    images: list[Path],
    judged: bool,
    refined: bool,
) -> Iterator[Answer]:
    if settings.server is None:
        yield ask_here(Session.of(context).parts, settings, query, judged=judged, refined=refined)
        return
    with connected(settings, settings.server) as client:
        yield ask_service(client, query, images=images, judged=judged)


_AUTO = "auto"


def _min_score(given: str | None) -> float | None:
    if given is None or given == _AUTO:
        return None
    try:
        return float(given)
    except ValueError as error:
        raise UsageError(f"--min-score must be a number or auto, but is {given!r}") from error


def print_hits(hits: Sequence[SearchHit], console: Console) -> None:
    """Print a line for each segment, as ``segdex search`` does."""
    print_found([hit_out(hit, rank=rank) for rank, hit in enumerate(hits, 1)], console)


def save_sheet(
    path: Path, answers: list[tuple[str, SearchAnswer]], settings: Settings, *, title: str
) -> None:
    """Write the best segments of each answer as one contact sheet.

    Raises:
        UsageError: If the file cannot be written.
    """
    source = open_source()
    rows = [
        sheet_row(heading, answer.hits, source=source, max_pixels=settings.max_pixels)
        for heading, answer in answers
    ]
    _write_sheet(path, rows, title=title)


def _write_sheet(path: Path, rows: Sequence[SheetRow], *, title: str) -> None:
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
        sources=tuple(uri for path in sources for uri in spellings(canonical_uri(path))),
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
