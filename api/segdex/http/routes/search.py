"""``/v1/search`` and ``/v1/refine``: queries by text, segment or image, and better masks."""

import json
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Form, UploadFile
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from starlette.responses import Response

from segdex.http.access import State, require
from segdex.http.first_bytes import PictureRoute
from segdex.http.logs import note_refinement, note_stages
from segdex.http.problems import responses
from segdex.http.routes.accept import Accept, best_form
from segdex.http.routes.forms import read_form, read_upload
from segdex.http.state import ServiceState
from segdex.render.results import refinement_out
from segdex.roles import ROLES
from segdex.usecases.search import SentImage
from segdex.usecases.uploads import UPLOAD
from segdex_core.errors import QueryError, SegdexError
from segdex_core.wire.fields import SignedWeight
from segdex_core.wire.limits import MAX_REGIONS
from segdex_core.wire.search import (
    RefinementOut,
    RefinementsOut,
    RefineRequest,
    SearchOptions,
    SearchRequest,
    SearchResponse,
)
from segdex_search.refine.refiner import Refinement

router = APIRouter(
    prefix="/v1", tags=["search"], dependencies=[Depends(require(ROLES["search"]))], route_class=PictureRoute
)

_EVENTS = "text/event-stream"
_REFINE_FORMS = (_EVENTS, "application/json")

_REFINED: dict[int | str, dict[str, object]] = {
    200: {
        "description": (
            "In the form that `Accept` prefers: all at once, or as events: `refinement` with each "
            "`RefinementOut` as soon as it is drawn, then `done`; or `error` with a `detail` where it cannot "
            "go on."
        ),
        "content": {_EVENTS: {}},
    }
}

Files = Annotated[list[UploadFile], Field(max_length=MAX_REGIONS)]
Boxes = Annotated[
    list[Annotated[str, Field(pattern=r"^(\d{1,6}(,\d{1,6}){3})?$")]],
    Form(
        max_length=MAX_REGIONS,
        description="The object in each picture, x1,y1,x2,y2 in pixels; empty for the whole picture.",
    ),
]
Weights = Annotated[
    list[SignedWeight],
    Form(max_length=MAX_REGIONS, description="Of each picture beside the other terms; default 1."),
]
Request = Annotated[str, Form(max_length=100_000, description="The request without a picture, as JSON.")]


@router.post("/search", responses=responses(400, 401, 403, 404, 410, 411, 413, 415, 422, 429, 503))
def search(request: SearchRequest, state: State) -> SearchResponse:
    """Find the segments that match texts, other segments, and parts of images."""
    return _answer(state, request, [])


@router.post(
    "/search/by-image", responses=responses(400, 401, 403, 404, 410, 411, 413, 415, 422, 429, 503, 507)
)
def search_by_image(
    state: State,
    file: Files,
    box: Boxes = [],  # noqa: B006 - FastAPI copies it
    weight: Weights = [],  # noqa: B006
    request: Request = "{}",
) -> SearchResponse:
    """Find the segments that look like uploaded images, or like parts of them."""
    options = read_form(request, SearchOptions)
    return _answer(state, options, sent_images(state, file, box, weight))


@router.post(
    "/refine",
    response_model=RefinementsOut,
    responses={
        **_REFINED,
        **responses(400, 401, 403, 404, 406, 410, 411, 413, 415, 422, 429, 503),
    },
)
def refine(request: RefineRequest, state: State, accept: Accept = "*/*") -> Response:
    """Re-decode the masks of segments for a query."""
    return _refined(state, request, [], accept)


@router.post(
    "/refine/by-image",
    response_model=RefinementsOut,
    responses={
        **_REFINED,
        **responses(400, 401, 403, 404, 406, 410, 411, 413, 415, 422, 429, 503, 507),
    },
)
def refine_by_image(  # noqa: PLR0917 - FastAPI passes them by name
    state: State,
    file: Files,
    request: Request,
    box: Boxes = [],  # noqa: B006
    weight: Weights = [],  # noqa: B006
    accept: Accept = "*/*",
) -> Response:
    """Re-decode the masks of segments for a query with uploaded images."""
    return _refined(state, read_form(request, RefineRequest), sent_images(state, file, box, weight), accept)


def _answer(state: ServiceState, options: SearchOptions, sent: list[SentImage]) -> SearchResponse:
    response = state.loaded().library.answer(options, sent)
    note_stages(response.timings_ms)
    return response


def _refined(state: ServiceState, request: RefineRequest, sent: list[SentImage], accept: str) -> Response:
    form = best_form(accept, _REFINE_FORMS)
    found = state.loaded().library.refinements(request, sent)
    if form != _EVENTS:
        return JSONResponse(
            RefinementsOut(refinements=[_noted(one) for one in found]).model_dump(mode="json")
        )

    def events() -> Iterator[str]:
        try:
            for one in found:
                yield f"event: refinement\ndata: {_noted(one).model_dump_json()}\n\n"
            yield "event: done\ndata: {}\n\n"
        except SegdexError as error:  # the status has been sent
            yield f"event: error\ndata: {json.dumps({'detail': str(error)})}\n\n"

    return StreamingResponse(events(), media_type=_EVENTS, headers={"Cache-Control": "no-store"})


def sent_images(
    state: ServiceState, files: list[UploadFile], boxes: list[str], weights: list[float]
) -> list[SentImage]:
    """Return the images of a form.

    Raises:
        QueryError: If there are more boxes or weights than images.
    """
    if max(len(boxes), len(weights)) > len(files):
        raise QueryError(
            f"{len(files)} pictures were sent, but {len(boxes)} boxes and {len(weights)} weights"
        )
    decode, sent = state.loaded().library.decoder, []
    for position, file in enumerate(files):
        data = read_upload(file, state.settings)
        pixels = decode(data, name=UPLOAD, max_pixels=state.settings.max_pixels).pixels
        text = boxes[position] if position < len(boxes) else ""
        weight = weights[position] if position < len(weights) else 1.0
        box = tuple(map(int, text.split(","))) if text else None
        sent.append(SentImage(pixels, box, weight))  # type: ignore[arg-type] # the pattern says four
    return sent


def _noted(one: Refinement) -> RefinementOut:
    """Return a refinement as a JSON record, and count it."""
    made = refinement_out(one)
    note_refinement(made.answer)
    note_stages(one.timings_ms)
    return made
