"""``/v1/segment``: the mask of an object in an image of the index, or in an uploaded image."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, UploadFile

from segdex.http.access import State, require
from segdex.http.first_bytes import PictureRoute
from segdex.http.logs import note_stages
from segdex.http.problems import responses
from segdex.http.routes.forms import read_form, read_upload
from segdex.roles import ROLES
from segdex.usecases.uploads import UPLOAD
from segdex_core.ids import make_image_id, sha256_hex
from segdex_core.wire.segments import MasksOut, PromptOptions, SegmentRequest

router = APIRouter(
    prefix="/v1/segment",
    tags=["segment"],
    dependencies=[Depends(require(ROLES["segment"]))],
    route_class=PictureRoute,
)


@router.post("", responses=responses(400, 401, 403, 404, 410, 411, 413, 415, 422, 429, 503))
def segment_object(request: SegmentRequest, state: State) -> MasksOut:
    """Segment an object in an image of the index, from points, a box, a mask or a text.

    The encoded image is cached for the next prompt.
    """
    return _noted(state.loaded().library.masks_in(request, request.image_id))


@router.post("/by-image", responses=responses(400, 401, 403, 404, 411, 413, 415, 422, 429, 503, 507))
def segment_object_by_image(
    state: State,
    file: UploadFile,
    request: Annotated[
        str, Form(max_length=11_000_000, description="As JSON: a SegmentRequest without the image_id.")
    ],
) -> MasksOut:
    """Segment an object in an uploaded image; the encoded image is cached for another upload."""
    options = read_form(request, PromptOptions)
    data = read_upload(file, state.settings)
    library = state.loaded().library
    pixels = library.decoder(data, name=UPLOAD, max_pixels=state.settings.max_pixels).pixels
    image_id = make_image_id(sha256_hex(data))
    return _noted(library.masks(options, pixels, image_id=image_id))


def _noted(response: MasksOut) -> MasksOut:
    note_stages(response.timings_ms)
    return response
