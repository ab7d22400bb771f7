"""Segment one object from points, a box, an earlier mask or a text."""

from collections.abc import Callable
from functools import partial
from uuid import UUID

from segdex.render.results import rle_out
from segdex.usecases.models import Models
from segdex_core.errors import ArgumentError, QueryError
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import BoolMask, MaskRLE, decode_mask
from segdex_core.records import RGBImage
from segdex_core.wire.segments import MaskOut, MasksOut, PromptOptions, Rle
from segdex_search.click import PromptedMask, ThingPrompt, mask_prompt, segment_thing, to_prompts
from segdex_search.queries import clean_text
from segdex_search.refine.refiner import segment_by_text
from segdex_search.timing import Stopwatch
from segdex_search.windows import extent_of, is_cut, placed, windows_around


def segment_object(
    request: PromptOptions,
    *,
    models: Models,
    size_hw: tuple[int, int],
    read: Callable[[], RGBImage],
    image_id: UUID | None,
) -> MasksOut:
    """Return the masks of a prompt, best first; the prompt is checked before a model is used.

    Args:
        request: Prompt of the object.
        models: Models to use: the segmenter, and for a text also the embedder or EVF-SAM2.
        size_hw: Height and width of the image in pixels.
        read: Returns the pixels of the image. Without a text it is called only if the encoded image is not
            cached.
        image_id: Id under which the encoded image is cached for the next prompt; None for no caching.

    Raises:
        QueryError: If the prompt is empty, or its points, box or mask do not fit the image.
    """
    clock = Stopwatch()

    def by_prompt(prompt: ThingPrompt, earlier: BoolMask | None) -> list[PromptedMask]:
        refiner = models.refiner
        masks: list[PromptedMask] = []
        to_prompts(prompt, size_hw)  # checks that it lies inside
        for window in windows_around(extent_of(prompt, earlier, size_hw), size_hw):
            with clock.stage("encode"):
                features = refiner.encode_window(image_id, window, size_hw, read)
            inside = prompt.shift(-window.x1, -window.y1)
            if earlier is not None:
                part = earlier[window.y1 : window.y2, window.x1 : window.x2]
                inside = inside.with_mask(mask_prompt(part, features.mask_px))
            with clock.stage("decode"):
                masks = segment_thing(features, inside, segmenter=refiner.segmenter, masks=request.masks)
            if not is_cut(masks[0], window, size_hw):
                break
        return [placed(mask, window, size_hw) for mask in masks]

    def by_text(text: str, window: BoxXYXY | None) -> list[PromptedMask]:
        with clock.stage("decode"):
            mask, _ = segment_by_text(read(), text, refiner=models.refiner, image_id=image_id, window=window)
        return [mask]

    call: Callable[[], list[PromptedMask]]
    if request.text is None:
        call = partial(by_prompt, _prompt(request), _earlier(request.mask, size_hw))
    else:
        if request.points or request.mask is not None or request.masks != 1:
            raise QueryError(
                "a text goes alone or with a box: points and masks say where the object is already"
            )
        call = partial(by_text, clean_text(request.text), _window(request.box_xyxy, size_hw))
    masks = models.run(call)
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
        edges = ",".join(f"{edge:g}" for edge in box_xyxy)
        problem = f"{edges} has no pixel of the picture, which is {size_hw[1]} x {size_hw[0]}"
        raise ArgumentError("box", problem)
    return window


def _mask_out(mask: PromptedMask) -> MaskOut:
    return MaskOut(
        predicted_iou=mask.predicted_iou, box_xyxy=mask.box, area_px=mask.area_px, rle=rle_out(mask.mask)
    )
