"""``/v1/images`` and ``/v1/segments``: the content of the index, as JSON and as images."""

from collections.abc import Mapping, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Query, Response, UploadFile
from fastapi.responses import JSONResponse
from pydantic import Field

from segdex.http.access import State, require
from segdex.http.etags import IfNoneMatch, answer_with_etag, etag_of, is_known, not_modified
from segdex.http.first_bytes import PictureRoute
from segdex.http.idempotency import IdempotencyKey
from segdex.http.logs import note_outcome
from segdex.http.model_thread import BusyError
from segdex.http.problems import BINARY, responses
from segdex.http.routes.accept import Accept, best_form
from segdex.http.routes.forms import read_upload
from segdex.render.drawing import mask_png, png_of
from segdex.roles import ROLES
from segdex.usecases.uploads import NO_UPLOADS
from segdex_core.errors import UsageError
from segdex_core.wire.images import Deleted, ImageOut, Ingested, Stats
from segdex_core.wire.limits import MAX_SIDE_PX, MIN_SIDE_PX
from segdex_core.wire.segments import PolygonOut, SegmentOut

router = APIRouter(
    prefix="/v1",
    tags=["pictures"],
    dependencies=[Depends(require(ROLES["image"]))],
    route_class=PictureRoute,
)

_UPLOAD_WAIT_S = 60.0
_PNG: dict[int | str, dict[str, object]] = {
    200: {"description": "The pixels.", "content": {"image/png": {"schema": BINARY}}},
    304: {"description": "The client has it already."},
}

_SEGMENT_FORMS = ("image/png", "application/vnd.segdex.polygon+json", "application/json")


@router.get("/stats", responses=responses(401, 403, 429, 503))
def get_stats(state: State) -> Stats:
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
def upload_image(  # noqa: PLR0917 - FastAPI passes them by name
    file: UploadFile,
    state: State,
    response: Response,
    key: IdempotencyKey,
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
        return library.upload(data, tags=tags, wait=False, name=file.filename, idempotency_key=key)
    if not state.ingesting.acquire(timeout=_UPLOAD_WAIT_S):
        raise BusyError("other uploads are being ingested: send it again in a moment, or with wait=false")
    try:
        done = library.upload(data, tags=tags, name=file.filename, idempotency_key=key)
    finally:
        state.ingesting.release()
    note_outcome(done.outcome)
    return done


@router.get("/images/{image_id}", responses=responses(401, 403, 404, 422, 429, 503))
def get_image(image_id: UUID, state: State) -> ImageOut:
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
        200: {"description": "The picture.", "content": {"image/jpeg": {"schema": BINARY}}},
        304: {"description": "The client has it already."},
        **responses(401, 403, 404, 410, 413, 415, 422, 429, 503),
    },
)
def get_image_file(
    image_id: UUID,
    state: State,
    if_none_match: IfNoneMatch,
    max_px: Annotated[int, Query(ge=MIN_SIDE_PX, le=MAX_SIDE_PX, description="Longest side.")] = 1_024,
) -> Response:
    """Return an image as upright JPEG, its longer side at most ``max_px``."""
    library = state.loaded().library
    etag = etag_of(f"{image_id}:{max_px}")
    if is_known(etag, if_none_match):  # without a look at the pixels
        library.require_unchanged(image_id)
        return not_modified(etag)
    return answer_with_etag(
        library.image_file(image_id, max_px), media_type="image/jpeg", if_none_match=(), etag=etag
    )


@router.get(
    "/images/{image_id}/pixels.png",
    response_class=Response,
    responses={**_PNG, **responses(401, 403, 404, 410, 413, 415, 422, 429, 503)},
)
def get_image_pixels(
    image_id: UUID,
    state: State,
    if_none_match: IfNoneMatch,
    box: Annotated[
        str | None,
        Query(pattern=r"^\d{1,6}(,\d{1,6}){3}$", description="x1,y1,x2,y2 in pixels; none: all of it."),
    ] = None,
) -> Response:
    """Return the pixels of an image, or of a box in it, upright and lossless."""
    edges = None if box is None else tuple(map(int, box.split(",")))
    pixels = state.loaded().library.pixels(image_id, edges)  # type: ignore[arg-type] # the pattern says four
    return _png(png_of(pixels), if_none_match)


@router.get("/images/{image_id}/segments", responses=responses(401, 403, 404, 422, 429, 503))
def list_image_segments(image_id: UUID, state: State) -> list[SegmentOut]:
    """Return all segments of an image, largest first."""
    return [one.record for one in state.loaded().library.image_segments(image_id)]


@router.get(
    "/segments/{segment_id}",
    response_model=SegmentOut,
    responses={
        200: {
            "description": "In the form that `Accept` prefers.",
            "content": {
                "image/png": {"schema": BINARY},
                "application/vnd.segdex.polygon+json": {
                    "schema": {"$ref": "#/components/schemas/PolygonOut"}
                },
            },
        },
        **responses(401, 403, 404, 406, 422, 429, 503),
    },
)
def get_segment(
    segment_id: UUID,
    state: State,
    if_none_match: IfNoneMatch,
    accept: Accept = "*/*",
) -> Response:
    """Return a segment: JSON with its mask in COCO's run-length encoding, the mask as PNG, or its outline."""
    found = state.loaded().library.show(segment_id)
    form = best_form(accept, _SEGMENT_FORMS)
    by_accept = {"Vary": "Accept"}
    if form == "image/png":
        return _png(mask_png(found.mask), if_none_match, by_accept)
    if form == "application/vnd.segdex.polygon+json":
        return JSONResponse(found.polygon(), media_type=form, headers=by_accept)
    return JSONResponse(found.record.model_dump(mode="json"), headers=by_accept)


@router.get(
    "/segments/{segment_id}/mask.png",
    response_class=Response,
    responses={**_PNG, **responses(401, 403, 404, 422, 429, 503)},
)
def get_segment_mask(
    segment_id: UUID,
    state: State,
    if_none_match: IfNoneMatch,
) -> Response:
    """Return the mask as a PNG with 1 bit per pixel; white is the object."""
    return _png(mask_png(state.loaded().library.show(segment_id).mask), if_none_match)


@router.get(
    "/segments/{segment_id}/cutout.png",
    response_class=Response,
    responses={**_PNG, **responses(401, 403, 404, 410, 413, 415, 422, 429, 503)},
)
def get_segment_cutout(
    segment_id: UUID,
    state: State,
    if_none_match: IfNoneMatch,
) -> Response:
    """Return the object as a PNG that is transparent outside the mask."""
    return _png(png_of(state.loaded().library.show(segment_id).cutout()), if_none_match)


@router.get("/segments/{segment_id}/polygon", responses=responses(401, 403, 404, 422, 429, 503))
def get_segment_polygon(segment_id: UUID, state: State) -> PolygonOut:
    """Return the exact outline as polygons with holes, in pixels of the image."""
    return PolygonOut.model_validate(state.loaded().library.show(segment_id).polygon())


def _png(data: bytes, if_none_match: Sequence[str], headers: Mapping[str, str] | None = None) -> Response:
    return answer_with_etag(data, media_type="image/png", if_none_match=if_none_match, headers=headers)
