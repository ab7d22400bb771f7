"""``/v1/segment``: the mask of what is pointed at in a picture of the index."""

from functools import partial

from fastapi import APIRouter, Depends, HTTPException

from segdex.api.results import read_picture
from segdex.api.schemas import MaskOut, MasksOut, SegmentRequest
from segdex.api.serving.access import State, require
from segdex.api.serving.problems import responses
from segdex.core.errors import QueryError
from segdex.core.geometry import BoxXYXY
from segdex.search.prompting import PromptedMask, ThingPrompt, segment_thing
from segdex.search.queries import clean_text
from segdex.search.refine.service import segment_by_text
from segdex.search.timing import Stopwatch

router = APIRouter(prefix="/v1", tags=["prompts"], dependencies=[Depends(require("read"))])


@router.post("/segment", responses=responses(400, 401, 403, 404, 411, 413, 422, 429, 503))
def segment(request: SegmentRequest, state: State) -> MasksOut:
    """Cut out what points, a box or a text say; the encoded picture is kept for the next click."""
    loaded = state.loaded()
    found = loaded.index.get_images([request.image_id])
    if not found:
        raise HTTPException(404, f"there is no picture {request.image_id} in {loaded.index.location}")
    read = partial(read_picture, found[0], max_pixels=state.settings.max_pixels)
    text = None if request.text is None else clean_text(request.text)
    if text is not None and (request.points or request.masks != 1):
        raise QueryError("a text goes alone or with a box: points say where the thing is already")
    prompt = None if text is not None else _prompt(request)
    size_hw = found[0].size_hw
    clock = Stopwatch()

    def cut_out() -> list[PromptedMask]:
        if prompt is None:
            window = None
            if request.box_xyxy is not None:
                window = BoxXYXY(*(round(edge) for edge in request.box_xyxy)).clip(size_hw)
                if window.area_px == 0:
                    raise QueryError("the box has no pixel of the picture")
            with clock.stage("decode"):
                mask, _ = segment_by_text(
                    read(), text or "", refiner=loaded.refiner, image_id=request.image_id, window=window
                )
            return [mask]
        with clock.stage("encode"):
            features = loaded.refiner.encode_whole(request.image_id, read)
        with clock.stage("decode"):
            return segment_thing(features, prompt, segmenter=loaded.refiner.segmenter, masks=request.masks)

    masks = loaded.worker.run(cut_out)
    return MasksOut(masks=[_mask_out(mask) for mask in masks], timings_ms=clock.timings_ms)


def _prompt(request: SegmentRequest) -> ThingPrompt:
    return ThingPrompt(
        points_xy=tuple((point.x, point.y) for point in request.points),
        labels=tuple(point.label for point in request.points),
        box_xyxy=request.box_xyxy,
    )


def _mask_out(mask: PromptedMask) -> MaskOut:
    return MaskOut.model_validate(
        {
            "predicted_iou": mask.predicted_iou,
            "box_xyxy": mask.box,
            "area_px": mask.area_px,
            "rle": mask.mask.to_coco(),
        }
    )
