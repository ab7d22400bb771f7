"""``/v1/images`` and ``/v1/segments``: the content of the index, as JSON and as images."""

import hashlib
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Header, Query, Response, UploadFile
from fastapi.responses import JSONResponse
from pydantic import Field

from segdex.http.access import State, require
from segdex.http.logs import note_outcome
from segdex.http.model_thread import BusyError
from segdex.http.problems import responses
from segdex.http.routes.accept import Accept, best_form
from segdex.http.routes.forms import read_upload
from segdex.render.drawing import mask_png, png_of
from segdex.roles import ROLES
from segdex.usecases.uploads import NO_UPLOADS
from segdex_core.errors import UsageError
from segdex_core.wire.images import Deleted, ImageOut, Ingested, Stats
from segdex_core.wire.limits import MAX_SIDE_PX, MIN_SIDE_PX
from segdex_core.wire.segments import PolygonOut, SegmentOut

router = APIRouter(prefix="/v1", tags=["pictures"], dependencies=[Depends(require(ROLES["image"]))])

_UPLOAD_WAIT_S = 60.0
_CACHE = "private, no-cache"  # asked for each time: the picture may be deleted, or its file changed
_PNG: dict[int | str, dict[str, object]] = {
    200: {"content": {"image/png": {}}},
    304: {"description": "Unchanged"},
}

_SEGMENT_FORMS = ("image/png", "application/vnd.segdex.polygon+json", "application/json")

IfNoneMatch = Annotated[str | None, Header()]


@router.get("/stats", responses=responses(401, 403, 429, 503))
def stats(state: State) -> Stats:
    """Return the size of the index and the models that filled it."""
    return state.loaded().library.stats()


@router.post(
    "/images",
    status_code=201,
    dependencies=[Depends(require(ROLES["upload"]))],
    responses={
        202: {"model": Ingested, "description": "It waits as a job."},
        **responses(400, 401, 403, 411, 413, 415, 422, 429, 503, 507),
    },
)
def upload_image(
    file: UploadFile,
    state: State,
    response: Response,
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Form(max_length=100)] = [],  # noqa: B006 - FastAPI copies it
    wait: Annotated[bool, Form(description="False: answer 202 at once, and ingest it as a job.")] = True,
) -> Ingested:
    """Store an image in the upload folder and ingest it; equal files are stored once."""
    library = state.loaded().library
    if state.settings.uploads is None:
        raise UsageError(NO_UPLOADS)  # before the upload is read
    data = read_upload(file, state.settings)
    if not wait:
        response.status_code = 202
        return library.upload(data, tags=tags, wait=False, name=file.filename)
    if not state.ingesting.acquire(timeout=_UPLOAD_WAIT_S):
        raise BusyError("other uploads are being ingested: send it again in a moment, or with wait=false")
    try:
        done = library.upload(data, tags=tags, name=file.filename)
    finally:
        state.ingesting.release()
    note_outcome(done.outcome)
    return done


@router.get("/images/{image_id}", responses=responses(401, 403, 404, 422, 429, 503))
def image(image_id: UUID, state: State) -> ImageOut:
    """Return the metadata of an image."""
    return state.loaded().library.image(image_id)


@router.delete(
    "/images/{image_id}",
    dependencies=[Depends(require(ROLES["delete"]))],
    responses=responses(401, 403, 404, 422, 429, 503, 507),
)
def delete_image(
    image_id: UUID,
    state: State,
    place: Annotated[
        list[Annotated[str, Field(max_length=10_000)]],
        Query(max_length=1_000, description="Forget only these of its `uris`; it stays if it has others."),
    ] = [],  # noqa: B006 - FastAPI copies it
) -> Deleted:
    """Delete an image and all that was made of it. An uploaded file is deleted too; other files are kept."""
    library = state.loaded().library
    library.image(image_id)
    return library.forget_places(image_id, place) if place else library.delete(image_id)


