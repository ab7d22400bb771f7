"""Conditions on stored points, in the few kinds that a ``PointStore`` must support."""

from dataclasses import dataclass
from uuid import UUID

from segdex_core.colours import ColourAtLeast
from segdex_core.records import SegmentFilter


@dataclass(frozen=True, slots=True)
class HasId:
    """The id of the point is in ``ids``."""

    ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class IsMissing:
    """The point does not have a field of the payload."""

    field: str


@dataclass(frozen=True, slots=True)
class Equals:
    """A field of the payload has the value, or is a list that contains it."""

    field: str
    value: str | int


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A field of the payload has one of the values, or is a list that contains one of them."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """A numeric field of the payload is in a range; None means no limit.

    Attributes:
        field: Name of the field.
        gte: Smallest value, inclusive.
        lte: Largest value, inclusive.
        lt: Upper limit, exclusive.
    """

    field: str
    gte: float | None = None
    lte: float | None = None
    lt: float | None = None


Condition = HasId | IsMissing | Equals | AnyOf | Between
Conditions = tuple[Condition, ...]
"""Conditions that must all hold; an empty tuple matches every point."""


def segment_conditions(where: SegmentFilter) -> Conditions:
    """Return the conditions of a filter on the payload of a segment."""
    found: list[Condition] = [Equals("tags", tag) for tag in where.tags]
    found += [Equals("colour_levels", colour_level(one)) for one in where.colours]
    if where.image_ids:
        found.append(AnyOf("image_id", tuple(map(str, where.image_ids))))
    if where.sources:
        found.append(AnyOf("sources", where.sources))
    if where.labels:
        found.append(AnyOf("labels", where.labels))
    if where.sets:
        found.append(AnyOf("sets", tuple(map(str, where.sets))))
    if where.min_area_fraction is not None or where.max_area_fraction is not None:
        found.append(Between("area_fraction", gte=where.min_area_fraction, lte=where.max_area_fraction))
    if where.min_depth is not None:
        found.append(Between("depth", gte=where.min_depth))
    if where.captured_from_s is not None or where.captured_until_s is not None:
        found.append(Between("captured_s", gte=where.captured_from_s, lt=where.captured_until_s))
    return tuple(found)


def colour_level(condition: ColourAtLeast) -> str:
    """Return what ``colour_levels`` of a segment contains if it meets a condition, such as ``red-30``."""
    return f"{condition.name}-{round(condition.share * 100)}"


def of_image(image_id: UUID) -> Conditions:
    """Return the condition for the segments of one image."""
    return (Equals("image_id", str(image_id)),)
