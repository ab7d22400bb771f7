"""Take annotations of another tool back, as labels of segments."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from uuid import UUID

from segdex_core.errors import UsageError
from segdex_core.formats.coco_reading import read_coco
from segdex_core.formats.documents import shown
from segdex_core.formats.imported import ImportedAnnotation, ImportedDocument, ImportedImage, shape_mask
from segdex_core.formats.label_studio_reading import read_label_studio
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import (
    MAX_LABEL_CHARS,
    ImageRecord,
    SegmentFilter,
    SegmentRecord,
)
from segdex_core.slices import slices
from segdex_core.wire.imports import ImportProblem, ImportReport, ImportRequest
from segdex_core.wire.limits import MAX_TEXT_CHARS, ImportFormat
from segdex_core.wording import printable
from segdex_search.answer import require_filled
from segdex_search.corrections import Correction, Said
from segdex_search.known_images import find_images
from segdex_search.labels import change_labels
from segdex_search.match import MatchedBy, Wanted, match_annotations
from segdex_search.queries import clean_labels

READERS: Mapping[ImportFormat, Callable[[bytes], ImportedDocument]] = MappingProxyType(
    {"coco": read_coco, "label-studio": read_label_studio}
)

_IMAGES_AT_ONCE = 64


def import_labels(
    request: ImportRequest,
    data: bytes,
    *,
    name: str,
    index: SegmentIndex,
    writing: AbstractContextManager[object],
    on_image: Callable[[int], None] = lambda _: None,
) -> ImportReport:
    """Label segments as a document of another tool says. Everything is read before anything is written.

    Args:
        request: How annotations become labels.
        data: The document.
        name: Name of the document, for messages.
        index: Where the segments are.
        writing: Held while labels are written.
        on_image: Called with a number of pictures that are done.

    Raises:
        UsageError: If the document cannot be read; nothing is written.
        IndexMissingError: If nothing was ingested yet.
    """
    started_s = time.perf_counter()
    require_filled(index)
    try:
        document = READERS[request.format](data)
        names = _clean_names(document)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
    counted = _Counted()
    pictures: dict[UUID, tuple[ImageRecord, list[ImportedImage]]] = {}
    for picture, known in zip(document.images, find_images(index, document.images), strict=True):
        if isinstance(known, ImageRecord):
            counted.images += 1
            pictures.setdefault(known.image_id, (known, []))[1].append(picture)
        else:
            counted.add_unknown(picture, known)
    on_image(counted.unknown_images)
    correction = Correction(f"person:{request.by}", time.time(), overrule=request.overrule)
    for some in slices(list(pictures.values()), _IMAGES_AT_ONCE):
        segments = _segments_of(index, [image.image_id for image, _ in some])
        said: dict[UUID, Said] = {}
        for image, parts in some:
            records = segments[image.image_id]
            for part in parts:
                _add_said(said, part, image, records, names=names, counted=counted, min_iou=request.min_iou)
            if request.remove_missing:
                missing = (one.segment_id for one in records if one.segment_id not in said)
                said.update({segment_id: Said(is_missing=True) for segment_id in missing})
            counted.add_changes([one for one in records if one.segment_id in said], said, correction)
        if not request.dry_run:
            with writing:
                change_labels(list(said), correction.all_of(said), index=index, writer=index)
        on_image(sum(len(parts) for _, parts in some))
    return ImportReport(
        format=request.format,
        author=correction.author,
        skipped_images=sum(document.skipped.values()),
        dry_run=request.dry_run,
        elapsed_s=round(time.perf_counter() - started_s, 3),
        **counted.values(),
    )


def _clean_names(document: ImportedDocument) -> dict[str, str]:
    """Return the label as it is stored for each name in a document.

    Raises:
        UsageError: If a name cannot be a label.
    """
    names: dict[str, str] = {}
    for image in document.images:
        for one in image.annotations:
            for label in one.labels:
                if label in names:
                    continue
                # a longer one would be repeated in the message
                clean = clean_labels([label])[0] if len(label) <= MAX_TEXT_CHARS else label
                if len(clean) > MAX_LABEL_CHARS or not clean.isprintable():
                    raise UsageError(
                        f"{one.name} of {shown(image.name)} has the label {shown(clean)}; a label has at "
                        f"most {MAX_LABEL_CHARS} printable characters"
                    )
                names[label] = clean
    return names


def _segments_of(index: SegmentIndex, image_ids: Sequence[UUID]) -> dict[UUID, list[SegmentRecord]]:
    segments: dict[UUID, list[SegmentRecord]] = {image_id: [] for image_id in image_ids}
    for record in index.scroll_segments(SegmentFilter(image_ids=tuple(image_ids))):
        segments[record.image_id].append(record)
    return segments


def _add_said(
    said: dict[UUID, Said],
    picture: ImportedImage,
    image: ImageRecord,
    records: Sequence[SegmentRecord],
    *,
    names: Mapping[str, str],
    counted: "_Counted",
    min_iou: float,
) -> None:
    """Add what the annotations of a picture say of its segments."""
    wanted: list[tuple[ImportedAnnotation, Wanted]] = []
    counted.annotations += len(picture.annotations)
    for one in picture.annotations:
        try:
            if one.shape is None:
                raise ValueError(one.problem)
            wanted.append((one, Wanted(shape_mask(one.shape, image.size_hw), one.segment_id)))
        except ValueError as error:
            counted.add_unmatched(picture, one, str(error))
    found = match_annotations([each for _, each in wanted], records, min_iou=min_iou)
    for (one, _), match in zip(wanted, found, strict=True):
        if match.record is None:
            counted.add_unmatched(
                picture, one, f"no segment of the picture is like it: the highest IoU is {match.iou:.2f}"
            )
            continue
        counted.matched[match.by] += 1
        of_segment = said.setdefault(match.record.segment_id, Said())
        of_segment.labels.update(dict.fromkeys(names[label] for label in one.labels))
        if one.exported is not None:
            of_segment.exported = (of_segment.exported or set()) | set(one.exported)


@dataclass(slots=True)
class _Counted:
    """What becomes of the annotations, in numbers and by name."""

    images: int = 0
    unknown_images: int = 0
    annotations: int = 0
    of_unknown: int = 0
    unmatched: int = 0
    matched: Counter[MatchedBy] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    changed: int = 0
    unchanged: int = 0
    added: int = 0
    removed: int = 0
    problems: list[ImportProblem] = field(default_factory=list)

    def add_unknown(self, picture: ImportedImage, reason: str) -> None:
        """Count a picture that is not in the index."""
        count = len(picture.annotations)
        self.unknown_images += 1
        self.annotations += count
        self.of_unknown += count
        self.problems.append(_problem(picture, None, count, reason))

    def add_unmatched(self, picture: ImportedImage, one: ImportedAnnotation, reason: str) -> None:
        """Count an annotation that is no segment."""
        self.unmatched += 1
        self.problems.append(_problem(picture, one.name, 1, reason))

    def add_changes(
        self, records: Sequence[SegmentRecord], said: Mapping[UUID, Said], correction: Correction
    ) -> None:
        """Count what changes for some segments."""
        for record in records:
            of_segment = said[record.segment_id]
            before, after = set(record.labels), set(correction.labels_after(record, of_segment))
            self.counts.update(of_segment.labels.keys())
            self.added += len(after - before)
            self.removed += len(before - after)
            if after != before:
                self.changed += 1
            elif not of_segment.is_missing:
                self.unchanged += 1

    def values(self) -> dict[str, Any]:
        """Return the fields of the report."""
        return {
            "images": self.images,
            "unknown_images": self.unknown_images,
            "annotations": self.annotations,
            "matched": self.matched.total(),
            "matched_by_id": self.matched["id"],
            "matched_by_mask": self.matched["mask"],
            "matched_by_box": self.matched["box"],
            "unmatched": self.unmatched,
            "of_unknown_images": self.of_unknown,
            "segments_changed": self.changed,
            "segments_unchanged": self.unchanged,
            "labels_added": self.added,
            "labels_removed": self.removed,
            "counts": dict(sorted(self.counts.items())),
            "problems": self.problems,
        }


_NAME_CHARS = 200


def _problem(picture: ImportedImage, name: str | None, count: int, reason: str) -> ImportProblem:
    """Return a problem whose names can be shown and sent, whatever the document has for them."""
    return ImportProblem(
        image=printable(picture.name[:_NAME_CHARS]),
        annotation=None if name is None else printable(name[:_NAME_CHARS]),
        annotations=count,
        reason=printable(reason),
    )
