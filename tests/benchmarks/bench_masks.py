"""Mask generators side by side: same weights and machine, one after the other on each picture.

Run it from the root of the repository, with the ``reference`` extra installed, on a machine that does nothing
else::

    python -m tests.benchmarks.bench_masks DATA --limit 40 --work FOLDER [--only meta,best]

All run on one thread, so that a run with ``--measure-only`` and other generators can go beside it on the
other core. What was measured of each picture and generator is kept in FOLDER: a run can be stopped and goes
on. The slow generators take every k-th picture (``GENERATORS``); costs are compared on what both had.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from tests.benchmarks.harness import RESULTS, describe_machine
from tests.needs import photo
from tests.real_models import onnx_sam2_files, sam2_folder

from segdex.evaluation.dataset import EvalImage, choose_source, sample_images
from segdex.evaluation.load import load_dataset
from segdex.evaluation.metrics import MaskFigures, best_ious, score_masks
from segdex_backends.models.devices import fastest_precision
from segdex_backends.models.sam2.checkpoint import load_folder
from segdex_backends.models.sam2.onnx_loader import load_onnx_weights
from segdex_core.choices import Quality
from segdex_core.masks import MaskRLE, encode_mask
from segdex_core.media.decode import read_image_file
from segdex_core.records import RGBImage
from segdex_core.settings import ModelPrecision
from segdex_ingest.masks.generate import GeneratorSettings, generate_masks, preset

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


def ours(settings: GeneratorSettings, precision: ModelPrecision) -> Callable[[], Generator]:
    """Our generator with the weights of the offline profile."""

    def build() -> Generator:
        segmenter = load_onnx_weights(*onnx_sam2_files(), precision=precision)

        def run(image: RGBImage) -> list[MaskRLE]:
            found = generate_masks(image, segmenter=segmenter, settings=settings)
            return [segment.mask for segment in found]

        return run

    return build


_GRID_32 = GeneratorSettings(
    frame_px=1024, points_per_side=32, explained_above=1.0, crop_layers=0, segments_per_image=200
)
_SMALLER_WINDOWS = replace(preset("best"), crop_layers=3)
_FASTEST = fastest_precision("cpu")
# the precision that ``auto`` takes here, and on some pictures fp32, which it takes without matrix units
GENERATORS: dict[str, tuple[Callable[[], Generator], int]] = {
    "meta": (meta, 8),
    "pipeline": (pipeline, 40),
    **{f"{q}, {_FASTEST}": (ours(preset(q), _FASTEST), 1) for q in get_args(Quality)},
    f"best and 4x4 windows, {_FASTEST}": (ours(_SMALLER_WINDOWS, _FASTEST), 4),
    **{f"{q}, fp32": (ours(preset(q), "fp32"), 8) for q in get_args(Quality)},
    "full grid 32x32, fp32": (ours(_GRID_32, "fp32"), 16),
}
"""What to measure, and on every how many-th picture."""


def measure(name: str, image: EvalImage, generator: Generator) -> dict[str, object]:
    """Return what one generator did with one picture, as JSON values."""
    pixels = read_image_file(image.path).pixels
    cpu, wall = time.process_time(), time.perf_counter()
    masks = generator(pixels)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    truth = [instance.mask for instance in image.instances]
    best = best_ious(truth, masks, name=image.name) if masks else np.zeros(len(truth))
    first_100 = best_ious(truth, masks[:100], name=image.name) if masks else np.zeros(len(truth))
    return {
        "picture": image.name,
        "generator": name,
        "cpu_s": cpu,
        "wall_s": wall,
        "masks": len(masks),
        "best": best.tolist(),
        "best_of_100": first_100.tolist(),
    }


def peak_mib(name: str) -> int:
    """Return the peak resident memory of a process that runs one generator on one photograph."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_masks", "--peak-of", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _print_own_peak(name: str) -> None:
    with Image.open(photo("coffee.png")) as opened:
        GENERATORS[name][0]()(np.array(opened.convert("RGB")))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


_COLUMNS = (
    *("generator", "pictures", "segments", "recall@.5", "small", "medium", "large", "mean IoU", "AR"),
    *("CPU s", "of the first", "wall s", "peak MiB"),
)


