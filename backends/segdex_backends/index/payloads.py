"""Conversion of records and fingerprints to stored payloads and back, and checks of stored data.

A payload is JSON. Its field names are fixed for one ``SCHEMA_VERSION``, and readers ignore unknown fields. A
float is stored twice: as a number, for filters and other readers, and as text under its name with ``_text``,
which segdex reads. Qdrant Edge 0.9 returns numbers of more than 15 digits with an error of one unit in the
last place, so a record would differ from the record that was written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal, TypeVar
from uuid import UUID, uuid5

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from segdex_backends.index.conditions import colour_level
from segdex_backends.index.point_store import FieldKind, to_uuid
from segdex_core.colours import COLOUR_NAMES, SHARE_STEPS, ColourAtLeast, ColourName, ColourShares
from segdex_core.concepts import Concept, Mark
from segdex_core.errors import (
    IndexConflictError,
    IndexMismatchError,
    IndexMissingError,
    IndexVersionError,
    SegmentIndexError,
)
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import MaskRLE
from segdex_core.records import (
    OLDEST_SCHEMA_VERSION,
    SCHEMA_VERSION,
    EmbeddedSegments,
    ImageFile,
    ImageRecord,
    ImageStatus,
    IndexFingerprint,
    MaskRecipe,
    PendingChange,
    SegmentLabel,
    SegmentRecord,
    Vectors,
)
from segdex_core.sets import MemberKind, SegmentSet, SetMember

FILTER_FIELDS: Mapping[str, FieldKind] = {
    "image_id": "uuid",
    "sources": "keyword",
    "tags": "keyword",
    "area_fraction": "float",
    "depth": "float",
    "captured_s": "float",
    "colour_levels": "keyword",
    "labels": "keyword",
    "sets": "uuid",
}
"""The fields of a segment's payload that ``SegmentFilter`` uses. Each has a payload index."""

SET_FIELDS: Mapping[str, FieldKind] = {"kind": "keyword", "set_id": "uuid", "image_id": "uuid"}
"""The fields of sets and their members that have a payload index."""

WRITE_FIELD = "write"
"""The field of a segment's payload with the token of its write."""

LABELLING_FIELD = "labelling"
"""The field of a segment's payload with the token of the write that set its labels."""

PENDING_FIELD = "pending.token"
"""The field of an image's payload with the token of a change that is not finished."""

POINT_SCHEMA_VERSION = 4
"""Version of the form of a point. Schema 5 of an index only added fields that a point may lack."""

_TEXT = "_text"  # suffix of a field that has a float, or a list of floats, as text
_FINGERPRINT = TypeAdapter(IndexFingerprint)
_MASK_RECIPE = TypeAdapter(MaskRecipe)
_RECIPE_NOTE = "recipe_"  # start of the key of a note


