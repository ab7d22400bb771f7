"""Fit the ranker of finished masks (``segdex_ingest.masks.objects``) of a decoder on annotated pictures.

Run it from the root of the repository::

    python -m tests.reference.fit_objects DATA --work FOLDER [--held-out 40] [--shard 0/2] [--check]

The masks of each picture are kept in FOLDER, so that a run can be stopped and goes on; with ``--shard`` a run
only collects. The pictures that ``segdex eval masks DATA --limit HELD_OUT`` takes are left out. The shipped
first ranking has seen the others, and is surer of them than of new ones: what is fitted here reads
likelihoods of first rankings that were fitted without the picture. ``--check`` reports, for pictures of a
fold that was left out, how well both rankings tell objects from other masks, and what the best hundred find.
"""

import argparse
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tests.real_models import onnx_sam2_files
from tests.reference.fit_ranker import best_iou_of_each, fit, fit_network, target_of, things_of

import segdex_ingest.masks.rank
from segdex.evaluation.dataset import EvalImage, choose_source, sample_images
from segdex.evaluation.load import load_dataset
from segdex_backends.models.devices import fastest_precision
from segdex_backends.models.sam2.onnx_loader import load_onnx_weights
from segdex_backends.models.sam2.segmenter import TorchSam2
from segdex_core.masks import decode_mask, rle_iou
from segdex_core.media.decode import read_image_file
from segdex_core.networks import HiddenLayerNetwork
from segdex_ingest.masks.compare import alike_pairs, lay_out
from segdex_ingest.masks.finish import FullSize
from segdex_ingest.masks.generate import finish_best, preset, window_candidates, windows_of
from segdex_ingest.masks.objects import object_features, selection_scores
from segdex_ingest.masks.rank import ranked_scores, ranking_features

Floats = npt.NDArray[np.float32]

_FOLDS, _HIDDEN, _EPOCHS, _MEMBERS = 4, 32, 30, 4
_SETTINGS = preset("balanced")


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """The finished masks of a picture: features, best IoU with a thing, IoU with each thing and each
    other."""

    features: Floats
    best_iou: Floats
    with_things: npt.NDArray[np.float64]
    with_others: npt.NDArray[np.float64]
    first_scores: Floats
    likelihood: Floats


def collect_candidates(image: EvalImage, segmenter: TorchSam2, file: Path) -> None:
    """Write all masks of a picture, and its windows as they were encoded."""
    pixels = read_image_file(image.path).pixels
    found, encoded = [], []
    for window in windows_of((pixels.shape[0], pixels.shape[1]), _SETTINGS):
        features, candidates = window_candidates(pixels, window, segmenter=segmenter, settings=_SETTINGS)
        found.append((window, candidates))
        encoded.append(segmenter.dump(features))
    part = file.with_suffix(".part")
    part.write_bytes(pickle.dumps((found, encoded)))
    part.rename(file)


def first_examples(image: EvalImage, file: Path) -> tuple[Floats, Floats]:
    """Return the features of all masks of a picture, and the best IoU of each with a thing."""
    found, _ = pickle.loads(file.read_bytes())  # noqa: S301 - our own file
    canvas = lay_out(found, image.size_hw)
    truth = np.stack([decode_mask(one) for one in things_of(image)])
    return ranking_features(found, canvas, alike_pairs(canvas)), best_iou_of_each(canvas, truth)


def finished_example(
    image: EvalImage, file: Path, segmenter: TorchSam2, ranker: HiddenLayerNetwork
) -> Example:
    """Return the masks that a first ranking puts first, finished."""
    found, encoded = pickle.loads(file.read_bytes())  # noqa: S301 - our own file
    canvas = lay_out(found, image.size_hw)
    pairs = alike_pairs(canvas)
    finished = finish_best(
        found,
        [segmenter.restore(one) for one in encoded],
        ranked_scores(found, canvas, pairs, ranker=ranker),
        pairs,
        FullSize(image.size_hw, min_region_px=_SETTINGS.min_region_px, min_area_px=_SETTINGS.min_area_px),
        segmenter=segmenter,
        settings=_SETTINGS,
    )
    masks = [one.mask for one in finished.segments]
    iou = rle_iou(masks, things_of(image))
    return Example(
        features=object_features(finished, min_containment=_SETTINGS.min_containment),
        best_iou=iou.max(axis=1).astype(np.float32),
        with_things=iou,
        with_others=rle_iou(masks, masks),
        first_scores=finished.first_scores,
        likelihood=finished.likelihood,
    )


def fit_objects(examples: Sequence[Example], *, members: int = _MEMBERS) -> HiddenLayerNetwork:
    """Return the average of several networks that were trained with different seeds."""
    return fit_network(
        np.concatenate([one.features for one in examples]),
        target_of(np.concatenate([one.best_iou for one in examples])),
        members=members,
        hidden_units=_HIDDEN,
        epochs=_EPOCHS,
        batch=256,
    )


