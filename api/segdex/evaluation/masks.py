"""``segdex eval masks``: how well the mask generator covers annotated instances."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from segdex.evaluation.dataset import EvalDataset, sample_images
from segdex.evaluation.metrics import Floats, MaskFigures, best_ious, check_size, score_masks
from segdex_core.errors import UsageError
from segdex_core.media.decode import read_image_file
from segdex_core.media.limits import MAX_PIXELS
from segdex_core.ports.segmenter import Segmenter
from segdex_ingest.masks.generate import GeneratorSettings, generate_masks


@dataclass(frozen=True, slots=True, eq=False)
class ImageMasks:
    """Results of one image.

    Attributes:
        name: Name of the image.
        best_ious: (n,) float64, best IoU of each instance.
        segments: Number of generated masks.
        cpu_s: CPU seconds of the generator, over all threads of the process.
        wall_s: Wall seconds of the generator.
    """

    name: str
    best_ious: Floats
    segments: int
    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class MasksReport:
    """Metrics of a set of images.

    Attributes:
        images: Number of segmented images.
        figures: Recall of the instances, by size.
        segments_per_image: Mean number of generated masks per image.
        cpu_s_per_image: Mean CPU seconds of the generator per image, over all threads, without decoding the
            file.
        wall_s_per_image: Mean wall seconds of the generator per image, without decoding the file.
    """

    images: int
    figures: MaskFigures
    segments_per_image: float
    cpu_s_per_image: float
    wall_s_per_image: float

    def to_json(self) -> dict[str, int | float | None]:
        """Return the metrics as JSON values."""
        values: dict[str, int | float | None] = {"images": self.images}
        parts = self.figures
        for suffix, part in (
            ("", parts.overall),
            ("_small", parts.small),
            ("_medium", parts.medium),
            ("_large", parts.large),
        ):
            values[f"instances{suffix}"] = part.instances
            values[f"mean_iou{suffix}"] = _rounded(part.mean_iou)
            values[f"recall_50{suffix}"] = _rounded(part.recall_50)
            values[f"recall_75{suffix}"] = _rounded(part.recall_75)
            values[f"ar{suffix}"] = _rounded(part.ar)
        values["segments_per_image"] = round(self.segments_per_image, 2)
        values["cpu_s_per_image"] = round(self.cpu_s_per_image, 3)
        values["wall_s_per_image"] = round(self.wall_s_per_image, 3)
        return values


def evaluate_masks(
    dataset: EvalDataset,
    *,
    segmenter: Segmenter,
    settings: GeneratorSettings,
    limit: int | None = None,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    on_image: Callable[[ImageMasks], None] = lambda _: None,
) -> MasksReport:
    """Segment images and compare the masks with the true masks; crowds are left out.

    Args:
        dataset: Data set with the sources that count, see ``choose_source``.
        segmenter: Segmenter to evaluate.
        settings: Settings of the mask generator.
        limit: Number of images to sample, see ``sample_images``; None for all images with an instance.
        seed: Random seed of the sample.
        max_pixels: Images with more pixels are refused.
        on_image: Called after each image.

    Raises:
        UsageError: If no image has an instance, or an image has another size than its true masks.
        ImageError: If an image cannot be read.
    """
    images = sample_images(dataset.images, limit, seed)
    if not images:
        raise UsageError(f"{dataset.path} has no masks to compare with")
    done: list[ImageMasks] = []
    for image in images:
        pixels = read_image_file(image.path, max_pixels=max_pixels).pixels
        check_size((pixels.shape[0], pixels.shape[1]), image.size_hw, name=str(image.path))
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        segments = generate_masks(pixels, segmenter=segmenter, settings=settings)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        best = best_ious(
            [one.mask for one in image.instances],
            [segment.mask for segment in segments],
            name=str(image.path),
        )
        done.append(
            ImageMasks(name=image.name, best_ious=best, segments=len(segments), cpu_s=cpu_s, wall_s=wall_s)
        )
        on_image(done[-1])
    areas = ([one.area_px for one in image.instances] for image in images)
    return MasksReport(
        images=len(done),
        figures=score_masks(zip(areas, (one.best_ious for one in done), strict=True)),
        segments_per_image=sum(one.segments for one in done) / len(done),
        cpu_s_per_image=sum(one.cpu_s for one in done) / len(done),
        wall_s_per_image=sum(one.wall_s for one in done) / len(done),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
