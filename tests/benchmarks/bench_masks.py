"""Mask generators side by side: same weights and machine, one after the other on each picture.

Run it from the root of the repository, with the ``reference`` extra installed, on a machine that does nothing
else::

    python -m tests.benchmarks.bench_masks DATA --limit 40 --work FOLDER [--only meta,default]

What was measured of each picture and generator is kept in FOLDER, so that a run can be stopped and goes on.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.benchmarks.harness import RESULTS, describe_machine
from tests.needs import photo
from tests.real_models import onnx_sam2, onnx_sam2_files, sam2_folder

from segdex.api.evaluation.dataset import EvalImage, choose_source, sample_images
from segdex.api.evaluation.load import load_dataset
from segdex.api.evaluation.metrics import MaskFigures, best_ious, score_masks
from segdex.core.images import read_image_file
from segdex.core.masks import MaskRLE, encode_mask
from segdex.core.models.sam2_checkpoint import load_folder
from segdex.core.models.sam2_onnx import OnnxSam2
from segdex.core.records import RGBImage
from segdex.ingest.generate import GeneratorSettings, generate_masks, meta_settings

Generator = Callable[[RGBImage], list[MaskRLE]]


def meta() -> Generator:
    """Meta's ``SAM2AutomaticMaskGenerator`` with its defaults, in torch."""
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
    from tests.reference.meta_sam2 import build_meta_sam2

    generator = SAM2AutomaticMaskGenerator(build_meta_sam2(sam2_folder()), output_mode="coco_rle")

    def run(image: RGBImage) -> list[MaskRLE]:
        with torch.inference_mode():
            found = generator.generate(image)
        return [MaskRLE(image.shape[:2], each["segmentation"]["counts"]) for each in found]

    return run


def pipeline() -> Generator:
    """The mask-generation pipeline of transformers with its defaults."""
    from transformers import Sam2ImageProcessor
    from transformers.pipelines import mask_generation

    build: Any = mask_generation.MaskGenerationPipeline
    pipe = build(load_folder(sam2_folder()), image_processor=Sam2ImageProcessor())

    def run(image: RGBImage) -> list[MaskRLE]:
        return [encode_mask(np.asarray(mask, bool)) for mask in pipe(Image.fromarray(image))["masks"]]

    return run


def ours(settings: GeneratorSettings, *, int8: bool = False) -> Callable[[], Generator]:
    """Our generator with its ONNX segmenter."""

    def build() -> Generator:
        segmenter = OnnxSam2.load(*onnx_sam2_files(), int8=True) if int8 else onnx_sam2()

        def run(image: RGBImage) -> list[MaskRLE]:
            found = generate_masks(image, segmenter=segmenter, settings=settings)
            return [segment.mask for segment in found]

        return run

    return build


_DENSE = GeneratorSettings(segments_per_image=200, crop_near_points_per_side=24, near_points_per_side=24)
_COARSE = GeneratorSettings(crop_layers=0, points_per_side=8, near_points_per_side=16)
GENERATORS: dict[str, Callable[[], Generator]] = {
    "meta": meta,
    "pipeline": pipeline,
    "ours-meta": ours(meta_settings()),
    "default": ours(GeneratorSettings()),
    "default-int8": ours(GeneratorSettings(), int8=True),
    "default-200-int8": ours(GeneratorSettings(segments_per_image=200), int8=True),
    "dense-200-int8": ours(_DENSE, int8=True),
    "no-windows": ours(GeneratorSettings(crop_layers=0, near_points_per_side=32)),
    "coarse-int8": ours(
        GeneratorSettings(crop_layers=0, points_per_side=8, near_points_per_side=16), int8=True
    ),
}


def measure(name: str, image: EvalImage, generator: Generator) -> dict[str, object]:
    """Return what one generator did with one picture, as JSON values."""
    pixels = read_image_file(image.path).pixels
    cpu, wall = time.process_time(), time.perf_counter()
    masks = generator(pixels)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    truth = [instance.mask for instance in image.instances]
    best = best_ious(truth, masks, name=image.name) if masks else np.zeros(len(truth))
    return {"generator": name, "cpu_s": cpu, "wall_s": wall, "masks": len(masks), "best": best.tolist()}


def peak_mib(name: str) -> int:
    """Return the peak resident memory of a process that runs one generator on one photograph."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_masks", "--peak-of", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _print_own_peak(name: str) -> None:
    with Image.open(photo("coffee.png")) as opened:
        GENERATORS[name]()(np.array(opened.convert("RGB")))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


_COLUMNS = (
    *("generator", "recall@.5", "small", "medium", "large", "mean IoU", "AR", "masks"),
    *("CPU s", "of the first", "wall s", "peak MiB"),
)


def table(images: Sequence[EvalImage], rows: dict[str, list[dict[str, Any]]], peaks: dict[str, int]) -> str:
    """Return the Markdown table of all generators; the cost is relative to the first."""
    areas = [[instance.area_px for instance in image.instances] for image in images]
    reference = float(np.mean([row["cpu_s"] for row in next(iter(rows.values()))]))
    lines = ["| " + " | ".join(_COLUMNS) + " |", "| --- " * len(_COLUMNS) + "|"]
    for name, results in rows.items():
        figures: MaskFigures = score_masks(zip(areas, (row["best"] for row in results), strict=True))
        recalls = (figures.overall, figures.small, figures.medium, figures.large)
        cpu, wall, masks = (
            float(np.mean([row[key] for row in results])) for key in ("cpu_s", "wall_s", "masks")
        )
        cells = [
            name,
            *(f"{part.recall_50:.3f}" for part in recalls),
            f"{figures.overall.mean_iou:.3f}",
            f"{figures.overall.ar:.3f}",
            f"{masks:.1f}",
            f"{cpu:.1f}",
            f"1/{reference / cpu:.1f}",
            f"{wall:.1f}",
            str(peaks[name]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--work", type=Path, default=Path("bench-masks"))
    parser.add_argument("--only", default=",".join(GENERATORS))
    parser.add_argument("--peak-of")
    arguments = parser.parse_args()
    if arguments.peak_of:
        _print_own_peak(arguments.peak_of)
        return

    images = sample_images(choose_source(load_dataset(arguments.data), None).images, arguments.limit)
    names = arguments.only.split(",")
    generators: dict[str, Generator] = {}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for image in images:
        for name in names:
            stored = arguments.work / name / f"{Path(image.name).stem}.json"
            if not stored.exists():
                stored.parent.mkdir(parents=True, exist_ok=True)
                if name not in generators:
                    generators[name] = GENERATORS[name]()
                    with Image.open(photo("coffee.png")) as opened:  # the first picture pays for start-up
                        generators[name](np.array(opened.convert("RGB")))
                stored.write_text(json.dumps(measure(name, image, generators[name])))
                print(image.name, name, flush=True)
            rows[name].append(json.loads(stored.read_text()))
    machine = "; ".join(f"{key} {value}" for key, value in describe_machine().items())
    peaks = {name: peak_mib(name) for name in names}
    title = f"# Mask generators, SAM 2 hiera-tiny, {len(images)} pictures\n\n"
    text = title + table(images, rows, peaks) + f"\n{machine}.\n"
    (RESULTS / "masks.md").write_text(text)
    (RESULTS / "masks.json").write_text(json.dumps({"rows": rows, "peak_mib": peaks}) + "\n")
    print(text)


if __name__ == "__main__":
    main()