def table(images: Sequence[EvalImage], rows: dict[str, list[dict[str, Any]]], peaks: dict[str, int]) -> str:
    """Return the Markdown table of all generators; costs are relative to the first, on the same pictures.

    A generator with more than 100 segments has a second line for its first 100.
    """
    areas = {image.name: [instance.area_px for instance in image.instances] for image in images}
    reference = {row["picture"]: row["cpu_s"] for row in next(iter(rows.values()))}
    lines = ["| " + " | ".join(_COLUMNS) + " |", "| --- " * len(_COLUMNS) + "|"]
    for name, results in rows.items():
        cpu, wall, masks = (
            float(np.mean([row[key] for row in results])) for key in ("cpu_s", "wall_s", "masks")
        )
        shared = [row for row in results if row["picture"] in reference]
        ratio = sum(reference[row["picture"]] for row in shared) / sum(row["cpu_s"] for row in shared)
        cost = (f"{cpu:.1f}", f"1/{ratio:.1f}", f"{wall:.1f}", str(peaks[name]))
        for key, count in (("best", masks), ("best_of_100", min(masks, 100))):
            if key == "best_of_100" and masks <= 100:
                continue
            figures: MaskFigures = score_masks((areas[row["picture"]], np.array(row[key])) for row in results)
            recalls = (figures.overall, figures.small, figures.medium, figures.large)
            cells = [
                name if key == "best" else f"{name}, first 100",
                str(len(results)),
                f"{count:.0f}",
                *(f"{part.recall_50:.3f}" for part in recalls),
                f"{figures.overall.mean_iou:.3f}",
                f"{figures.overall.ar:.3f}",
                *cost,
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw_curve(rows: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw recall at IoU .5 against CPU seconds a picture (logarithmic), a dot for each generator.

    Of ours only those that had all pictures: recall on a few others cannot be compared.
    """
    most = max(len(results) for results in rows.values())
    width, height, margin = 900, 560, 70
    low, high = 1.0, 300.0
    canvas = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=14)

    def place(cpu_s: float, recall: float) -> tuple[float, float]:
        along = math.log(cpu_s / low) / math.log(high / low)
        return margin + along * (width - 2 * margin), height - margin - recall * (height - 2 * margin)

    for recall in np.arange(0, 1.01, 0.2):
        draw.line([place(low, recall), place(high, recall)], fill="#dddddd")
        draw.text((margin - 34, place(low, recall)[1] - 8), f"{recall:.1f}", fill="black", font=font)
    for cpu_s in (1, 3, 10, 30, 100, 300):
        draw.line([place(cpu_s, 0), place(cpu_s, 1)], fill="#dddddd")
        draw.text((place(cpu_s, 0)[0] - 10, height - margin + 6), f"{cpu_s}", fill="black", font=font)
    draw.text((width // 2 - 110, height - 34), "CPU seconds a picture", fill="black", font=font)
    draw.text((margin - 50, 20), "recall at mask IoU 0.5", fill="black", font=font)
    for name, results in rows.items():
        if len(results) < most and name not in _SLOW:
            continue
        best = np.concatenate([row["best"] for row in results])
        x, y = place(float(np.mean([row["cpu_s"] for row in results])), float((best >= 0.5).mean()))
        colour = "#c0392b" if name in _SLOW else "#1f5fa8"
        draw.ellipse([x - 5, y - 5, x + 5, y + 5], fill=colour)
        draw.text((x + 8, y - 8), f"{name}, {len(results)} pictures", fill=colour, font=font)
    canvas.save(path, optimize=True)


def main() -> None:
    """Measure what is missing, and write table and curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--work", type=Path, default=Path("bench-masks"))
    parser.add_argument("--only", help="names of generators, separated by semicolons")
    parser.add_argument("--peak-of")
    parser.add_argument("--measure-only", action="store_true", help="no table: another run makes it")
    parser.add_argument("--table-only", action="store_true", help="of what was measured so far")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as an ingest runs: a picture on each core
    if arguments.peak_of:
        _print_own_peak(arguments.peak_of)
        return

    images = sample_images(choose_source(load_dataset(arguments.data), None).images, arguments.limit)
    names = arguments.only.split(";") if arguments.only else list(GENERATORS)
    generators: dict[str, Generator] = {}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number, image in enumerate(images):
        for name in names:
            build, every = GENERATORS[name]
            if number % every:
                continue
            stored = arguments.work / name / f"{Path(image.name).stem}.json"
            if not stored.exists() and arguments.table_only:
                continue
            if not stored.exists():
                stored.parent.mkdir(parents=True, exist_ok=True)
                if name not in generators:
                    generators[name] = build()
                    if name not in _SLOW:
                        with Image.open(photo("coffee.png")) as opened:  # the first picture pays for start-up
                            generators[name](np.array(opened.convert("RGB")))
                stored.write_text(json.dumps(measure(name, image, generators[name])))
                print(image.name, name, flush=True)
            rows[name].append(json.loads(stored.read_text()))
    peaks = {}
    for name in names:
        stored = arguments.work / name / "peak.json"
        if not stored.exists():
            stored.write_text(json.dumps(peak_mib(name)))
        peaks[name] = json.loads(stored.read_text())
    if arguments.measure_only:
        return
    context = describe_machine()
    machine = "; ".join(f"{key} {value}" for key, value in context.items())
    title = f"# Mask generators, SAM 2 hiera-tiny, {len(images)} pictures\n\n"
    curve = "\n![Recall against CPU seconds](masks.png)\n"
    text = title + table(images, rows, peaks) + curve + f"\n{machine}.\n"
    RESULTS.mkdir(exist_ok=True)
    draw_curve(rows, RESULTS / "masks.png")
    (RESULTS / "masks.md").write_text(text)
    content = {"context": context, "rows": rows, "peak_mib": peaks}
    (RESULTS / "masks.json").write_text(json.dumps(content) + "\n")
    print(text)


_SLOW = ("meta", "pipeline")  # a minute and more a picture: start-up is nothing beside it


if __name__ == "__main__":
    main()
