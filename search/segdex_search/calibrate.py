"""What scores mean: numbers that belong to an embedder, not to a question.

The cosines of two embedders cannot be compared: those of a CLIP lie in a narrow cone, those of ConSE do not.
So what the object score counts, and below what a picture does not show what is asked for, belong to an
embedder. Those of the offline profile were fitted (docs/research/search.md); ``segdex calibrate`` makes them
for another one, from an index that it filled, and embedders that nobody calibrated take ``UNKNOWN``.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from segdex_core.errors import UsageError
from segdex_core.wire.limits import Level
from segdex_search.queries import SearchQuery, TextTerm


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the scores of one embedder are read.

    Attributes:
        object_weight: What an object score of 1 adds to the score of a segment, 0 or more.
        threshold: Presence scores below mean "not there" where one picture is looked at.
        growth: Added to the threshold for each unit of the natural logarithm of the number of pictures: the
            best of many is higher by chance alone.
    """

    object_weight: float
    threshold: float
    growth: float

    def __post_init__(self) -> None:
        if (
            not all(map(math.isfinite, (self.object_weight, self.threshold, self.growth)))
            or self.object_weight < 0
        ):
            raise ValueError(f"a calibration has finite numbers, the weight 0 or more, but is {self}")

    def threshold_of(self, pictures: int) -> float:
        """Return the threshold where the best of so many pictures is looked for."""
        return self.threshold + self.growth * math.log(max(pictures, 1))


UNKNOWN = Calibration(object_weight=0.05, threshold=1.2, growth=0.15)
"""Chosen, not measured: a small weight for a narrow cone of cosines, and thresholds that lose little."""

_SHIPPED: Mapping[str, Calibration] = MappingProxyType(
    {"conse": Calibration(object_weight=0.085, threshold=0.0, growth=0.55)}
)
"""By the first word of an embedder's fingerprint."""

_LEVEL_FACTORS: Mapping[Level, float] = MappingProxyType({"any": 1.0, "whole": 3.0, "part": 0.0})


def shipped_calibration(embedder_fingerprint: str) -> Calibration:
    """Return what is known of an embedder without a file."""
    return _SHIPPED.get(embedder_fingerprint.split("/", maxsplit=1)[0], UNKNOWN)


def object_weight(query: SearchQuery, calibration: Calibration) -> float:
    """Return what the object score counts in a question.

    It is there for texts, which mean whole objects more often than their parts. A picture or a segment shows
    what is meant, and counts by its share of the positive weights.
    """
    towards = [term for term in query.terms if term.weight > 0]
    of_texts = sum(term.weight for term in towards if isinstance(term, TextTerm))
    share = of_texts / sum(term.weight for term in towards)
    return calibration.object_weight * _LEVEL_FACTORS[query.level] * share


def calibration_file(folder: Path, embedder_fingerprint: str) -> Path:
    """Return where the calibration of an embedder is kept in a folder."""
    return folder / f"{sha256(embedder_fingerprint.encode()).hexdigest()[:16]}.json"


def load_calibration(folder: Path, embedder_fingerprint: str) -> Calibration:
    """Return what ``segdex calibrate`` wrote for an embedder, else what is known of it.

    Raises:
        UsageError: If the file cannot be read.
    """
    path = calibration_file(folder, embedder_fingerprint)
    if not path.exists():
        return shipped_calibration(embedder_fingerprint)
    try:
        content = json.loads(path.read_text())
        return Calibration(**{name: float(content[name]) for name in Calibration.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no calibration ({error}); make it anew with: segdex calibrate"
        ) from error


def save_calibration(folder: Path, embedder_fingerprint: str, calibration: Calibration) -> Path:
    """Write a calibration, and return its file."""
    path = calibration_file(folder, embedder_fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    content = {**asdict(calibration), "embedder": embedder_fingerprint}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
