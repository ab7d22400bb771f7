"""Score Meta's own mask generator on labelled pictures, and compare its masks with ours.

Run it from the root of the repository, with the ``reference`` extra installed::

    python -m tests.reference.eval_meta DATA --limit 40 --masks FOLDER [--onnx] [--twins 6]

The masks of each picture are kept in FOLDER, so that a run can be stopped and goes on. With ``--onnx``
Meta's generator (its grid, upsampling, thresholds, stability and NMS) gets its low-resolution logits from our
segmenter with the same weights, which takes a third of the time; they differ by less than 1e-3.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from tests.needs import shared
from tests.real_models import onnx_sam2
from tests.reference.meta_sam2 import build_meta_sam2

from segdex.evaluation.dataset import choose_source, sample_images
from segdex.evaluation.load import load_dataset
from segdex.evaluation.metrics import best_ious, score_masks
from segdex_core.masks import MaskRLE, rle_iou
from segdex_core.media.decode import read_image_file
from segdex_core.ports.prompts import Prompts
from segdex_ingest.masks.generate import generate_masks, meta_settings


class OnnxPredictor:
    """Stands in for Meta's ``SAM2ImagePredictor``: its interface and resizing, other logits."""

    def __init__(self, predictor: Any) -> None:
        self._transforms = predictor._transforms
        self.device = torch.device("cpu")
        self._segmenter = onnx_sam2()

    def set_image(self, image: np.ndarray) -> None:
        [self._features] = self._segmenter.encode([image])

    def reset_predictor(self) -> None:
        del self._features

    def _predict(
        self, points: torch.Tensor, labels: torch.Tensor, *, multimask_output: bool, return_logits: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if not (multimask_output and return_logits):
            raise ValueError("the generator asks for three masks as logits")
        height, width = self._features.size_hw
        pixels = points.numpy() * np.array([width, height], np.float32) / 1024  # Meta's frame is 1024 wide
        decoded = self._segmenter.decode(
            self._features, Prompts(pixels.astype(np.float32), labels.numpy().astype(np.int64))
        )
        logits = torch.from_numpy(decoded.logits)
        full = self._transforms.postprocess_masks(logits, self._features.size_hw)
        return full, torch.from_numpy(decoded.predicted_iou), logits


def main() -> None:
    """Generate what is missing, score, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--masks", type=Path, required=True, help="folder for Meta's masks")
    parser.add_argument("--onnx", action="store_true", help="logits from our segmenter")
    parser.add_argument("--twins", type=int, default=0, help="compare with ours on this many pictures")
    arguments = parser.parse_args()

    dataset = choose_source(load_dataset(arguments.data), None)
    generator = SAM2AutomaticMaskGenerator(
        build_meta_sam2(shared("models", "sam2-hiera-tiny")), points_per_batch=16, output_mode="coco_rle"
    )
    if arguments.onnx:
        generator.predictor = OnnxPredictor(generator.predictor)
    arguments.masks.mkdir(parents=True, exist_ok=True)
    scored, counts, twin_counts = [], [], []
    for position, image in enumerate(sample_images(dataset.images, arguments.limit, arguments.seed)):
        stored = arguments.masks / f"{Path(image.name).stem}.json"
        if not stored.exists():
            started = time.process_time()
            with torch.inference_mode():
                found = generator.generate(read_image_file(image.path).pixels)
            rles = [mask["segmentation"] for mask in found]
            stored.write_text(json.dumps({"cpu_s": time.process_time() - started, "masks": rles}))
        masks = [MaskRLE(image.size_hw, rle["counts"]) for rle in json.loads(stored.read_text())["masks"]]
        areas = [instance.area_px for instance in image.instances]
        instances = [instance.mask for instance in image.instances]
        scored.append((areas, best_ious(instances, masks, name=image.name)))
        counts.append(len(masks))
        if position < arguments.twins and masks:
            pixels = read_image_file(image.path).pixels
            ours = generate_masks(pixels, segmenter=onnx_sam2(), settings=meta_settings())
            twins = rle_iou(masks, [segment.mask for segment in ours]) >= 0.9
            row = [len(masks), int(twins.any(axis=1).sum()), len(ours), int(twins.any(axis=0).sum())]
            twin_counts.append(row)
            print(f"{image.name}: {row[0]} masks of Meta's, {row[1]} with a twin; {row[2]} of ours, {row[3]}")
    if twin_counts:
        theirs, theirs_found, ours_all, ours_found = np.sum(twin_counts, axis=0).tolist()
        print(f"twins of IoU .9: {theirs_found} of {theirs} of Meta's, {ours_found} of {ours_all} of ours")
    print(json.dumps({"images": len(counts), "segments_per_image": float(np.mean(counts))}))
    print(score_masks(scored))


if __name__ == "__main__":
    main()