def found_by_best(example: Example, scores: Floats, *, budget: int = 100) -> npt.NDArray[np.bool_]:
    """Return for each thing whether one of the best masks, without twins, is it."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        if len(kept) < budget and (not kept or example.with_others[i, kept].max() <= _SETTINGS.nms_iou):
            kept.append(i)
    found: npt.NDArray[np.bool_] = example.with_things[kept].max(axis=0) >= 0.5
    return found


def auc(is_object: npt.NDArray[np.bool_], scores: Floats) -> float:
    """Return the share of pairs of an object and another mask that a score orders rightly."""
    rank = np.argsort(np.argsort(scores))
    positive = int(is_object.sum())
    return float((rank[is_object].mean() - (positive - 1) / 2) / (len(scores) - positive))


def check(examples: Sequence[Example]) -> None:
    """Report what both rankings tell, each picture by networks that did not see it."""
    fold = np.arange(len(examples)) % _FOLDS
    second: list[Floats] = [np.zeros(0, np.float32)] * len(examples)
    for each in range(_FOLDS):
        ranker = fit_objects([one for one, f in zip(examples, fold, strict=True) if f != each], members=2)
        for i in np.flatnonzero(fold == each).tolist():
            second[i] = ranker.probabilities(examples[i].features)
    is_object = np.concatenate([one.best_iou for one in examples]) >= 0.5
    first = np.concatenate([one.likelihood for one in examples])
    print(f"first ranking: area under the curve {auc(is_object, first):.4f}")
    print(f"second: {auc(is_object, np.concatenate(second)):.4f}")
    for name, scores in (
        ("first", [one.first_scores for one in examples]),
        ("second", second),
        ("both", [selection_scores(o, e.first_scores) for o, e in zip(second, examples, strict=True)]),
    ):
        for budget in (50, 100):
            found = [found_by_best(e, s, budget=budget) for e, s in zip(examples, scores, strict=True)]
            print(f"best {budget} by {name}: recall {np.concatenate(found).mean():.4f}")


def main() -> None:
    """Collect what is missing, fit, and write or report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for what can be made again")
    parser.add_argument("--held-out", type=int, default=40, help="leave out the sample of eval masks")
    parser.add_argument("--shard", help="i/k: collect every k-th picture from the i-th on one thread")
    parser.add_argument("--check", action="store_true", help="report instead of writing")
    parser.add_argument("--ready", action="store_true", help="take only the pictures that were collected")
    arguments = parser.parse_args()
    segmenter = load_onnx_weights(*onnx_sam2_files(), precision=fastest_precision("cpu"))
    dataset = load_dataset(arguments.data)
    held_out = {one.name for one in sample_images(choose_source(dataset, None).images, arguments.held_out)}
    images = [one for one in dataset.images if one.name not in held_out and things_of(one)]
    files = [arguments.work / f"balanced_coco_{Path(one.name).stem}.pkl" for one in images]
    if arguments.ready:
        pairs = [(one, file) for one, file in zip(images, files, strict=True) if file.exists()]
        images, files = [one for one, _ in pairs], [file for _, file in pairs]
    arguments.work.mkdir(parents=True, exist_ok=True)
    first, step = (int(number) for number in arguments.shard.split("/")) if arguments.shard else (0, 1)
    if arguments.shard:
        torch.set_num_threads(1)
    for image, file in list(zip(images, files, strict=True))[first::step]:
        if not file.exists():
            collect_candidates(image, segmenter, file)
    if arguments.shard:
        return
    kept = arguments.work / f"objects-{len(images)}.pkl"
    if kept.exists():
        examples = pickle.loads(kept.read_bytes())  # noqa: S301 - our own file
    else:
        rows = [first_examples(image, file) for image, file in zip(images, files, strict=True)]
        fold = np.arange(len(images)) % _FOLDS
        examples = []
        rankers = [
            fit(
                *(
                    np.concatenate([r[part] for r, f in zip(rows, fold, strict=True) if f != each])
                    for part in (0, 1)
                )
            )
            for each in range(_FOLDS)
        ]
        for image, file, each in zip(images, files, fold.tolist(), strict=True):
            examples.append(finished_example(image, file, segmenter, rankers[each]))
            print(f"{image.name}: {len(examples[-1].best_iou)} masks", flush=True)
        kept.write_bytes(pickle.dumps(examples))
    if arguments.check:
        check(examples)
        return
    ranker = fit_objects(examples)
    path = Path(segdex_ingest.masks.rank.__file__).parent / "rankers" / f"{segmenter.decoder_id}-objects.npz"
    arrays = {field.name: getattr(ranker, field.name).astype(np.float16) for field in fields(ranker)}
    np.savez(path, **arrays)
    masks = sum(len(one.best_iou) for one in examples)
    print(f"{path.name}: {masks} masks of {len(examples)} pictures, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
