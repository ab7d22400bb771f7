"""``segdex eval prompts``: masks of a point, a box, and both, compared with the true masks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segdex.evaluation.dataset import EvalDataset, sample_images
from segdex.evaluation.metrics import LARGE_FROM_PX, SMALL_BELOW_PX, Floats, check_size, mask_iou
from segdex_core.errors import UsageError
from segdex_core.masks import BoolMask, decode_mask, mask_box
from segdex_core.media.decode import read_image_file
from segdex_core.media.limits import MAX_PIXELS
from segdex_core.ports.prompts import FOREGROUND
from segdex_core.ports.segmenter import Segmenter
from segdex_search.click import ThingPrompt, segment_thing

KINDS = ("point", "box", "box_point")


@dataclass(frozen=True, slots=True, eq=False)
class PromptsReport:
    """Metrics of prompted masks.

    Attributes:
        images: Number of images.
        areas_px: (n,) area of each true mask in pixels.
        ious: (n,) IoU of the prompted masks with the true masks, by kind of prompt.
    """

    images: int
    areas_px: Floats
    ious: dict[str, Floats]

    def to_json(self) -> dict[str, int | float | None]:
        """Return the metrics as JSON values."""
        small, large = self.areas_px < SMALL_BELOW_PX, self.areas_px >= LARGE_FROM_PX
        values: dict[str, int | float | None] = {"images": self.images}
        sizes = {"": small | ~small, "_small": small, "_medium": ~small & ~large, "_large": large}
        for suffix, chosen in sizes.items():
            values[f"instances{suffix}"] = int(chosen.sum())
            for kind, ious in self.ious.items():
                values[f"{kind}_iou{suffix}"] = round(float(ious[chosen].mean()), 4) if chosen.any() else None
        return values


def evaluate_prompts(
    dataset: EvalDataset,
    *,
    segmenter: Segmenter,
    limit: int | None = None,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    on_image: Callable[[], None] = lambda: None,
) -> PromptsReport:
    """Prompt each true mask by its center, its box, and both, and compare the results.

    Args:
        dataset: Data set with the sources that count, see ``choose_source``.
        segmenter: Segmenter to evaluate.
        limit: Number of images to sample; None for all images with an instance.
        seed: Random seed of the sample.
        max_pixels: Images with more pixels are refused.
        on_image: Called after each image.

    Raises:
        UsageError: If no image has an instance, or an image has another size than its true masks.
    """
    images = sample_images(dataset.images, limit, seed)
    if not images:
        raise UsageError(f"{dataset.path} has no masks to compare with")
    areas: list[int] = []
    ious: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for image in images:
        pixels = read_image_file(image.path, max_pixels=max_pixels).pixels
        check_size((pixels.shape[0], pixels.shape[1]), image.size_hw, name=str(image.path))
        [features] = segmenter.encode([pixels])
        for instance in image.instances:
            areas.append(instance.area_px)
            for kind, prompt in true_prompts(decode_mask(instance.mask)).items():
                [answer] = segment_thing(features, prompt, segmenter=segmenter)
                ious[kind].append(mask_iou(answer.mask, instance.mask))
        on_image()
    return PromptsReport(
        len(images), np.asarray(areas, np.float64), {k: np.asarray(v) for k, v in ious.items()}
    )


def true_prompts(mask: BoolMask) -> dict[str, ThingPrompt]:
    """Return a point, a box, and both for a mask, by kind of prompt."""
    x1, y1, x2, y2 = (float(edge) for edge in mask_box(mask))
    point, label = (centre_point(mask),), (FOREGROUND,)
    return {
        "point": ThingPrompt(point, label),
        "box": ThingPrompt(box_xyxy=(x1, y1, x2, y2)),
        "box_point": ThingPrompt(point, label, (x1, y1, x2, y2)),
    }


def centre_point(mask: BoolMask) -> tuple[float, float]:
    """Return x, y of the pixel of a mask that is farthest from its edge; the first of several."""
    from scipy import ndimage  # its import takes 0.3 s, which every command would pay

    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return float(x), float(y)