class _Stored(BaseModel):
    """Base class of payloads. It rejects NaN and infinity, which would be read back as null."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    schema_version: int = POINT_SCHEMA_VERSION

    def to_payload(self) -> dict[str, object]:
        payload = self.model_dump(mode="json")
        return payload | _float_texts(payload)


_StoredT = TypeVar("_StoredT", bound=_Stored)


class _LabelPayload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    name: str
    author: str
    score: float | None
    labelled_s: float


class _SegmentPayload(_Stored):
    image_id: UUID
    parent_id: UUID | None  # copy of ancestor_ids[0], for other readers of the index
    depth: int  # copy of len(ancestor_ids), for filters and other readers of the index
    ancestor_ids: tuple[UUID, ...]
    box_xyxy: tuple[int, int, int, int]
    rle_counts: str
    rle_size_hw: tuple[int, int]
    area_px: int
    area_fraction: float
    predicted_iou: float
    stability: float
    object_score: float
    touches_border: bool
    sources: tuple[str, ...]
    tags: tuple[str, ...]
    captured_s: float
    colours: Annotated[dict[ColourName, int] | None, Field(exclude=True)] = None  # see colours_to_payload
    label_facts: Annotated[tuple[_LabelPayload, ...], Field(exclude=True)] = ()  # see labels_to_payload
    sets: Annotated[tuple[UUID, ...], Field(exclude=True)] = ()  # see marks_to_payload
    write: Annotated[str, Field(exclude=True)] = ""
    labelling: Annotated[str, Field(exclude=True)] = ""


class _SetPayload(_Stored):
    kind: Literal["set"]
    name: str
    created_s: float


class _MemberPayload(_Stored):
    set_id: UUID
    member_id: UUID
    kind: MemberKind
    image_id: UUID
    added_s: float


class _MarkPayload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    segment_id: UUID
    image_id: UUID
    rle_counts: str
    rle_size_hw: tuple[int, int]
    is_right: bool


class _ConceptPayload(_Stored):
    kind: Literal["concept"]
    name: str
    text: str | None
    marks: tuple[_MarkPayload, ...]
    created_s: float
    revision: int


class _FilePayload(BaseModel):
    uri: str
    mtime_ns: int


class _PendingPayload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["write", "copy", "delete"]
    token: str


class _ImagePayload(_Stored):
    sha256: str
    size_bytes: int
    files: tuple[_FilePayload, ...]
    width: int
    height: int
    captured_s: float
    place_lat_lon: tuple[float, float] | None
    tags: tuple[str, ...]
    status: ImageStatus
    segment_count: int
    recipe: str
    revision: int
    pending: Annotated[_PendingPayload | None, Field(exclude=True)] = None
    captured_from: Annotated[str | None, Field(exclude=True)] = None


def segment_to_payload(record: SegmentRecord) -> dict[str, object]:
    """Return the payload of a segment. The id of the segment is the id of the point.

    A segment without measured colours has the payload that an earlier segdex wrote.

    Raises:
        ValueError: If a number is not finite.
    """
    payload = _SegmentPayload(
        image_id=record.image_id,
        parent_id=record.parent_id,
        depth=record.depth,
        ancestor_ids=record.ancestor_ids,
        box_xyxy=record.box,
        rle_counts=record.mask.counts,
        rle_size_hw=record.mask.size_hw,
        area_px=record.area_px,
        area_fraction=record.area_fraction,
        predicted_iou=record.predicted_iou,
        stability=record.stability,
        object_score=record.object_score,
        touches_border=record.touches_border,
        sources=record.sources,
        tags=record.tags,
        captured_s=record.captured_s,
    ).to_payload()
    if record.colours is not None:
        payload |= colours_to_payload(record.colours)
    if record.labels or record.labelling:
        payload |= labels_to_payload(record.labels, record.labelling)
    if record.sets:
        payload |= marks_to_payload(record.sets)
    if record.write:
        payload[WRITE_FIELD] = record.write
    return payload


def colours_to_payload(colours: ColourShares) -> dict[str, object]:
    """Return the part of a segment's payload that its colours are: thousandths, and what filters use.

    Colours without any pixel are left out. ``colour_levels`` has each ``colour_level`` that the segment
    reaches.
    """
    conditions = (ColourAtLeast(name, share) for name in COLOUR_NAMES for share in SHARE_STEPS)
    shares = zip(COLOUR_NAMES, colours.thousandths, strict=True)
    return {
        "colours": {name: count for name, count in shares if count},
        "colour_levels": [colour_level(one) for one in conditions if one.holds(colours)],
    }


def labels_to_payload(labels: Sequence[SegmentLabel], labelling: str) -> dict[str, object]:
    """Return the part of a segment's payload that its labels are; one that never had any lacks this part.

    ``labels`` repeats the names, for filters and counts. The numbers have so few digits that an index reads
    them back exactly.

    Raises:
        ValueError: If a number is not finite.
    """
    facts = [
        _LabelPayload(name=one.name, author=one.author, score=one.score, labelled_s=one.labelled_s)
        for one in labels
    ]
    return {
        "labels": sorted({one.name for one in facts}),
        "label_facts": [one.model_dump(mode="json") for one in facts],
        **({LABELLING_FIELD: labelling} if labelling else {}),
    }


def marks_to_payload(sets: Sequence[UUID]) -> dict[str, object]:
    """Return the part of a segment's payload that names its sets; one that never was in any lacks it."""
    return {"sets": sorted(map(str, sets))}


