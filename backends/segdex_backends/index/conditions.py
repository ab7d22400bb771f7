"""Conditions on stored points, in the few kinds that a ``PointStore`` has to know."""

from dataclasses import dataclass
from uuid import UUID

from segdex_core.records import SegmentFilter


@dataclass(frozen=True, slots=True)
class HasId:
    """The point is one of these."""

    ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Equals:
    """A field of the payload has this value, or is a list that contains it."""

    field: str
    value: str | int


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A field of the payload has one of these values, or is a list that contains one."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """A number of the payload is in a range; None is no limit.

    Attributes:
        field: The number.
        gte: Smallest value, inclusive.
        lte: Largest value, inclusive.
        lt: Upper limit, exclusive.
    """

    field: str
    gte: float | None = None
    lte: float | None = None
    lt: float | None = None


Condition = HasId | Equals | AnyOf | Between
Conditions = tuple[Condition, ...]
"""All of them hold; the empty tuple holds for every point."""


def segment_conditions(where: SegmentFilter) -> Conditions:
    """Return what a filter asks of the payload of a segment."""
    found: list[Condition] = [Equals("tags", tag) for tag in where.tags]
    if where.image_ids:
        found.append(AnyOf("image_id", tuple(map(str, where.image_ids))))
    if where.sources:
        found.append(AnyOf("sources", where.sources))
    if where.min_area_fraction is not None or where.max_area_fraction is not None:
        found.append(Between("area_fraction", gte=where.min_area_fraction, lte=where.max_area_fraction))
    if where.min_depth is not None:
        found.append(Between("depth", gte=where.min_depth))
    if where.captured_from_s is not None or where.captured_until_s is not None:
        found.append(Between("captured_s", gte=where.captured_from_s, lt=where.captured_until_s))
    return tuple(found)


def of_image(image_id: UUID) -> Conditions:
    """Return the condition on the segments of one picture."""
    return (Equals("image_id", str(image_id)),)
