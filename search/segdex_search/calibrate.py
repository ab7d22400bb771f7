"""Calibration: how the scores of an embedder are interpreted.

Cosines of two embedders cannot be compared: CLIP vectors lie in a narrow cone, ConSE vectors do not. The
weight of the object score and the presence threshold therefore belong to an embedder. The values for the
offline profile were fitted (docs/research/search.md). ``segdex calibrate`` fits them for another embedder, on
an index that the embedder filled. Embedders without a calibration use ``UNKNOWN``.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from segdex_core.errors import UsageError
from segdex_core.files import write_durably
from segdex_core.wire.limits import Level
from segdex_search.queries import ConceptTerm, SearchQuery, TextTerm


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the scores of one embedder are interpreted.

    Attributes:
        object_weight: Score that an object score of 1 adds to a segment, 0 or more.
        threshold: Minimum presence score of a match in a search of one image.
        growth: Increase of the threshold per unit of the natural logarithm of the number of images: the best
            of many images scores higher by chance.
        colour_weight: Score that a segment gains which is all of the colour that a text names, 0 or more.
        label_threshold: Minimum score of a label that fits a segment, see ``LabelScorer``; above 0.
    """

    object_weight: float
    threshold: float
    growth: float
    colour_weight: float = 0.0
    label_threshold: float = 2.0

    def __post_init__(self) -> None:
        values = asdict(self)
        if (
            not all(map(math.isfinite, values.values()))
            or min(self.object_weight, self.colour_weight) < 0
            or self.label_threshold <= 0
        ):
            raise ValueError(
                "a calibration has finite numbers, the weights 0 or more and the threshold of labels above "
                f"0, but is {self}"
            )

    def threshold_of(self, pictures: int) -> float:
        """Return the threshold for a search of this many images."""
        return self.threshold + self.growth * math.log(max(pictures, 1))


UNKNOWN = Calibration(object_weight=0.05, threshold=1.2, growth=0.15, colour_weight=0.1)
"""Chosen, not measured: small weights for a narrow cone of cosines, thresholds that lose few matches, and
labels where a word is 3 standard deviations above others on what is two thirds likely to be an object."""

_SHIPPED: Mapping[str, Calibration] = MappingProxyType(
    {
        "conse": Calibration(
            object_weight=0.085, threshold=0.0, growth=0.55, colour_weight=0.2, label_threshold=5.0
        )
    }
)
"""Calibrations by the first part of the embedder's fingerprint."""

_LEVEL_FACTORS: Mapping[Level, float] = MappingProxyType({"any": 1.0, "whole": 3.0, "part": 0.0})


def shipped_calibration(embedder_fingerprint: str) -> Calibration:
    """Return the shipped calibration of an embedder, or ``UNKNOWN``."""
    return _SHIPPED.get(embedder_fingerprint.split("/", maxsplit=1)[0], UNKNOWN)


def object_weight(query: SearchQuery, calibration: Calibration) -> float:
    """Return the weight of the object score for a query.

    The object score is meant for texts, which name whole objects more often than parts. Images and segments
    show what is meant, so the weight is scaled by the share of texts in the positive weights. What a concept
    has learnt does not count: it corrects the text of the concept.
    """
    towards = [term for term in query.terms if term.weight > 0 and not isinstance(term, ConceptTerm)]
    of_texts = sum(term.weight for term in towards if isinstance(term, TextTerm))
    share = of_texts / sum(term.weight for term in towards) if of_texts else 0.0
    return calibration.object_weight * _LEVEL_FACTORS[query.level] * share


def calibration_file(folder: Path, embedder_fingerprint: str) -> Path:
    """Return the path of an embedder's calibration in a folder."""
    return folder / f"{sha256(embedder_fingerprint.encode()).hexdigest()[:16]}.json"


def load_calibration(folder: Path, embedder_fingerprint: str) -> Calibration:
    """Return the calibration that ``segdex calibrate`` wrote for an embedder, or the shipped calibration.

    Raises:
        UsageError: If the file cannot be read.
    """
    path = calibration_file(folder, embedder_fingerprint)
    if not path.exists():
        return shipped_calibration(embedder_fingerprint)
    try:
        content = json.loads(path.read_text())
        shipped = asdict(shipped_calibration(embedder_fingerprint))
        # a file of an earlier segdex has neither a colour weight nor a threshold of labels
        content = {name: shipped[name] for name in ("colour_weight", "label_threshold")} | content
        return Calibration(**{name: float(content[name]) for name in shipped})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no calibration ({error}); make it anew with: segdex calibrate"
        ) from error


@dataclass(frozen=True, slots=True)
class CalibrationProblem:
    """What is wrong with the file of a calibration.

    Attributes:
        detail: One line.
        is_useless: Whether nothing in the file can be used.
    """

    detail: str
    is_useless: bool


def calibration_problem(folder: Path, embedder_fingerprint: str) -> CalibrationProblem | None:
    """Return what is wrong with the calibration of an embedder; None if it is sound, or if there is none."""
    path = calibration_file(folder, embedder_fingerprint)
    if not path.exists():
        return None
    try:
        load_calibration(folder, embedder_fingerprint)
        content = json.loads(path.read_text())
    except UsageError as error:
        return CalibrationProblem(str(error), is_useless=True)
    made_for = content.get("embedder", embedder_fingerprint)
    if made_for != embedder_fingerprint:
        return CalibrationProblem(f"it is of the embedder {made_for}", is_useless=True)
    lacking = sorted(asdict(shipped_calibration(embedder_fingerprint)).keys() - content.keys())
    if lacking:
        detail = f"an earlier version wrote it, without {', '.join(lacking)}"
        return CalibrationProblem(detail, is_useless=False)
    return None


def save_calibration(folder: Path, embedder_fingerprint: str, calibration: Calibration) -> Path:
    """Write a calibration, and return the path of its file."""
    path = calibration_file(folder, embedder_fingerprint)
    content = {**asdict(calibration), "embedder": embedder_fingerprint}
    write_durably(path, (json.dumps(content, indent=1) + "\n").encode())
    return path