def segment_from_payload(point_id: object, payload: Mapping[str, object] | None, place: str) -> SegmentRecord:
    """Return the segment that was stored under ``point_id`` in the index at ``place``.

    Raises:
        IndexVersionError: If a newer segdex wrote the payload.
        SegmentIndexError: If the payload is not a segment of segdex.
    """
    what = f"segment {point_id} in {place}"
    stored = _parse(_SegmentPayload, payload, what)
    try:
        return SegmentRecord(
            segment_id=to_uuid(point_id),
            image_id=stored.image_id,
            box=BoxXYXY(*stored.box_xyxy),
            mask=MaskRLE(size_hw=stored.rle_size_hw, counts=stored.rle_counts),
            area_px=stored.area_px,
            area_fraction=stored.area_fraction,
            predicted_iou=stored.predicted_iou,
            stability=stored.stability,
            object_score=stored.object_score,
            touches_border=stored.touches_border,
            ancestor_ids=stored.ancestor_ids,
            sources=stored.sources,
            tags=stored.tags,
            captured_s=stored.captured_s,
            colours=None if stored.colours is None else _shares(stored.colours),
            labels=tuple(
                SegmentLabel(one.name, one.author, one.score, one.labelled_s) for one in stored.label_facts
            ),
            sets=tuple(sorted(stored.sets)),
            write=stored.write,
            labelling=stored.labelling,
        )
    except ValueError as error:
        raise _unreadable(what, error) from error


def image_to_payload(record: ImageRecord) -> dict[str, object]:
    """Return the payload of an image. The id of the image is the id of the point.

    Raises:
        ValueError: If a number is not finite.
    """
    payload = _ImagePayload(
        sha256=record.sha256,
        size_bytes=record.size_bytes,
        files=tuple(_FilePayload(uri=file.uri, mtime_ns=file.mtime_ns) for file in record.files),
        width=record.width,
        height=record.height,
        captured_s=record.captured_s,
        place_lat_lon=record.place_lat_lon,
        tags=record.tags,
        status=record.status,
        segment_count=record.segment_count,
        recipe=record.recipe,
        revision=record.revision,
    ).to_payload()
    if record.captured_from is not None:
        payload["captured_from"] = record.captured_from
    if record.pending is not None:
        payload["pending"] = {"kind": record.pending.kind, "token": record.pending.token}
    return payload


def image_from_payload(point_id: object, payload: Mapping[str, object] | None, place: str) -> ImageRecord:
    """Return the image record that was stored under ``point_id`` in the index at ``place``.

    Raises:
        IndexVersionError: If a newer segdex wrote the payload.
        SegmentIndexError: If the payload is not an image of segdex.
    """
    what = f"picture {point_id} in {place}"
    stored = _parse(_ImagePayload, payload, what)
    pending = stored.pending
    try:
        return ImageRecord(
            image_id=to_uuid(point_id),
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            files=tuple(ImageFile(uri=file.uri, mtime_ns=file.mtime_ns) for file in stored.files),
            width=stored.width,
            height=stored.height,
            captured_s=stored.captured_s,
            place_lat_lon=stored.place_lat_lon,
            tags=stored.tags,
            status=stored.status,
            segment_count=stored.segment_count,
            recipe=stored.recipe,
            revision=stored.revision,
            pending=None if pending is None else PendingChange(pending.kind, pending.token),
            captured_from=stored.captured_from,
        )
    except ValueError as error:
        raise _unreadable(what, error) from error


