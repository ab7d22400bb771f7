"""``/v1/search``: questions by text, segment or picture, and the refinement of their hits."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Query, UploadFile
from fastapi.responses import StreamingResponse

from segdex.api.results import image_to_json, read_picture, segment_to_json
from segdex.api.routes.uploads import UPLOAD, read_upload
from segdex.api.schemas import (
    HitOut,
    HitSegmentOut,
    ImageOut,
    RefinementOut,
    Refinements,
    SearchRequest,
    SearchResponse,
)
from segdex.api.serving.access import State, require
from segdex.api.serving.problems import responses
from segdex.api.serving.state import ServiceState
from segdex.core.errors import QueryError, SegdexError
from segdex.core.images import decode_image
from segdex.search.queries import MAX_PER_IMAGE, ImageTerm, SearchQuery
from segdex.search.rank import SearchHit
from segdex.search.refine.service import MAX_REFINED, Refinement, refine_answer
from segdex.search.service import search

router = APIRouter(prefix="/v1/search", tags=["search"], dependencies=[Depends(require("read"))])

First = Annotated[int, Query(ge=1, le=MAX_REFINED, description="How many segments to refine.")]


@router.post("", responses=responses(400, 401, 403, 411, 413, 422, 429, 503))
def search_by_terms(request: SearchRequest, state: State) -> SearchResponse:
    """Find the segments that match texts and other segments."""
    return _answer(state, request.to_query(), present=request.present)


@router.post("/by-image", responses=responses(400, 401, 403, 411, 413, 415, 422, 429, 503))
def search_by_image(
    state: State,
    file: UploadFile,
    limit: Annotated[int, Form(ge=1, le=1_000)] = 10,
    per_image: Annotated[int, Form(ge=1, le=MAX_PER_IMAGE)] = 3,
    box: Annotated[
        str | None, Form(pattern=r"^\d{1,6}(,\d{1,6}){3}$", description="x1,y1,x2,y2: the thing in it.")
    ] = None,
) -> SearchResponse:
    """Find the segments that look like a picture, or like a part of it."""
    data = read_upload(file, state.settings)
    pixels = decode_image(data, name=UPLOAD, max_pixels=state.settings.max_pixels).pixels
    if box is not None:
        x1, y1, x2, y2 = map(int, box.split(","))
        pixels = pixels[y1:y2, x1:x2]
        if not pixels.size:
            raise QueryError(f"the box {box} has no pixel of the picture")
    return _answer(state, SearchQuery((ImageTerm(pixels),), limit=limit, per_image=per_image), present=False)


@router.post("/{answer_id}/refine", responses=responses(401, 403, 404, 422, 429, 503))
def refine(answer_id: str, state: State, first: First = 5) -> Refinements:
    """Draw the masks of the first hits again, and return all at once."""
    return Refinements(refinements=[_refinement(one) for one in _refine(state, answer_id, first)])


@router.get(
    "/{answer_id}/refinements",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "An event for each hit, then `done`."},
        **responses(401, 403, 404, 422, 429, 503),
    },
)
def refinements(answer_id: str, state: State, first: First = 5) -> StreamingResponse:
    """Draw the masks of the first hits again, and send each as soon as it is there."""
    found = _refine(state, answer_id, first)

    def events() -> Iterator[str]:
        try:
            for one in found:
                yield f"event: refinement\ndata: {_refinement(one).model_dump_json()}\n\n"
            yield "event: done\ndata: {}\n\n"
        except SegdexError as error:  # the status is sent already
            yield f"event: error\ndata: {json.dumps({'detail': str(error)})}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _answer(state: ServiceState, query: SearchQuery, *, present: bool) -> SearchResponse:
    loaded = state.loaded()
    answer = search(
        query, index=loaded.index, embedder=loaded.embedder, judge=loaded.judge if present else None
    )
    return SearchResponse(
        id=state.keep(query, answer),
        answer="found" if answer.hits else "not there",
        embedder=answer.embedder,
        profile=loaded.profile,
        timings_ms=dict(answer.timings_ms),
        hits=[_hit(hit, rank) for rank, hit in enumerate(answer.hits, start=1)],
    )


def _refine(state: ServiceState, answer_id: str, first: int) -> Iterator[Refinement]:
    """Return the refinements; each is made inside the worker when it is asked for."""
    loaded = state.loaded()
    kept = state.kept(answer_id)
    if kept is None:
        raise HTTPException(
            404, f"there is no answer {answer_id!r}; answers are kept for a while only: search again"
        )
    query, answer = kept
    read = partial(read_picture, max_pixels=state.settings.max_pixels)
    made = refine_answer(answer, query, refiner=loaded.refiner, first=first, read_picture=read)

    def each() -> Iterator[Refinement]:
        while (one := loaded.worker.run(lambda: next(made, None))) is not None:
            yield one

    return each()


def _hit(hit: SearchHit, rank: int) -> HitOut:
    return HitOut(
        rank=rank,
        score=hit.score,
        presence=hit.presence,
        image=ImageOut.model_validate(image_to_json(hit.image)),
        segments=[
            HitSegmentOut.model_validate(
                {
                    **segment_to_json(one.record),
                    "image_id": one.record.image_id,
                    "score": one.score,
                    "view_scores": dict(one.view_scores),
                }
            )
            for one in hit.segments
        ],
    )


def _refinement(one: Refinement) -> RefinementOut:
    mask = one.proposal.mask
    return RefinementOut.model_validate(
        {
            "segment_id": one.segment_id,
            "answer": "refined" if one.decision.accepted else "kept",
            "reason": one.decision.reason,
            "made_by": one.proposal.source,
            "predicted_iou": mask.predicted_iou,
            "box_xyxy": mask.box,
            "area_px": mask.area_px,
            "rle": mask.mask.to_coco(),
            "timings_ms": dict(one.timings_ms),
        }
    )
