"""Our SAM 2 against the package, same weights, one picture: python -m tests.benchmarks.bench_package PICTURE.

Both run in one process and by turns, A B A B, on one thread: the ratio of CPU times holds on a busy machine.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tests.real_models import package_sam2, torch_sam2

from segdex_core.ports.prompts import Prompts
from segdex_core.ports.segmenter import Segmenter
from segdex_core.records import RGBImage
from segdex_ingest.masks.generate import generate_masks, preset


def cpu_s(segmenter: Segmenter, image: RGBImage, *, frame_px: int, count: int) -> dict[str, float]:
    """Return the CPU seconds of an encoding and of so many clicks."""
    rng = np.random.default_rng(0)
    points = rng.uniform((0, 0), (image.shape[1], image.shape[0]), (count, 1, 2)).astype(np.float32)
    prompts = Prompts(points, np.ones((count, 1), np.int64))
    start = time.process_time()
    [features] = segmenter.encode([image], frame_px=frame_px)
    encoded = time.process_time()
    for first in range(0, count, 16):
        segmenter.decode(features, prompts[first : first + 16])
    return {"encode": encoded - start, f"{count} prompts": time.process_time() - encoded}


def generator_cpu_s(segmenter: Segmenter, image: RGBImage) -> dict[str, float]:
    """Return the CPU seconds of all masks of a picture in ``fast``."""
    start = time.process_time()
    generate_masks(image, segmenter=segmenter, settings=preset("fast"))
    return {"all masks, fast": time.process_time() - start}


def main() -> None:
    """Print a table of both, with the ratio of their medians."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--generator", action="store_true", help="all masks of the picture, too: minutes")
    options = parser.parse_args()
    with Image.open(options.picture) as opened:
        image = np.asarray(opened.convert("RGB"))
    torch.set_num_threads(1)
    segmenters: dict[str, Segmenter] = {"ours": torch_sam2(), "package": package_sam2()}
    times: dict[str, dict[str, list[float]]] = {}
    for round_ in range(options.rounds + 1):
        for name, segmenter in segmenters.items():
            found = {
                f"{what}, frame of {frame_px} px": seconds
                for frame_px in (1024, 672)
                for what, seconds in cpu_s(segmenter, image, frame_px=frame_px, count=options.prompts).items()
            }
            if options.generator:
                found |= generator_cpu_s(segmenter, image)
            for what, seconds in found.items():
                if round_:  # the first one only warms up
                    times.setdefault(what, {}).setdefault(name, []).append(seconds)
    print("| what | ours, CPU s | package, CPU s | package / ours |\n| --- | --- | --- | --- |")
    for what, both in times.items():
        ours, package = (float(np.median(both[name])) for name in segmenters)
        print(f"| {what} | {ours:.2f} | {package:.2f} | {package / ours:.1f} |")


if __name__ == "__main__":
    main()