def set_to_payload(one: SegmentSet) -> dict[str, object]:
    """Return what is stored of a set; its id is the id of the point."""
    return _SetPayload(kind="set", name=one.name, created_s=one.created_s).to_payload()


def set_from_payload(point_id: object, payload: Mapping[str, object] | None, place: str) -> SegmentSet:
    """Return the set that was stored under ``point_id`` in the index at ``place``.

    Raises:
        SegmentIndexError: If it is no set of segdex.
    """
    stored = _parse(_SetPayload, payload, f"set {point_id} in {place}")
    return SegmentSet(to_uuid(point_id), stored.name, stored.created_s)


def member_point_id(set_id: UUID, member_id: UUID) -> UUID:
    """Return the id of the point of a member: the same member of a set is one point."""
    return uuid5(set_id, f"member:{member_id}")


def member_to_payload(member: SetMember) -> dict[str, object]:
    """Return what is stored of a member of a set."""
    return _MemberPayload(
        set_id=member.set_id,
        member_id=member.member_id,
        kind=member.kind,
        image_id=member.image_id,
        added_s=member.added_s,
    ).to_payload()


def member_from_payload(point_id: object, payload: Mapping[str, object] | None, place: str) -> SetMember:
    """Return the member that was stored under ``point_id`` in the index at ``place``.

    Raises:
        SegmentIndexError: If it is no member of a set of segdex.
    """
    stored = _parse(_MemberPayload, payload, f"member {point_id} in {place}")
    return SetMember(
        set_id=stored.set_id,
        member_id=stored.member_id,
        kind=stored.kind,
        image_id=stored.image_id,
        added_s=stored.added_s,
    )


_CONCEPTS = UUID("3d0a4a53-8f1c-5a64-9a0b-6a2f6f1d9c52")  # must never change: ids are derived from it


def concept_point_id(name: str) -> UUID:
    """Return the id of the point of a concept: a name has one point, whoever writes it first."""
    return uuid5(_CONCEPTS, name)


def concept_to_payload(one: Concept) -> dict[str, object]:
    """Return what is stored of a concept, with all its marks, so that one write changes it."""
    return _ConceptPayload(
        kind="concept",
        name=one.name,
        text=one.text,
        marks=tuple(
            _MarkPayload(
                segment_id=mark.segment_id,
                image_id=mark.image_id,
                rle_counts=mark.mask.counts,
                rle_size_hw=mark.mask.size_hw,
                is_right=mark.is_right,
            )
            for mark in one.marks
        ),
        created_s=one.created_s,
        revision=one.revision,
    ).to_payload()


def concept_from_payload(point_id: object, payload: Mapping[str, object] | None, place: str) -> Concept:
    """Return the concept that was stored under ``point_id`` in the index at ``place``.

    Raises:
        SegmentIndexError: If it is no concept of segdex.
    """
    what = f"concept {point_id} in {place}"
    stored = _parse(_ConceptPayload, payload, what)
    try:
        return Concept(
            name=stored.name,
            text=stored.text,
            marks=tuple(
                Mark(one.segment_id, one.image_id, MaskRLE(one.rle_size_hw, one.rle_counts), one.is_right)
                for one in stored.marks
            ),
            created_s=stored.created_s,
            revision=stored.revision,
        )
    except ValueError as error:
        raise _unreadable(what, error) from error


def with_exact_floats(payload: Mapping[str, object]) -> dict[str, object]:
    """Return a payload with each float replaced by the value of its text.

    Raises:
        ValueError: If a text is not a number.
    """
    exact = dict(payload)
    for name, value in payload.items():
        if _is_float(value) and name + _TEXT in payload:
            text = payload[name + _TEXT]
            exact[name] = [float(str(each)) for each in text] if isinstance(text, list) else float(str(text))
    return exact


