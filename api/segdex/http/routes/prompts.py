"""``/v1/segment``: the mask of what is pointed at, in a picture of the index or in one that is sent."""

from collections.abc import Callable
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, UploadFile

from segdex.http.access import State, require
from segdex.http.logs import note_stages
from segdex.http.problems import responses
from segdex.http.routes.lookups import get_image
from segdex.http.routes.uploads import UPLOAD, read_form, read_upload
from segdex.http.state import Loaded
from segdex.render.results import read_picture, rle_out
from segdex_core.errors import QueryError
from segdex_core.geometry import BoxXYXY
from segdex_core.ids import make_image_id
from segdex_core.masks import BoolMask, MaskRLE, decode_mask
from segdex_core.media.decode import decode_image, sha256_hex
from segdex_core.records import RGBImage
from segdex_core.wire.segments import MaskOut, MasksOut, PromptOptions, Rle, SegmentRequest
from segdex_search.click import PromptedMask, ThingPrompt, mask_prompt, segment_thing
from segdex_search.queries import clean_text
from segdex_search.refine.refiner import segment_by_text
from segdex_search.timing import Stopwatch

router = APIRouter(prefix="/v1/segment", tags=["prompts"], dependencies=[Depends(require("read"))])


@router.post("", responses=responses(400, 401, 403, 404, 410, 411, 413, 422, 429, 503))
def segment(request: SegmentRequest, state: State) -> MasksOut:
    """Cut out what points, a box, an earlier mask or a text say; the encoded picture is kept for the next."""
    loaded = state.loaded()
    found = get_image(loaded, request.image_id)
    read = partial(read_picture, found, source=loaded.source, max_pixels=state.settings.max_pixels)
    return _cut_out(loaded, request, request.image_id, found.size_hw, read)


@router.post("/by-image", responses=responses(400, 401, 403, 404, 411, 413, 415, 422, 429, 503))
def segment_upload(
    state: State,
    file: UploadFile,
    request: Annotated[
        str, Form(max_length=11_000_000, description="As JSON: a SegmentRequest without the image_id.")
    ],
) -> MasksOut:
    """Cut out of a picture that is sent; its encoding is kept, so that it may be sent again soon."""
    options = read_form(request, PromptOptions)
    data = read_upload(file, state.settings)
    pixels = decode_image(data, name=UPLOAD, max_pixels=state.settings.max_pixels).pixels
    size_hw = (pixels.shape[0], pixels.shape[1])
    return _cut_out(state.loaded(), options, make_image_id(sha256_hex(data)), size_hw, lambda: pixels)


def _cut_out(
    loaded: Loaded,
    request: PromptOptions,
    image_id: UUID,
    size_hw: tuple[int, int],
    read: Callable[[], RGBImage],
) -> MasksOut:
    """Check what is asked for, then let the worker answer it."""
    clock = Stopwatch()

    def by_prompt(prompt: ThingPrompt, earlier: BoolMask | None) -> list[PromptedMask]:
        with clock.stage("encode"):
            features = loaded.refiner.encode_whole(image_id, read)
        if earlier is not None:
            prompt = prompt.with_mask(mask_prompt(earlier, features.mask_px))
        with clock.stage("decode"):
            return segment_thing(features, prompt, segmenter=loaded.refiner.segmenter, masks=request.masks)

    def by_text(text: str, window: BoxXYXY | None) -> list[PromptedMask]:
        with clock.stage("decode"):
            mask, _ = segment_by_text(read(), text, refiner=loaded.refiner, image_id=image_id, window=window)
        return [mask]

    call: Callable[[], list[PromptedMask]]
    if request.text is None:
        call = partial(by_prompt, _prompt(request), _earlier(request.mask, size_hw))
    else:
        if request.points or request.mask is not None or request.masks != 1:
            raise QueryError(
                "a text goes alone or with a box: points and masks say where the thing is already"
            )
        call = partial(by_text, clean_text(request.text), _window(request.box_xyxy, size_hw))
    masks = loaded.worker.run(call)
    note_stages(clock.timings_ms)
    return MasksOut(masks=[_mask_out(mask) for mask in masks], timings_ms=clock.timings_ms)


def _prompt(request: PromptOptions) -> ThingPrompt:
    return ThingPrompt(
        points_xy=tuple((point.x, point.y) for point in request.points),
        labels=tuple(point.label for point in request.points),
        box_xyxy=request.box_xyxy,
    )


def _earlier(rle: Rle | None, size_hw: tuple[int, int]) -> BoolMask | None:
    if rle is None:
        return None
    if rle.size != size_hw:
        raise QueryError(f"the mask has the size {rle.size}, but the picture {size_hw}, height and width")
    try:
        return decode_mask(MaskRLE(rle.size, rle.counts))
    except ValueError as error:
        raise QueryError(f"mask: {error}") from error


def _window(box_xyxy: tuple[float, float, float, float] | None, size_hw: tuple[int, int]) -> BoxXYXY | None:
    if box_xyxy is None:
        return None
    window = BoxXYXY(*(round(edge) for edge in box_xyxy)).clip(size_hw)
    if window.area_px == 0:
        raise QueryError("the box has no pixel of the picture")
    return window


def _mask_out(mask: PromptedMask) -> MaskOut:
    return MaskOut(
        predicted_iou=mask.predicted_iou, box_xyxy=mask.box, area_px=mask.area_px, rle=rle_out(mask.mask)
    )
