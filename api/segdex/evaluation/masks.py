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
    """What became of one picture.

    Attributes:
        name: The picture.
        best_ious: (n,) float64, the best IoU for each instance.
        segments: How many masks were generated.
        cpu_s: CPU seconds of the whole process, all threads, in the generator.
        wall_s: Wall seconds in the generator.
    """

    name: str
    best_ious: Floats
    segments: int
    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class MasksReport:
    """The figures of a set of pictures.

    Attributes:
        images: How many pictures were segmented.
        figures: Recall of the instances, by size.
        segments_per_image: Mean number of generated masks.
        cpu_s_per_image: Mean CPU seconds of the generator, all threads; decoding the file is not in it.
        wall_s_per_image: The same in wall seconds.
    """

    images: int
    figures: MaskFigures
    segments_per_image: float
    cpu_s_per_image: float
    wall_s_per_image: float

    def to_json(self) -> dict[str, int | float | None]:
        """Return the figures as JSON values."""
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
    """Segment pictures and compare with the true masks; crowds are left out.

    Args:
        dataset: With the sources that count, see ``choose_source``.
        segmenter: SAM 2 behind the port.
        settings: Of the generator.
        limit: How many pictures to take, see ``sample_images``; None for all with an instance.
        seed: Chooses them.
        max_pixels: Larger pictures are refused.
        on_image: Called after each picture.

    Raises:
        UsageError: If no picture has an instance, or a picture has another size than its true masks.
        ImageError: If a picture cannot be read.
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
