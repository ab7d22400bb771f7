"""What can be wrong with a stored picture and its segments: functions of what is stored alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdex_core.ids import make_image_id, make_segment_id
from segdex_core.masks import rle_area_px, rle_box
from segdex_core.ports.examination import Found
from segdex_core.records import ImageRecord, SegmentRecord
from segdex_core.sets import SetMember, sets_by_member, sets_of
from segdex_core.wire.doctor import FindingKind
from segdex_core.wording import count_of

UNIT_TOLERANCE = 0.005
"""How far the length of a vector may be from 1; half precision rounds a length by a tenth of this."""

_SCORE_TOLERANCE = 1e-5
_FRACTION_TOLERANCE = 1e-6

_UNFINISHED = {
    "write": "its segments are being written, or were written in part",
    "copy": "its files, tags or time are being copied to its segments, or were copied in part",
    "delete": "it is being deleted, or was deleted in part",
}


@dataclass(frozen=True, slots=True, eq=False)
class StoredPicture:
    """Everything that an index holds of one picture.

    Attributes:
        image: Its record.
        segments: Its segments with their vectors.
        members: Members of sets that are the picture or segments of it.
    """

    image: Found[ImageRecord]
    segments: Sequence[Found[SegmentRecord]]
    members: Sequence[Found[SetMember]]


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of damage of a picture.

    Attributes:
        kind: The kind.
        detail: What is wrong, in one line.
    """

    kind: FindingKind
    detail: str


def problems_of(picture: StoredPicture) -> list[Problem]:
    """Return the problems of a picture and its segments, one of each kind.

    Files are not looked at. What belongs to a change that is not finished is no problem of its own.
    """
    record = picture.image.record
    if record is not None and record.pending is not None:
        return [Problem("unfinished_picture", _UNFINISHED[record.pending.kind])]
    found = [*_of_image(picture.image)]
    by_kind: dict[FindingKind, list[str]] = {}
    for kind, detail in _of_segments(picture):
        by_kind.setdefault(kind, []).append(detail)
    for kind, details in by_kind.items():
        more = f" (and {len(details) - 1:,} more)" if len(details) > 1 else ""
        found.append(Problem(kind, f"{details[0]}{more}"))
    if record is not None:
        found += _of_count(record, len(picture.segments))
    return found


def _of_count(record: ImageRecord, stored: int) -> Iterator[Problem]:
    said = record.segment_count
    detail = f"its record says {count_of(said, 'segment')}, but the index has {stored:,}"
    if stored < said:
        yield Problem("missing_segments", detail)
    elif stored > said:
        yield Problem("extra_segments", detail)
    elif (record.status == "no_segments") != (said == 0):
        yield Problem("missing_segments", f"its record says {record.status!r} and {said:,} segments")


def _of_image(image: Found[ImageRecord]) -> Iterator[Problem]:
    if image.record is None:
        digest = image.payload.get("sha256")
        if isinstance(digest, str) and make_image_id(digest) != image.point_id:
            yield Problem("wrong_id", f"the id of the picture does not belong to its sha256 {digest}")
        else:
            yield Problem("unreadable_picture", image.problem)
    problem = image.vector_problem or next(_of_vectors(image.vectors), "")
    if problem:
        yield Problem("damaged_vector", f"the vector of the whole picture: {problem}")


def _of_segments(picture: StoredPicture) -> Iterator[tuple[FindingKind, str]]:
    ids = {one.point_id for one in picture.segments}
    members = sets_by_member(one.record for one in picture.members if one.record is not None)
    for one in picture.segments:
        what = f"segment {one.point_id}"
        for kind, detail in of_segment(one):
            yield kind, f"{what}: {detail}"
        if one.record is None:
            continue
        image = picture.image.record
        if image is not None:
            for kind, detail in _against_image(one.record, image):
                yield kind, f"{what}: {detail}"
        lost = [key for key in one.record.ancestor_ids if key not in ids or key == one.point_id]
        if lost:
            yield "ancestors", f"{what}: {lost[0]}, which should contain it, is no other of this picture"
        if one.record.sets != sets_of(one.record, members):
            yield "marks", f"{what}: the sets that it names are not those that it is in"


def of_segment(one: Found[SegmentRecord]) -> Iterator[tuple[FindingKind, str]]:
    """Yield what is wrong with a segment by itself."""
    record = one.record
    if record is None:
        score = one.payload.get("object_score")
        if isinstance(score, float | int) and not 0 <= score <= 1:
            yield "object_score", f"its object score is {score}, and not between 0 and 1"
        else:
            yield "unreadable_segment", one.problem
    else:
        yield from _of_mask(record)
        if make_segment_id(record.image_id, record.mask) != one.point_id:
            yield "wrong_id", "its id does not belong to its picture and mask"
        stored = one.vector_score
        if stored is not None and not abs(stored - record.object_score) <= _SCORE_TOLERANCE:
            yield (
                "object_score",
                f"its vector has the object score {stored:.4g}, not {record.object_score:.4g}",
            )
    problem = one.vector_problem or next(_of_vectors(one.vectors), "")
    if problem:
        yield "damaged_vector", problem


def _of_mask(record: SegmentRecord) -> Iterator[tuple[FindingKind, str]]:
    try:
        area, box = rle_area_px(record.mask), rle_box(record.mask)
    except ValueError as error:
        yield "damaged_mask", str(error)
        return
    if area < 1 or area != record.area_px:
        yield "damaged_mask", f"its mask has {area:,} pixels, but it says {record.area_px:,}"
    elif box != record.box:
        yield "damaged_mask", f"its mask is in {tuple(box)}, but its box is {tuple(record.box)}"


def _against_image(record: SegmentRecord, image: ImageRecord) -> Iterator[tuple[FindingKind, str]]:
    height, width = record.mask.size_hw
    if record.mask.size_hw != image.size_hw:
        yield (
            "damaged_mask",
            f"its mask is of {width}x{height} pixels, its picture {image.width}x{image.height}",
        )
    elif abs(record.area_fraction - record.area_px / (width * height)) > _FRACTION_TOLERANCE:
        yield "damaged_mask", f"its share of the picture is said to be {record.area_fraction:.4g}, but is not"
    copied = (record.sources, record.tags, record.captured_s)
    if copied != (image.sources, image.tags, image.captured_s):
        yield "copied_fields", "its files, tags or time are not those of its picture"


def _of_vectors(vectors: Mapping[str, npt.NDArray[np.float32]]) -> Iterator[str]:
    for view, row in vectors.items():
        if not np.isfinite(row).all():
            yield f"the numbers of view {view!r} are not all finite"
            continue
        length = float(np.linalg.norm(row))
        if length and abs(length - 1) > UNIT_TOLERANCE:
            yield f"view {view!r} has length {length:.4g}, and not 1 or 0"


def loses_labels(picture: StoredPicture) -> bool:
    """Return whether somebody labelled a segment that no ingest can read its labels from."""
    unread = picture.image.record is None
    return any(is_labelled(one) for one in picture.segments if unread or one.record is None)


def is_labelled(one: Found[SegmentRecord]) -> bool:
    """Return whether somebody labelled a segment, which need not be readable."""
    return bool(one.payload.get("labels") if one.record is None else one.record.labels)
