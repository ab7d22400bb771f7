"""Results of a search evaluation, and their metrics: with intervals, and as the difference of two runs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segdex.evaluation.metrics import LARGE_FROM_PX, SMALL_BELOW_PX, Floats
from segdex_core.errors import UsageError
from segdex_core.files import write_durably

IMAGE_RANKS = (1, 5, 10)
RESAMPLES = 1_000
"""Number of resamples of the images, with replacement; intervals are their 2.5th to 97.5th percentiles."""

_SEED = 0
_FORMAT = 1  # version of saved runs


@dataclass(frozen=True, slots=True)
class QueryRecord:
    """Results of one class name.

    Attributes:
        text: Class name.
        is_known: Whether the class name is in the vocabulary of the embedder; None if it has no vocabulary.
        instances: Number of instances to find by image; images without an instance are left out.
        hits: Image of each hit that counts, best first, and whether the hit is right.
        pictures: Each image that counts, best first, and whether it shows the class.
        first_right: Whether the first segment of an image is an instance, by image with an instance.
        largest_px: Area of the largest instance in pixels, by image with an instance.
        said_absent: Whether the answer over the whole collection was "not there".
        said_absent_without: Whether the answer over the collection without the images that show the class was
            "not there"; None if no image is left.
        elapsed_ms: Wall milliseconds of the answer.
    """

    text: str
    is_known: bool | None
    instances: Mapping[str, int]
    hits: tuple[tuple[str, bool], ...]
    pictures: tuple[tuple[str, bool], ...]
    first_right: Mapping[str, bool]
    largest_px: Mapping[str, int]
    said_absent: bool
    said_absent_without: bool | None
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class TextRecord:
    """Result of a longer text, or a query image, that refers to one image or one object in it.

    Attributes:
        kind: ``ref`` (a human description of one object), ``caption``, ``pair_picture`` or ``pair_text``.
        image: Name of the image that the query refers to.
        rank: Rank of the image in the answer, from 1; None if it is not in the answer.
        is_right: Whether the first segment of the image is the object of a ``ref``; None for other kinds.
    """

    kind: str
    image: str
    rank: int | None
    is_right: bool | None = None


@dataclass(frozen=True, slots=True)
class SearchReport:
    """The results of a run.

    Attributes:
        images: Names of the images that were searched.
        queries: Results of each class name, sorted by name.
        texts: Results of refs, captions and pairs.
    """

    images: tuple[str, ...]
    queries: tuple[QueryRecord, ...]
    texts: tuple[TextRecord, ...] = ()

    def to_json(self) -> dict[str, int | float | None]:
        """Return every metric with its interval, ``_low`` and ``_high``, as JSON values.

        ``map``, ``p_at_1``, ``p_at_10`` and ``image_recall_k`` are means over the class names.
        ``image_recall_k`` is the share of class names for which an image with the class is among the first k
        images that count. ``right_in_picture`` is a mean over images and class names; ``_small``, ``_medium``
        and ``_large`` select by the largest instance. ``absent_true`` is the share of class names that are
        reported as "not there" in the collection without them, ``absent_false`` the share in the whole
        collection.
        """
        elapsed_ms = [one.elapsed_ms for one in self.queries]
        values: dict[str, int | float | None] = {
            "images": len(self.images),
            "instances": sum(sum(one.instances.values()) for one in self.queries),
            "queries": len(self.queries),
        }
        for name, resampled in self._resampled().items():
            values |= _with_interval(name, resampled)
        if elapsed_ms:
            values["latency_p50_ms"] = round(float(np.percentile(elapsed_ms, 50)), 2)
            values["latency_p95_ms"] = round(float(np.percentile(elapsed_ms, 95)), 2)
        return values

    def compare(self, before: "SearchReport") -> dict[str, float | None]:
        """Return ``gain_NAME`` of every metric over an earlier run, with its interval, resampled in pairs.

        Raises:
            UsageError: If the runs searched other images, or searched for other names.
        """
        names = [one.text for one in self.queries]
        if self.images != before.images or names != [one.text for one in before.queries]:
            raise UsageError("the runs cannot be compared: they searched other pictures or asked other names")
        mine, theirs = self._resampled(), before._resampled()  # noqa: SLF001 - of the same class
        gains: dict[str, float | None] = {}
        for name in mine.keys() & theirs.keys():
            gains |= _with_interval(f"gain_{name}", mine[name] - theirs[name])
        return dict(sorted(gains.items()))

    def save(self, path: Path) -> None:
        """Save the results, for a later ``compare``.

        Raises:
            UsageError: If the file cannot be written.
        """
        try:
            write_durably(path, (json.dumps({"format": _FORMAT, **asdict(self)}) + "\n").encode())
        except OSError as error:
            raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path) -> "SearchReport":
        """Load the results that ``save`` wrote.

        Raises:
            UsageError: If the file is not a saved run.
        """
        try:
            content = json.loads(path.read_text())
            if content["format"] != _FORMAT:
                raise UsageError(f"{path} was saved by another version of segdex; run that evaluation again")
            return cls(
                images=tuple(content["images"]),
                queries=tuple(
                    QueryRecord(
                        **{
                            **one,
                            "hits": tuple((name, right) for name, right in one["hits"]),
                            "pictures": tuple((name, has) for name, has in one["pictures"]),
                        }
                    )
                    for one in content["queries"]
                ),
                texts=tuple(TextRecord(**one) for one in content["texts"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is no saved run of eval search: {error}") from error

    def _resampled(self) -> dict[str, Floats]:
        """Return (1 + RESAMPLES,) values of each metric; the first value is that of all images, once each."""
        rng = np.random.default_rng(_SEED)
        count = len(self.images)
        draws = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
        sample = _Sample({name: i for i, name in enumerate(self.images)}, np.vstack([np.ones(count), draws]))
        figures: dict[str, Floats] = {}
        for name, of_query in _QUERY_FIGURES.items():
            figures[name] = _mean([of_query(one, sample) for one in self.queries])
        for name, is_known in (("map_known", True), ("map_unknown", False)):
            chosen = [one for one in self.queries if one.is_known is is_known]
            if chosen:
                figures[name] = _mean([_average_precision(one, sample) for one in chosen])
        figures |= _right_in_picture(self.queries, sample)
        figures |= _absent(self.queries, rng)
        figures |= _texts(self.texts, sample)
        return figures


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Column of each image, and (b, n) counts of the images in b samples."""

    place: Mapping[str, int]
    times: Floats

    def of(self, names: Sequence[str]) -> Floats:
        """Return the (b, len(names)) counts of some images."""
        return self.times[:, [self.place[name] for name in names]]


