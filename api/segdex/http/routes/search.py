"""``/v1/search``: questions by text, segment or picture, and the refinement of their hits."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Query, UploadFile
from fastapi.responses import StreamingResponse

from segdex.http.access import State, require
from segdex.http.cursors import make_cursor, read_cursor
from segdex.http.logs import note_refinement, note_stages
from segdex.http.problems import responses
from segdex.http.questions import to_query
from segdex.http.routes.lookups import get_image
from segdex.http.routes.uploads import UPLOAD, read_form, read_upload
from segdex.http.state import ServiceState
from segdex.render.results import hit_out, read_picture, refinement_out
from segdex_core.errors import QueryError, SegdexError
from segdex_core.geometry import BoxXYXY
from segdex_core.media.decode import decode_image, sha256_hex
from segdex_core.records import RGBImage
from segdex_core.wire.limits import MAX_LIMIT, MAX_REFINED
from segdex_core.wire.search import (
    RefinementOut,
    Refinements,
    Region,
    SearchOptions,
    SearchRequest,
    SearchResponse,
    TermScore,
)
from segdex_search.answer import require_filled, search
from segdex_search.explain import term_scores
from segdex_search.queries import ImageTerm, SegmentTerm, Term, TextTerm, has_text
from segdex_search.refine.refiner import Refinement, refine_answer

router = APIRouter(prefix="/v1/search", tags=["search"], dependencies=[Depends(require("read"))])

First = Annotated[int, Query(ge=1, le=MAX_REFINED, description="How many segments to refine.")]


@router.post("", responses=responses(400, 401, 403, 404, 410, 411, 413, 422, 429, 503))
def search_by_terms(request: SearchRequest, state: State) -> SearchResponse:
    """Find the segments that match texts, other segments, and parts of pictures."""
    return _answer(state, request)


@router.post("/by-image", responses=responses(400, 401, 403, 404, 410, 411, 413, 415, 422, 429, 503))
def search_by_image(
    state: State,
    file: UploadFile,
    box: Annotated[
        str | None, Form(pattern=r"^\d{1,6}(,\d{1,6}){3}$", description="x1,y1,x2,y2: the thing in it.")
    ] = None,
    weight: Annotated[float, Form(gt=0, le=100, description="Beside other terms.")] = 1.0,
    request: Annotated[
        str,
        Form(
            max_length=100_000, description="As JSON: a SearchRequest, which here needs no term of its own."
        ),
    ] = "{}",
) -> SearchResponse:
    """Find the segments that look like a picture that is sent, or like a part of it."""
    options = read_form(request, SearchOptions)
    data = read_upload(file, state.settings)
    pixels = decode_image(data, name=UPLOAD, max_pixels=state.settings.max_pixels).pixels
    if box is not None:
        pixels = _part(pixels, BoxXYXY(*map(int, box.split(","))))
    return _answer(
        state, options, ImageTerm(pixels, weight), cursor_salt=f"{sha256_hex(data)} {box} {weight}"
    )


@router.post("/{answer_id}/refine", responses=responses(401, 403, 404, 410, 422, 429, 503))
def refine(answer_id: str, state: State, first: First = 5) -> Refinements:
    """Re-decode the masks of the first hits, and return all at once."""
    return Refinements(refinements=[_refinement(one) for one in _refine(state, answer_id, first)])


@router.get(
    "/{answer_id}/refinements",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "An event for each hit, then `done`."},
        **responses(401, 403, 404, 410, 422, 429, 503),
    },
)
def refinements(answer_id: str, state: State, first: First = 5) -> StreamingResponse:
    """Re-decode the masks of the first hits, and send each as soon as it is there."""
    found = _refine(state, answer_id, first)

    def events() -> Iterator[str]:
        try:
            for one in found:
                yield f"event: refinement\ndata: {_refinement(one).model_dump_json()}\n\n"
            yield "event: done\ndata: {}\n\n"
        except SegdexError as error:  # the status is sent already
            yield f"event: error\ndata: {json.dumps({'detail': str(error)})}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _answer(
    state: ServiceState, request: SearchOptions, *sent: ImageTerm, cursor_salt: str = ""
) -> SearchResponse:
    loaded = state.loaded()

    def pixels_of(region: Region) -> RGBImage:
        pixels = read_picture(
            get_image(loaded, region.image_id), source=loaded.source, max_pixels=state.settings.max_pixels
        )
        return pixels if region.box_xyxy is None else _part(pixels, BoxXYXY(*region.box_xyxy))

    asked = request.model_dump_json(exclude={"cursor", "limit", "explain"}) + cursor_salt
    asked += state.settings.index_key()  # no page of one index goes on in another
    offset = read_cursor(request.cursor, asked)
    last_page = {"limit": min(request.limit, MAX_LIMIT - offset)}
    query = to_query(request.model_copy(update=last_page), pixels_of, *sent, offset=offset)
    answer = search(
        query,
        index=loaded.index,
        embedder=loaded.embedder,
        judge=loaded.judge if request.present or has_text(query) else None,
        keep_weak=not request.present,
    )
    note_stages(answer.timings_ms)
    explained = (
        term_scores(query, answer.hits, embedder=loaded.embedder, index=loaded.index)
        if request.explain
        else {}
    )

    terms = {segment_id: _term_scores(query.terms, scores) for segment_id, scores in explained.items()}
    return SearchResponse(
        id=state.keep(query, answer),
        answer="found" if any(hit.is_match for hit in answer.hits) else "not there",
        embedder=answer.embedder,
        segmenter=require_filled(loaded.index).segmenter,
        profile=loaded.profile,
        timings_ms=dict(answer.timings_ms),
        hits=[hit_out(hit, rank=rank, terms=terms) for rank, hit in enumerate(answer.hits, start=offset + 1)],
        next_cursor=make_cursor(offset, request.limit, asked) if answer.more else None,
    )


def _part(pixels: RGBImage, box: BoxXYXY) -> RGBImage:
    part = pixels[box.y1 : box.y2, box.x1 : box.x2]
    if not part.size:
        raise QueryError(f"the box {','.join(map(str, box))} has no pixel of the picture")
    return part


def _refine(state: ServiceState, answer_id: str, first: int) -> Iterator[Refinement]:
    """Return the refinements; each is made inside the worker when it is asked for."""
    loaded = state.loaded()
    kept = state.kept(answer_id)
    if kept is None:
        raise HTTPException(
            404, f"there is no answer {answer_id!r}; answers are kept for a while only: search again"
        )
    query, answer = kept
    read = partial(read_picture, source=loaded.source, max_pixels=state.settings.max_pixels)
    made = refine_answer(answer, query, refiner=loaded.refiner, first=first, read_picture=read)

    def each() -> Iterator[Refinement]:
        while (one := loaded.worker.run(lambda: next(made, None))) is not None:
            yield one

    return each()


def _term_scores(terms: Sequence[Term], scores: Sequence[float]) -> list[TermScore]:
    return [
        TermScore(term=_name(term), weight=term.weight, score=score)
        for term, score in zip(terms, scores, strict=True)
    ]


def _name(term: Term) -> str:
    if isinstance(term, TextTerm):
        return term.text
    return f"segment {term.segment_id}" if isinstance(term, SegmentTerm) else "picture"


def _refinement(one: Refinement) -> RefinementOut:
    """Return a refinement as it is answered, and count it."""
    made = refinement_out(one)
    note_refinement(made.answer)
    note_stages(one.timings_ms)
    return made
