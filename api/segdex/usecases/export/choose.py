"""The images and segments of an export, read from the index in parts of a bounded size."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from segdex.usecases.export.annotate import Categories, Redrawn, annotation_of
from segdex.usecases.export.names import common_root, file_names
from segdex_core.errors import NotFoundError
from segdex_core.formats.annotations import AnnotatedImage, Annotation
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import EVERYTHING, ImageRecord, SegmentFilter, SegmentRecord
from segdex_core.slices import slices
from segdex_core.wire.limits import Level

_IMAGES_AT_ONCE = 32
_IDS_AT_ONCE = 1_000

Found = Mapping[UUID, Sequence[Annotation]]
"""Annotations of some images."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What an export holds.

    Attributes:
        uris: ``file:`` URI of each image.
        annotations: Returns the annotations of some of these images.
    """

    uris: Mapping[UUID, str]
    annotations: Callable[[Sequence[UUID]], Found]


@dataclass(frozen=True, slots=True)
class Hit:
    """A segment that was chosen by its id.

    Attributes:
        segment_id: Its id.
        image_id: Id of its image.
        score: Score of the search that found it; None if it was not searched for.
        redrawn: Mask that replaces the stored one; None to keep it.
    """

    segment_id: UUID
    image_id: UUID
    score: float | None = None
    redrawn: Redrawn | None = field(default=None, repr=False)


def choose_all(index: SegmentIndex, where: SegmentFilter, *, level: Level, categories: Categories) -> Choice:
    """Choose all segments that meet a filter, and with no filter also the images without segments.

    Args:
        index: Index to export from.
        where: Conditions of the segments.
        level: ``whole`` leaves out segments inside others, ``part`` leaves out all others.
        categories: How segments get their categories.
    """
    if level == "part":
        where = replace(where, min_depth=1)

    def wanted(some: SegmentFilter) -> Iterator[SegmentRecord]:
        return (one for one in index.scroll_segments(some) if level != "whole" or not one.ancestor_ids)

    def annotations(image_ids: Sequence[UUID]) -> Found:
        found: dict[UUID, list[Annotation]] = defaultdict(list)
        for one in wanted(replace(where, image_ids=tuple(image_ids))):
            found[one.image_id].append(annotation_of(one, categories, score=None, redrawn=None))
        return found

    if where == EVERYTHING and level == "any":
        return Choice(_shown(index.scroll_images()), annotations)
    return Choice(_uris_of(index, list({one.image_id for one in wanted(where)})), annotations)


def choose_hits(index: SegmentIndex, hits: Sequence[Hit], *, categories: Categories) -> Choice:
    """Choose segments by their ids.

    Raises:
        NotFoundError: If a segment is not in the index.
    """
    by_image: dict[UUID, dict[UUID, Hit]] = defaultdict(dict)
    for hit in hits:
        by_image[hit.image_id][hit.segment_id] = hit

    def annotations(image_ids: Sequence[UUID]) -> Found:
        chosen = {key: hit for image_id in image_ids for key, hit in by_image[image_id].items()}
        found: dict[UUID, list[Annotation]] = defaultdict(list)
        for one in _segments(index, list(chosen)):
            hit = chosen[one.segment_id]
            made = annotation_of(one, categories, score=hit.score, redrawn=hit.redrawn)
            found[one.image_id].append(made)
        return found

    return Choice(_uris_of(index, list(by_image)), annotations)


def hits_of_ids(index: SegmentIndex, segment_ids: Sequence[UUID]) -> list[Hit]:
    """Return segments that were named one by one.

    Raises:
        NotFoundError: If a segment is not in the index.
    """
    found = {one.segment_id: one.image_id for one in _segments(index, segment_ids)}
    for segment_id in segment_ids:
        if segment_id not in found:
            raise NotFoundError(f"there is no segment {segment_id} in {index.location}")
    return [Hit(segment_id, image_id) for segment_id, image_id in found.items()]


@dataclass(frozen=True, slots=True)
class Named:
    """The images of a choice, in the order of their names.

    Attributes:
        root: Folder that the names are relative to, for display.
        names: Name of each image.
    """

    root: str
    names: Mapping[UUID, str]


def named(choice: Choice, *, safe: bool) -> Named:
    """Return the names of the images of a choice; see ``file_names``."""
    names = file_names(choice.uris, safe=safe)
    ordered = dict(sorted(names.items(), key=lambda one: one[1]))
    return Named(str(common_root(choice.uris)), ordered)


def annotated(
    index: SegmentIndex, choice: Choice, names: Mapping[UUID, str]
) -> Iterator[tuple[AnnotatedImage, ImageRecord]]:
    """Yield the images of a choice with their annotations, largest first, in the order of the names.

    Images that another process deletes meanwhile are left out.
    """
    for some in slices(list(names), _IMAGES_AT_ONCE):
        found = choice.annotations(some)
        for record in index.get_images(some):
            if not record.is_shown:
                continue
            ordered = sorted(found.get(record.image_id, ()), key=lambda one: (-one.area_px, one.segment_id))
            yield (
                AnnotatedImage(
                    image_id=record.image_id,
                    sha256=record.sha256,
                    uri=record.files[0].uri,
                    file_name=names[record.image_id],
                    width=record.width,
                    height=record.height,
                    captured_s=record.captured_s,
                    annotations=tuple(ordered),
                ),
                record,
            )


def _uris_of(index: SegmentIndex, image_ids: Sequence[UUID]) -> dict[UUID, str]:
    uris: dict[UUID, str] = {}
    for some in slices(image_ids, _IDS_AT_ONCE):
        uris.update(_shown(iter(index.get_images(some))))
    return uris


def _shown(records: Iterator[ImageRecord]) -> dict[UUID, str]:
    return {record.image_id: record.files[0].uri for record in records if record.is_shown}


def _segments(index: SegmentIndex, ids: Sequence[UUID]) -> Iterator[SegmentRecord]:
    for some in slices(ids, _IDS_AT_ONCE):
        yield from index.get_segments(some)