def _average_precision(one: QueryRecord, sample: _Sample) -> Floats:
    """Return (b,) average precisions; NaN if a sample has no instance."""
    times = sample.of([name for name, _ in one.hits])
    right = times * np.array([is_right for _, is_right in one.hits], bool)
    precision = np.cumsum(right, axis=1) / np.maximum(np.cumsum(times, axis=1), 1)
    return _ratio((right * precision).sum(axis=1), _instances(one, sample))


def _precision_at(one: QueryRecord, sample: _Sample, k: int) -> Floats:
    times = sample.of([name for name, _ in one.hits])
    before = np.cumsum(times, axis=1) - times
    shown = np.clip(k - before, 0, times)  # if an image was drawn twice, as many hits as still fit
    right = (shown * np.array([is_right for _, is_right in one.hits], bool)).sum(axis=1)
    return np.where(_instances(one, sample) > 0, right / k, np.nan)


def _image_recall(one: QueryRecord, sample: _Sample, k: int) -> Floats:
    times = sample.of([name for name, _ in one.pictures])
    before = np.cumsum(times, axis=1) - times
    has_class = np.array([has for _, has in one.pictures], bool)
    found = ((times > 0) & has_class & (before < k)).any(axis=1)
    return np.where(_instances(one, sample) > 0, found, np.nan)


