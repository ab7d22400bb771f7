"""Fit the mask ranker of a decoder on annotated pictures.

Run it from the root of the repository::

    python -m tests.reference.fit_ranker DATA --features FOLDER [--held-out 40] [--shard 0/2]

The features of each picture are kept in FOLDER, so that a run can be stopped and goes on, and several can
share the work: with ``--shard`` a run only collects. The pictures that ``segdex eval masks DATA --limit
HELD_OUT`` takes are left out. Things count, stuff does not. The network is the average of ``_MEMBERS`` small
ones with dropout, which is one network with as many times the hidden units; it is written where
``find_ranker`` looks.
"""

import argparse
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tests.real_models import onnx_sam2_files

import segdex_ingest.masks.rank
from segdex.evaluation.dataset import DEFAULT_SOURCE, EvalImage, choose_source, sample_images
from segdex.evaluation.load import load_dataset
from segdex_backends.models.devices import fastest_precision
from segdex_backends.models.sam2.onnx_loader import load_onnx_weights
from segdex_core.masks import MaskRLE, decode_mask
from segdex_core.media.decode import read_image_file
from segdex_core.networks import HiddenLayerNetwork
from segdex_core.ports.segmenter import Segmenter
from segdex_core.records import RGBImage
from segdex_ingest.masks.compare import CanvasMasks, alike_pairs, lay_out
from segdex_ingest.masks.generate import GeneratorSettings, preset, window_candidates, windows_of
from segdex_ingest.masks.rank import ranking_features

Floats = npt.NDArray[np.float32]

_MEMBERS, _HIDDEN, _EPOCHS, _BATCH = 4, 64, 8, 1024
_DROPOUT, _LEARNING_RATE, _WEIGHT_DECAY = 0.3, 2e-3, 0.1
_WORTHLESS_IOU, _PERFECT_IOU = 0.3, 0.8
"""The target is 0 at the first best IoU with any thing, 1 at the second, linear between."""


def best_iou_of_each(canvas: CanvasMasks, truth: npt.NDArray[np.bool_]) -> Floats:
    """Return (n,) the best IoU of each mask on the canvas with any of (k, H, W) true masks of the picture."""
    (height, width), (rows, columns) = truth.shape[1:], canvas.size_hw
    y, x = ((np.arange(n) + 0.5) * side / n for n, side in ((rows, height), (columns, width)))
    small = truth[:, y.astype(int)[:, None], x.astype(int)]
    areas = small.sum(axis=(1, 2))
    best = np.zeros(len(canvas), np.float32)
    for position, (mask, (x1, y1, x2, y2)) in enumerate(
        zip(canvas.masks, canvas.boxes_xyxy.tolist(), strict=True)
    ):
        shared = (small[:, y1:y2, x1:x2] & mask).sum(axis=(1, 2))
        best[position] = (shared / np.maximum(areas + canvas.areas_px[position] - shared, 1)).max(initial=0)
    return best


def collect(
    image: RGBImage, truth: npt.NDArray[np.bool_], segmenter: Segmenter, settings: GeneratorSettings
) -> tuple[Floats, Floats]:
    """Return (n, f) features and (n,) best IoU of all masks of a picture that no window cuts off."""
    size_hw = (image.shape[0], image.shape[1])
    found = [
        (window, window_candidates(image, window, segmenter=segmenter, settings=settings)[1])
        for window in windows_of(size_hw, settings)
    ]
    canvas = lay_out(found, size_hw)
    return ranking_features(found, canvas, alike_pairs(canvas)), best_iou_of_each(canvas, truth)


def fit(features: Floats, best_iou: Floats) -> HiddenLayerNetwork:
    """Return the average of several networks that were trained with different seeds."""
    return fit_network(
        features,
        target_of(best_iou),
        members=_MEMBERS,
        hidden_units=_HIDDEN,
        epochs=_EPOCHS,
        batch=_BATCH,
    )


def target_of(best_iou: Floats) -> Floats:
    """Return how much of an object each mask is, 0 to 1, by its best IoU with one."""
    return ((best_iou - _WORTHLESS_IOU) / (_PERFECT_IOU - _WORTHLESS_IOU)).clip(0, 1)


