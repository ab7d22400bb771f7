"""The category of a segment, and its annotation in an export."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from segdex_core.errors import QueryError
from segdex_core.formats.annotations import NO_CATEGORY, Annotation
from segdex_core.masks import MaskRLE, rle_area_px, rle_box
from segdex_core.records import SegmentLabel, SegmentRecord
from segdex_core.wire.limits import MAX_CATEGORY_CHARS
from segdex_core.wire.search import WeightedText
from segdex_search.grammar import parse_text
from segdex_search.queries import ConceptTerm

_TRUST = ("person", "concept", "model")
"""Kinds of authors of labels, the most trustworthy first."""


@dataclass(frozen=True, slots=True)
class Categories:
    """How a segment gets its one category.

    Attributes:
        given: The category of all segments; None for that of their labels.
        wanted: Labels that were asked for; one of them is preferred to other labels.
        asked: What a segment without labels was found by; None if it was not searched for by a text.
    """

    given: str | None
    wanted: Collection[str] = ()
    asked: str | None = None

    def of(self, labels: Sequence[str]) -> str:
        """Return the category of a segment with labels, the best of them first."""
        if self.given is not None:
            return self.given
        wanted = [name for name in labels if name in self.wanted]
        return next(iter((*wanted, *labels)), self.asked or NO_CATEGORY)


@dataclass(frozen=True, slots=True)
class Redrawn:
    """A mask that replaces the stored one in an export.

    Attributes:
        mask: Mask at the size of the image.
        predicted_iou: The model's estimate of its IoU.
    """

    mask: MaskRLE
    predicted_iou: float


def annotation_of(
    record: SegmentRecord, categories: Categories, *, score: float | None, redrawn: Redrawn | None
) -> Annotation:
    """Return a segment as an annotation.

    Args:
        record: The stored segment.
        categories: How it gets its category.
        score: Score of the search that found it; None if it was not searched for.
        redrawn: Mask that replaces the stored one; None to keep it.
    """
    labels = ranked_labels(record.labels)
    mask = record.mask if redrawn is None else redrawn.mask
    return Annotation(
        segment_id=record.segment_id,
        category=categories.of(labels),
        labels=labels,
        mask=mask,
        box=rle_box(mask),
        area_px=rle_area_px(mask),
        score=score,
        predicted_iou=record.predicted_iou if redrawn is None else redrawn.predicted_iou,
        object_score=record.object_score,
    )


def ranked_labels(labels: Iterable[SegmentLabel]) -> tuple[str, ...]:
    """Return the names of labels, the best first: those of people, of concepts, of models; then by score."""

    def rank(label: SegmentLabel) -> tuple[int, float, str]:
        kind = label.author.partition(":")[0]
        return _TRUST.index(kind), -(label.score or 0.0), label.name

    return tuple(dict.fromkeys(label.name for label in sorted(labels, key=rank)))


def asked_category(texts: Sequence[str | WeightedText]) -> str | None:
    """Return what a question looks for as a category: its phrases and concepts; None without a text.

    Example:
        >>> asked_category(["umbrella -red"]), asked_category(["concept:valve"]), asked_category([])
        ('umbrella', 'valve', None)
    """
    names: list[str] = []
    for text in texts:
        try:
            terms = parse_text(text if isinstance(text, str) else text.text).terms
        except QueryError:  # the search says so
            continue
        names += [one.name if isinstance(one, ConceptTerm) else one.text for one in terms if one.weight > 0]
    clean = " ".join(", ".join(dict.fromkeys(names)).split())
    printable = "".join(character for character in clean if character.isprintable())
    return printable[:MAX_CATEGORY_CHARS].strip() or None