@router.get(
    "/images/{image_id}/file",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {}}},
        304: {"description": "Unchanged"},
        **responses(401, 403, 404, 410, 413, 415, 422, 429, 503),
    },
)
def image_file(
    image_id: UUID,
    state: State,
    max_px: Annotated[int, Query(ge=MIN_SIDE_PX, le=MAX_SIDE_PX, description="Longest side.")] = 1_024,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return an image as upright JPEG, its longer side at most ``max_px``."""
    library = state.loaded().library
    etag = _etag(f"{image_id}:{max_px}")
    if if_none_match == etag:
        library.require_unchanged(image_id)
        return Response(status_code=304, headers={"ETag": etag})
    return Response(
        library.image_file(image_id, max_px),
        media_type="image/jpeg",
        headers={"ETag": etag, "Cache-Control": _CACHE},
    )


@router.get(
    "/images/{image_id}/pixels.png",
    response_class=Response,
    responses={**_PNG, **responses(401, 403, 404, 410, 413, 415, 422, 429, 503)},
)
def image_pixels(
    image_id: UUID,
    state: State,
    box: Annotated[
        str | None,
        Query(pattern=r"^\d{1,6}(,\d{1,6}){3}$", description="x1,y1,x2,y2 in pixels; none: all of it."),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the pixels of an image, or of a box in it, upright and lossless."""
    edges = None if box is None else tuple(map(int, box.split(",")))
    pixels = state.loaded().library.pixels(image_id, edges)  # type: ignore[arg-type] # the pattern says four
    return _png(png_of(pixels), if_none_match)


@router.get("/images/{image_id}/segments", responses=responses(401, 403, 404, 422, 429, 503))
def image_segments(image_id: UUID, state: State) -> list[SegmentOut]:
    """Return all segments of an image, largest first."""
    return [one.record for one in state.loaded().library.image_segments(image_id)]


@router.get(
    "/segments/{segment_id}",
    response_model=SegmentOut,
    responses={
        200: {
            "description": "In the form that `Accept` prefers.",
            "content": {
                "image/png": {},
                "application/vnd.segdex.polygon+json": {"schema": PolygonOut.model_json_schema()},
            },
        },
        **responses(401, 403, 404, 406, 422, 429, 503),
    },
)
def segment(
    segment_id: UUID,
    state: State,
    accept: Accept = "*/*",
) -> Response:
    """Return a segment: JSON with its mask in COCO's run-length encoding, the mask as PNG, or its outline."""
    found = state.loaded().library.show(segment_id)
    form = best_form(accept, _SEGMENT_FORMS)
    if form == "image/png":
        response = _png(mask_png(found.mask), None)
    elif form == "application/vnd.segdex.polygon+json":
        response = JSONResponse(found.polygon(), media_type=form)
    else:
        response = JSONResponse(found.record.model_dump(mode="json"))
    response.headers["Vary"] = "Accept"
    return response


@router.get(
    "/segments/{segment_id}/mask.png",
    response_class=Response,
    responses={**_PNG, **responses(401, 403, 404, 422, 429, 503)},
)
def segment_mask(segment_id: UUID, state: State, if_none_match: IfNoneMatch = None) -> Response:
    """Return the mask as a PNG with 1 bit per pixel; white is the object."""
    return _png(mask_png(state.loaded().library.show(segment_id).mask), if_none_match)


@router.get(
    "/segments/{segment_id}/cutout.png",
    response_class=Response,
    responses={**_PNG, **responses(401, 403, 404, 410, 413, 415, 422, 429, 503)},
)
def segment_cutout(segment_id: UUID, state: State, if_none_match: IfNoneMatch = None) -> Response:
    """Return the object as a PNG that is transparent outside the mask."""
    return _png(png_of(state.loaded().library.show(segment_id).cutout()), if_none_match)


@router.get("/segments/{segment_id}/polygon", responses=responses(401, 403, 404, 422, 429, 503))
def segment_polygon(segment_id: UUID, state: State) -> PolygonOut:
    """Return the exact outline as polygons with holes, in pixels of the image."""
    return PolygonOut.model_validate(state.loaded().library.show(segment_id).polygon())


def _png(data: bytes, if_none_match: str | None) -> Response:
    etag = _etag(hashlib.sha256(data).hexdigest())
    if if_none_match == etag:
        return Response(status_code=304, headers={"ETag": etag})
    return Response(data, media_type="image/png", headers={"ETag": etag, "Cache-Control": _CACHE})


def _etag(content: str) -> str:
    return f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'