def fit_network(
    features: Floats, target: Floats, *, members: int, hidden_units: int, epochs: int, batch: int
) -> HiddenLayerNetwork:
    """Return the average of several networks that were trained with different seeds."""
    centre, scale = features.mean(axis=0), 1 / (features.std(axis=0) + 1e-3)
    x, y = torch.from_numpy((features - centre) * scale), torch.from_numpy(target)
    parts = [
        _fit_one(x, y, seed=seed, hidden_units=hidden_units, epochs=epochs, batch=batch)
        for seed in range(members)
    ]
    return HiddenLayerNetwork(
        centre=centre,
        scale=scale,
        hidden_weight=torch.cat([hidden.weight for hidden, _ in parts]).T.detach().numpy(),
        hidden_bias=torch.cat([hidden.bias for hidden, _ in parts]).detach().numpy(),
        weight=(torch.cat([out.weight[0] for _, out in parts]) / members).detach().numpy(),
        bias=torch.stack([out.bias for _, out in parts]).mean(dim=0).detach().numpy(),
    )


def _fit_one(
    x: torch.Tensor, y: torch.Tensor, *, seed: int, hidden_units: int, epochs: int, batch: int
) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    torch.manual_seed(seed)
    hidden, out = torch.nn.Linear(x.shape[1], hidden_units), torch.nn.Linear(hidden_units, 1)
    model = torch.nn.Sequential(hidden, torch.nn.ReLU(), torch.nn.Dropout(_DROPOUT), out)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), batch):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x[rows])[:, 0], y[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return hidden, out


def things_of(image: EvalImage) -> list[MaskRLE]:
    """Return the true masks of the things of one source, the one that counts in an evaluation."""
    things = [one for one in image.instances if not one.is_stuff]
    source = DEFAULT_SOURCE if any(one.source == DEFAULT_SOURCE for one in things) else None
    return [one.mask for one in things if source in (None, one.source)]


def main() -> None:
    """Collect what is missing, fit, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--features", type=Path, required=True, help="folder for the features")
    parser.add_argument("--held-out", type=int, default=40, help="leave out the sample of eval masks")
    parser.add_argument("--limit", type=int, help="at most this many pictures")
    parser.add_argument("--shard", help="i/k: collect every k-th picture from the i-th on one thread")
    arguments = parser.parse_args()

    encoder, decoder = onnx_sam2_files()
    segmenter = load_onnx_weights(encoder, decoder, precision=fastest_precision("cpu"))
    settings = preset("best")
    dataset = load_dataset(arguments.data)
    held_out = {
        image.name for image in sample_images(choose_source(dataset, None).images, arguments.held_out)
    }
    images = [
        image
        for image in dataset.images
        if image.name not in held_out and any(not one.is_stuff for one in image.instances)
    ][: arguments.limit]
    arguments.features.mkdir(parents=True, exist_ok=True)
    first, step = (int(number) for number in arguments.shard.split("/")) if arguments.shard else (0, 1)
    if arguments.shard:
        torch.set_num_threads(1)
    for image in images[first::step]:
        stored = _stored(arguments.features, image)
        if not stored.exists():
            truth = np.stack([decode_mask(mask) for mask in things_of(image)])
            found, best = collect(read_image_file(image.path).pixels, truth, segmenter, settings)
            np.savez(stored, features=found.astype(np.float16), best_iou=best)
            print(f"{image.name}: {len(best)} masks", flush=True)
    if arguments.shard:
        return
    kept = []
    for image in images:
        with np.load(_stored(arguments.features, image)) as arrays:
            kept.append((arrays["features"].astype(np.float32), arrays["best_iou"]))
    features, best_iou = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    ranker = fit(features, best_iou)
    folder = Path(segdex_ingest.masks.rank.__file__).parent / "rankers"
    folder.mkdir(exist_ok=True)
    path = folder / f"{segmenter.decoder_id}.npz"
    arrays = {field.name: getattr(ranker, field.name).astype(np.float16) for field in fields(ranker)}
    np.savez(path, **arrays)
    print(f"{path.name}: {len(best_iou)} masks of {len(kept)} pictures, {path.stat().st_size} bytes")


def _stored(folder: Path, image: EvalImage) -> Path:
    return folder / f"{Path(image.name).stem}.npz"


if __name__ == "__main__":
    main()