def _instances(one: QueryRecord, sample: _Sample) -> Floats:
    names = list(one.instances)
    total: Floats = sample.of(names) @ np.array([one.instances[name] for name in names], np.float64)
    return total


_QUERY_FIGURES: Mapping[str, Callable[[QueryRecord, _Sample], Floats]] = {
    "map": _average_precision,
    "p_at_1": partial(_precision_at, k=1),
    "p_at_10": partial(_precision_at, k=10),
    **{f"image_recall_{k}": partial(_image_recall, k=k) for k in IMAGE_RANKS},
}


def _right_in_picture(queries: Sequence[QueryRecord], sample: _Sample) -> dict[str, Floats]:
    rows = [(name, right, one.largest_px[name]) for one in queries for name, right in one.first_right.items()]
    if not rows:
        return {}
    right, largest = np.array([row[1] for row in rows], np.float64), np.array([row[2] for row in rows])
    times = sample.of([row[0] for row in rows])
    figures = {}
    for suffix, chosen in (
        ("", largest > 0),
        ("_small", largest < SMALL_BELOW_PX),
        ("_medium", (largest >= SMALL_BELOW_PX) & (largest < LARGE_FROM_PX)),
        ("_large", largest >= LARGE_FROM_PX),
    ):
        if chosen.any():
            some = times[:, chosen]
            figures[f"right_in_picture{suffix}"] = _ratio(some @ right[chosen], some.sum(axis=1))
    return figures


def _absent(queries: Sequence[QueryRecord], rng: np.random.Generator) -> dict[str, Floats]:
    """Return both metrics; the class names are resampled, because each is one answer over all images."""
    figures = {}
    for name, said in (
        ("absent_true", [one.said_absent_without for one in queries if one.said_absent_without is not None]),
        ("absent_false", [one.said_absent for one in queries]),
    ):
        if said:
            values = np.array(said, np.float64)
            draws = rng.integers(0, len(values), (RESAMPLES, len(values)))
            figures[name] = np.concatenate([[values.mean()], values[draws].mean(axis=1)])
    return figures


def _texts(texts: Sequence[TextRecord], sample: _Sample) -> dict[str, Floats]:
    figures = {}
    for kind in sorted({one.kind for one in texts}):
        some = [one for one in texts if one.kind == kind]
        times = sample.of([one.image for one in some])
        for k in IMAGE_RANKS:
            found = np.array([one.rank is not None and one.rank <= k for one in some], np.float64)
            figures[f"{kind}_image_recall_{k}"] = _ratio(times @ found, times.sum(axis=1))
        judged = np.array([one.is_right is not None for one in some])
        if judged.any():
            right = np.array([bool(one.is_right) for one in some], np.float64)[judged]
            figures[f"{kind}_right_in_picture"] = _ratio(
                times[:, judged] @ right, times[:, judged].sum(axis=1)
            )
    return figures


def _mean(values: Sequence[Floats]) -> Floats:
    """Return the mean over the class names that a sample has."""
    if not values:
        return np.full(1 + RESAMPLES, np.nan)
    rows = np.stack(values)
    present = ~np.isnan(rows)
    return _ratio(np.where(present, rows, 0).sum(axis=0), present.sum(axis=0))


def _ratio(a: npt.NDArray[np.number], b: npt.NDArray[np.number]) -> Floats:
    ratio: Floats = np.where(b > 0, a / np.maximum(b, 1), np.nan)
    return ratio


def _with_interval(name: str, values: Floats) -> dict[str, float | None]:
    found = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(found, [2.5, 97.5]) if len(found) else (np.nan, np.nan)
    return {
        key: _rounded(value)
        for key, value in ((name, values[0]), (f"{name}_low", low), (f"{name}_high", high))
    }


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