def repeated_payload(record: ImageRecord) -> dict[str, object]:
    """Return the payload fields of an image record that its segments copy."""
    payload: dict[str, object] = {
        "sources": list(record.sources),
        "tags": list(record.tags),
        "captured_s": record.captured_s,
    }
    return payload | _float_texts(payload)


def without_copying(record: ImageRecord) -> ImageRecord:
    """Return a record as it is once its fields are copied to the segments."""
    is_copying = record.pending is not None and record.pending.kind == "copy"
    return replace(record, pending=None) if is_copying else record


def needs_copies(held: ImageRecord, record: ImageRecord) -> bool:
    """Return whether the segments need other copies of fields, once ``record`` replaces ``held``.

    While segments are written or deleted, they do not: whoever finishes that writes all of them.
    """
    pending = [one.pending.kind for one in (held, record) if one.pending is not None]
    if "write" in pending or "delete" in pending:
        return False
    return "copy" in pending or repeated_payload(held) != repeated_payload(record)


def masks_to_payload(recipes: Mapping[str, MaskRecipe]) -> dict[str, object]:
    """Return what made the masks of each recipe as JSON data, by keys of notes."""
    return {f"{_RECIPE_NOTE}{recipe}": _MASK_RECIPE.dump_python(made) for recipe, made in recipes.items()}


def masks_from_payload(notes: Mapping[str, object]) -> dict[str, MaskRecipe]:
    """Return what made the masks, by recipe. Other notes are ignored.

    Raises:
        ValueError: If a note is damaged.
    """
    return {
        key.removeprefix(_RECIPE_NOTE): _MASK_RECIPE.validate_python(value)
        for key, value in notes.items()
        if key.startswith(_RECIPE_NOTE)
    }


def fingerprint_to_payload(fingerprint: IndexFingerprint) -> dict[str, object]:
    """Return the fingerprint as JSON data."""
    payload: dict[str, object] = _FINGERPRINT.dump_python(fingerprint, mode="json")
    return payload


def fingerprint_from_payload(payload: object, place: str) -> IndexFingerprint:
    """Return the fingerprint of the index at ``place``.

    Raises:
        IndexVersionError: If a newer segdex made the index, or one so old that it cannot be migrated.
        SegmentIndexError: If the payload is not a fingerprint.
    """
    what = f"the description of {place}"
    _check_version(payload, what)
    try:
        found = _FINGERPRINT.validate_python(payload)
    except ValueError as error:
        raise _unreadable(what, error) from error
    if found.schema_version < OLDEST_SCHEMA_VERSION:
        raise IndexVersionError(
            f"{what} has schema {found.schema_version}, but this segdex reads {OLDEST_SCHEMA_VERSION} to "
            f"{SCHEMA_VERSION}: make it anew "
            f"under another name: segdex --index NEW --profile {found.profile} ingest FOLDER"
        )
    return found


def check_fingerprint(stored: IndexFingerprint, wanted: IndexFingerprint, place: str) -> None:
    """Check that vectors made with ``wanted`` may go into the index at ``place``.

    Raises:
        IndexMismatchError: If the index was filled by another embedder, or with other views.
    """
    reason = stored.describe_mismatch(wanted)
    if reason is not None:
        raise IndexMismatchError(
            f"{place} was filled by other models: {reason}; use --profile {stored.profile} with it, another "
            "--index, or change its vectors with `segdex reembed`, which does not segment again"
        )


def superseded(place: str) -> IndexMismatchError:
    """Return the error for an index whose vectors a re-embedding replaces or has replaced."""
    return IndexMismatchError(
        f"the vectors of {place} have been or are being replaced by `segdex reembed`: run the command again, "
        "or restart the service, without the old --embedder and with the new --views; if that "
        "`segdex reembed` was stopped, run it again, or give it up with `segdex reembed --drop-old`"
    )


