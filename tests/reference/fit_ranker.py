"""Fit the mask ranker of a decoder on annotated pictures.

Run it from the root of the repository::

    python -m tests.reference.fit_ranker DATA --features FOLDER [--held-out 40] [--limit 60]

The features of each picture are kept in FOLDER, so that a run can be stopped and goes on. The pictures that
``segdex eval masks DATA --limit HELD_OUT`` takes are left out. The network is the average of ``_MEMBERS``
small ones with dropout, which is one network with as many times the hidden units; it is written where
``find_ranker`` looks for it.
"""

import argparse
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tests.real_models import onnx_sam2

import segdex.ingest.ranker
from segdex.api.evaluation.dataset import EvalImage, choose_source, sample_images
from segdex.api.evaluation.load import load_dataset
from segdex.core.images import read_image_file
from segdex.core.masks import decode_mask
from segdex.core.protocols import PromptableSegmenter
from segdex.core.records import RGBImage
from segdex.ingest.candidates import Candidates
from segdex.ingest.fullsize import upsample_mask
from segdex.ingest.generate import GeneratorSettings, window_candidates
from segdex.ingest.prompts import CropWindow, crop_windows
from segdex.ingest.ranker import MaskRanker, ranking_features
from segdex.ingest.select import agreement_counts

Floats = npt.NDArray[np.float32]

_MEMBERS, _HIDDEN, _EPOCHS, _BATCH = 4, 64, 12, 1024
_DROPOUT, _LEARNING_RATE, _WEIGHT_DECAY = 0.3, 2e-3, 0.1
_WORTHLESS_IOU, _PERFECT_IOU = 0.3, 0.8
"""The target is 0 at the first best IoU with any thing, 1 at the second, linear between."""


def best_iou_of_each(candidates: Candidates, window: CropWindow, truth: npt.NDArray[np.bool_]) -> Floats:
    """Return (n,) the best IoU of each mask, at the picture's size, with any of (k, H, W) true masks."""
    box = window.box
    width, height = box.size_wh
    areas = truth.sum(axis=(1, 2))
    best = np.zeros(len(candidates), np.float32)
    for position in range(len(candidates)):
        mask, reach = upsample_mask(candidates.frame_logits(position), (height, width))
        y, x = box.y1 + reach.y1, box.x1 + reach.x1
        shared = (truth[:, y : y + mask.shape[0], x : x + mask.shape[1]] & mask).sum(axis=(1, 2))
        best[position] = (shared / np.maximum(areas + mask.sum() - shared, 1)).max(initial=0)
    return best


def collect(
    image: RGBImage, truth: npt.NDArray[np.bool_], segmenter: PromptableSegmenter, settings: GeneratorSettings
) -> tuple[Floats, Floats]:
    """Return (n, f) features and (n,) best IoU of all masks of a picture that no window cuts off."""
    size_hw = (image.shape[0], image.shape[1])
    windows = crop_windows(
        size_hw,
        crop_layers=settings.crop_layers,
        overlap_ratio=settings.crop_overlap_ratio,
        min_window_px=settings.min_window_px,
    )
    rows = []
    for window in windows:
        found = window_candidates(image, window, segmenter=segmenter, settings=settings)
        if len(found) == 0:
            continue
        agreeing = agreement_counts(found.packed, iou_threshold=settings.agreement_iou)
        share = window.box.area_px / (size_hw[0] * size_hw[1])
        features = ranking_features(found, agreeing, frame_share=share, layer=window.layer)
        rows.append((features, best_iou_of_each(found, window, truth)))
    return np.concatenate([f for f, _ in rows]), np.concatenate([y for _, y in rows])


def fit(features: Floats, best_iou: Floats) -> MaskRanker:
    """Return the average of several networks that were trained with different seeds."""
    centre, scale = features.mean(axis=0), 1 / (features.std(axis=0) + 1e-3)
    x = torch.from_numpy((features - centre) * scale)
    y = torch.from_numpy(((best_iou - _WORTHLESS_IOU) / (_PERFECT_IOU - _WORTHLESS_IOU)).clip(0, 1))
    members = [_fit_one(x, y, seed=seed) for seed in range(_MEMBERS)]
    return MaskRanker(
        centre=centre,
        scale=scale,
        hidden_weight=torch.cat([hidden.weight for hidden, _ in members]).T.detach().numpy(),
        hidden_bias=torch.cat([hidden.bias for hidden, _ in members]).detach().numpy(),
        weight=(torch.cat([out.weight[0] for _, out in members]) / _MEMBERS).detach().numpy(),
        bias=torch.stack([out.bias for _, out in members]).mean(dim=0).detach().numpy(),
    )


def _fit_one(x: torch.Tensor, y: torch.Tensor, *, seed: int) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    torch.manual_seed(seed)
    hidden, out = torch.nn.Linear(x.shape[1], _HIDDEN), torch.nn.Linear(_HIDDEN, 1)
    model = torch.nn.Sequential(hidden, torch.nn.ReLU(), torch.nn.Dropout(_DROPOUT), out)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    for _ in range(_EPOCHS):
        for rows in torch.split(torch.randperm(len(x)), _BATCH):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x[rows])[:, 0], y[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return hidden, out


def _truth(image: EvalImage) -> npt.NDArray[np.bool_]:
    return np.stack([decode_mask(instance.mask) for instance in image.instances])


def main() -> None:
    """Collect what is missing, fit, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--features", type=Path, required=True, help="folder for the features")
    parser.add_argument("--held-out", type=int, default=40, help="leave out the sample of eval masks")
    parser.add_argument("--limit", type=int, help="at most this many pictures")
    arguments = parser.parse_args()

    segmenter, settings = onnx_sam2(), GeneratorSettings()
    dataset = choose_source(load_dataset(arguments.data), None)
    held_out = {image.name for image in sample_images(dataset.images, arguments.held_out)}
    images = [image for image in dataset.images if image.instances and image.name not in held_out]
    arguments.features.mkdir(parents=True, exist_ok=True)
    kept = []
    for image in images[: arguments.limit]:
        stored = arguments.features / f"{Path(image.name).stem}.npz"
        if not stored.exists():
            found, best = collect(read_image_file(image.path).pixels, _truth(image), segmenter, settings)
            np.savez(stored, features=found.astype(np.float16), best_iou=best)
            print(f"{image.name}: {len(best)} masks", flush=True)
        with np.load(stored) as arrays:
            kept.append((arrays["features"].astype(np.float32), arrays["best_iou"]))
    features, best_iou = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    ranker = fit(features, best_iou)
    folder = Path(segdex.ingest.ranker.__file__).parent / "rankers"
    folder.mkdir(exist_ok=True)
    path = folder / f"{segmenter.decoder_id}.npz"
    arrays = {field.name: getattr(ranker, field.name).astype(np.float16) for field in fields(ranker)}
    np.savez(path, **arrays)
    print(f"{path.name}: {len(best_iou)} masks of {len(kept)} pictures, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