def contested(place: str) -> IndexConflictError:
    """Return the error for a re-embedding of an index that another one re-embeds at the same time."""
    return IndexConflictError(
        f"another `segdex reembed` of {place} began the switch to its own vectors: let it end, and run the "
        "command again, which goes on"
    )


def missing_index(place: str) -> IndexMissingError:
    """Return the error for a missing index at ``place``."""
    return IndexMissingError(f"there is no index at {place}: segdex ingest PATH --index {place} makes one")


def unknown_picture(image_id: UUID, place: str) -> IndexConflictError:
    """Return the error for a change to an image that is not in the index."""
    return IndexConflictError(f"picture {image_id} is not in {place}")


def in_conflict(image_id: UUID, place: str) -> IndexConflictError:
    """Return the error for an image that has changed since its record was read."""
    return IndexConflictError(
        f"picture {image_id} in {place} was changed or deleted by another process meanwhile: "
        "run the command again"
    )


def concept_in_conflict(name: str, place: str) -> IndexConflictError:
    """Return the error for a concept that has changed since it was read."""
    return IndexConflictError(
        f"the concept {name!r} in {place} was changed by another process meanwhile: run the command again"
    )


def check_segments(segments: EmbeddedSegments, fingerprint: IndexFingerprint) -> None:
    """Check that the vectors match the index.

    Raises:
        ValueError: If the views or a shape differ from the fingerprint's, or a number is not finite.
    """
    if set(segments.vectors) != set(fingerprint.views):
        raise ValueError(f"views must be {fingerprint.views}, but got {tuple(segments.vectors)}")
    for view, rows in segments.vectors.items():
        check_vectors(rows, (len(segments.records), fingerprint.dim), f"vectors of view {view!r}")


def check_vectors(vectors: Vectors, shape: tuple[int, ...], what: str) -> None:
    """Check the shape of an array, and that all its numbers are finite.

    Raises:
        ValueError: If the shape is wrong or a number is not finite.
    """
    if vectors.shape != shape:
        raise ValueError(f"{what} must have shape {shape}, but got {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{what} must be finite")


def check_query(vector: npt.NDArray[np.float32], fingerprint: IndexFingerprint, view: str) -> None:
    """Check the query vector of one view.

    Raises:
        ValueError: If the view is unknown, or the vector has a wrong shape or a number that is not finite.
    """
    if view not in fingerprint.views:
        raise ValueError(f"view must be one of {fingerprint.views}, but got {view!r}")
    check_vectors(vector, (fingerprint.dim,), "the query")


def _parse(model: type[_StoredT], payload: Mapping[str, object] | None, what: str) -> _StoredT:
    _check_version(payload, what)
    try:
        return model.model_validate(with_exact_floats(payload or {}))
    except ValueError as error:  # pydantic's ValidationError is a ValueError
        raise _unreadable(what, error) from error


def _shares(thousandths: Mapping[ColourName, int]) -> ColourShares:
    return ColourShares(tuple(thousandths.get(name, 0) for name in COLOUR_NAMES))


def _float_texts(payload: Mapping[str, object]) -> dict[str, object]:
    return {
        name + _TEXT: [repr(each) for each in value] if isinstance(value, list) else repr(value)
        for name, value in payload.items()
        if _is_float(value)
    }


def _is_float(value: object) -> bool:
    """Return whether a value of a payload is a float, or a list of floats."""
    return isinstance(value, float) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], float)
    )


def _check_version(payload: object, what: str) -> None:
    version = payload.get("schema_version") if isinstance(payload, Mapping) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise IndexVersionError(
            f"{what} has schema {version}, but this segdex reads up to {SCHEMA_VERSION}: "
            "upgrade segdex, or use another --index"
        )


def _unreadable(what: str, error: ValueError) -> SegmentIndexError:
    reason = "; ".join(line.strip() for line in str(error).splitlines() if "errors.pydantic.dev" not in line)
    return SegmentIndexError(f"{what} cannot be read, ingest into a new --index: {reason}")
