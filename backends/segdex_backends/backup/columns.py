"""The columns of a backup: records to Arrow tables, and back. Every field of a record has its column."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from segdex_core.colours import ColourShares
from segdex_core.concepts import Concept, Mark
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import MaskRLE
from segdex_core.records import EmbeddedSegments, ImageFile, ImageRecord, SegmentLabel, SegmentRecord, Vectors
from segdex_core.sets import SegmentSet, SetMember

_TEXTS = pa.list_(pa.string())
_LABEL = pa.struct(
    {"name": pa.string(), "author": pa.string(), "score": pa.float64(), "labelled_s": pa.float64()}
)
_FILE = pa.struct({"uri": pa.string(), "mtime_ns": pa.int64()})
_MARK = pa.struct(
    {
        "segment_id": pa.string(),
        "image_id": pa.string(),
        "height": pa.int32(),
        "width": pa.int32(),
        "counts": pa.string(),
        "is_right": pa.bool_(),
    }
)
VECTOR = "vector"
"""Column of the vector of an image, and start of the name of the column of each view of a segment."""


def image_schema(dim: int) -> pa.Schema:
    """Return the schema of images with vectors of length ``dim``."""
    return pa.schema(
        {
            "image_id": pa.string(),
            "sha256": pa.string(),
            "size_bytes": pa.int64(),
            "files": pa.list_(_FILE),
            "width": pa.int32(),
            "height": pa.int32(),
            "captured_s": pa.float64(),
            "captured_from": pa.string(),
            "latitude": pa.float64(),
            "longitude": pa.float64(),
            "tags": _TEXTS,
            "status": pa.string(),
            "segment_count": pa.int32(),
            "recipe": pa.string(),
            VECTOR: pa.list_(pa.float32(), dim),
        }
    )


def segment_schema(dim: int, views: Sequence[str]) -> pa.Schema:
    """Return the schema of segments with a vector of length ``dim`` of each view.

    Boxes are in pixels, ``x2`` and ``y2`` exclusive; ``counts`` is COCO's compressed run-length encoding of a
    mask of ``height`` by ``width``; ``colours`` are thousandths in the order of ``COLOUR_NAMES``.
    """
    return pa.schema(
        {
            "segment_id": pa.string(),
            "image_id": pa.string(),
            "height": pa.int32(),
            "width": pa.int32(),
            "counts": pa.string(),
            **dict.fromkeys(("x1", "y1", "x2", "y2"), pa.int32()),
            "area_px": pa.int64(),
            "area_fraction": pa.float64(),
            "predicted_iou": pa.float64(),
            "stability": pa.float64(),
            "object_score": pa.float64(),
            "touches_border": pa.bool_(),
            "ancestor_ids": _TEXTS,
            "sources": _TEXTS,
            "tags": _TEXTS,
            "captured_s": pa.float64(),
            "colours": pa.list_(pa.int16()),
            "labels": pa.list_(_LABEL),
            "sets": _TEXTS,
            "write": pa.string(),
            "labelling": pa.string(),
            **{f"{VECTOR}_{view}": pa.list_(pa.float32(), dim) for view in views},
        }
    )


SET_SCHEMA = pa.schema({"set_id": pa.string(), "name": pa.string(), "created_s": pa.float64()})
MEMBER_SCHEMA = pa.schema(
    {
        "set_id": pa.string(),
        "member_id": pa.string(),
        "kind": pa.string(),
        "image_id": pa.string(),
        "added_s": pa.float64(),
    }
)
CONCEPT_SCHEMA = pa.schema(
    {"name": pa.string(), "text": pa.string(), "created_s": pa.float64(), "marks": pa.list_(_MARK)}
)


def images_to_table(records: Sequence[ImageRecord], vectors: Vectors) -> pa.Table:
    """Return images with their (n, dim) vectors as a table."""
    rows = [
        {
            "image_id": str(one.image_id),
            "sha256": one.sha256,
            "size_bytes": one.size_bytes,
            "files": [{"uri": file.uri, "mtime_ns": file.mtime_ns} for file in one.files],
            "width": one.width,
            "height": one.height,
            "captured_s": one.captured_s,
            "captured_from": one.captured_from,
            "latitude": one.place_lat_lon[0] if one.place_lat_lon else None,
            "longitude": one.place_lat_lon[1] if one.place_lat_lon else None,
            "tags": list(one.tags),
            "status": one.status,
            "segment_count": one.segment_count,
            "recipe": one.recipe,
        }
        for one in records
    ]
    return _table(rows, image_schema(vectors.shape[1]), {VECTOR: vectors})


def image_from_row(row: Mapping[str, Any]) -> ImageRecord:
    """Return the image of a row.

    Raises:
        ValueError: If the values do not belong together.
    """
    place = None if row["latitude"] is None else (row["latitude"], row["longitude"])
    return ImageRecord(
        image_id=UUID(row["image_id"]),
        sha256=row["sha256"],
        size_bytes=row["size_bytes"],
        files=tuple(ImageFile(file["uri"], file["mtime_ns"]) for file in row["files"]),
        width=row["width"],
        height=row["height"],
        captured_s=row["captured_s"],
        captured_from=row.get("captured_from"),  # a backup of an earlier segdex has no such column
        place_lat_lon=place,
        tags=tuple(row["tags"]),
        status=row["status"],
        segment_count=row["segment_count"],
        recipe=row["recipe"],
    )


def segments_to_table(segments: EmbeddedSegments, views: Sequence[str]) -> pa.Table:
    """Return segments with their vectors as a table."""
    rows = [
        {
            "segment_id": str(one.segment_id),
            "image_id": str(one.image_id),
            **_mask_columns(one.mask),
            **one.box._asdict(),
            "area_px": one.area_px,
            "area_fraction": one.area_fraction,
            "predicted_iou": one.predicted_iou,
            "stability": one.stability,
            "object_score": one.object_score,
            "touches_border": one.touches_border,
            "ancestor_ids": [str(key) for key in one.ancestor_ids],
            "sources": list(one.sources),
            "tags": list(one.tags),
            "captured_s": one.captured_s,
            "colours": None if one.colours is None else list(one.colours.thousandths),
            "labels": [
                {
                    "name": label.name,
                    "author": label.author,
                    "score": label.score,
                    "labelled_s": label.labelled_s,
                }
                for label in one.labels
            ],
            "sets": [str(key) for key in one.sets],
            "write": one.write,
            "labelling": one.labelling,
        }
        for one in segments.records
    ]
    dim = segments.vectors[views[0]].shape[1]
    columns = {f"{VECTOR}_{view}": segments.vectors[view] for view in views}
    return _table(rows, segment_schema(dim, views), columns)


def segment_from_row(row: Mapping[str, Any]) -> SegmentRecord:
    """Return the segment of a row.

    Raises:
        ValueError: If a value is out of range.
    """
    colours = row["colours"]
    return SegmentRecord(
        segment_id=UUID(row["segment_id"]),
        image_id=UUID(row["image_id"]),
        box=BoxXYXY(row["x1"], row["y1"], row["x2"], row["y2"]),
        mask=_mask_of(row),
        area_px=row["area_px"],
        area_fraction=row["area_fraction"],
        predicted_iou=row["predicted_iou"],
        stability=row["stability"],
        object_score=row["object_score"],
        touches_border=row["touches_border"],
        ancestor_ids=tuple(UUID(key) for key in row["ancestor_ids"]),
        sources=tuple(row["sources"]),
        tags=tuple(row["tags"]),
        captured_s=row["captured_s"],
        colours=None if colours is None else ColourShares(tuple(colours)),
        labels=tuple(
            SegmentLabel(one["name"], one["author"], one["score"], one["labelled_s"]) for one in row["labels"]
        ),
        sets=tuple(UUID(key) for key in row["sets"]),
        write=row["write"],
        labelling=row["labelling"],
    )


def vectors_of(batch: pa.RecordBatch, column: str) -> Vectors:
    """Return the (n, dim) float32 vectors of a column."""
    values = batch.column(column)
    dim: int = values.type.list_size
    return np.asarray(values.flatten(), np.float32).reshape(len(values), dim)


def rows_of(batch: pa.RecordBatch) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a batch without its vectors."""
    names = [name for name in batch.schema.names if not name.startswith(VECTOR)]
    yield from batch.select(names).to_pylist()


def sets_to_table(sets: Sequence[SegmentSet]) -> pa.Table:
    """Return named sets as a table."""
    rows = [{"set_id": str(one.set_id), "name": one.name, "created_s": one.created_s} for one in sets]
    return _table(rows, SET_SCHEMA)


def set_from_row(row: Mapping[str, Any]) -> SegmentSet:
    """Return the set of a row."""
    return SegmentSet(UUID(row["set_id"]), row["name"], row["created_s"])


def members_to_table(members: Sequence[SetMember]) -> pa.Table:
    """Return members of sets as a table."""
    rows = [
        {
            "set_id": str(one.set_id),
            "member_id": str(one.member_id),
            "kind": one.kind,
            "image_id": str(one.image_id),
            "added_s": one.added_s,
        }
        for one in members
    ]
    return _table(rows, MEMBER_SCHEMA)


def member_from_row(row: Mapping[str, Any]) -> SetMember:
    """Return the member of a row."""
    ids = (UUID(row[name]) for name in ("set_id", "member_id", "image_id"))
    set_id, member_id, image_id = ids
    return SetMember(set_id, member_id, row["kind"], image_id, row["added_s"])


def concepts_to_table(concepts: Sequence[Concept]) -> pa.Table:
    """Return saved concepts as a table."""
    rows = [
        {
            "name": one.name,
            "text": one.text,
            "created_s": one.created_s,
            "marks": [
                {
                    "segment_id": str(mark.segment_id),
                    "image_id": str(mark.image_id),
                    **_mask_columns(mark.mask),
                    "is_right": mark.is_right,
                }
                for mark in one.marks
            ],
        }
        for one in concepts
    ]
    return _table(rows, CONCEPT_SCHEMA)


def concept_from_row(row: Mapping[str, Any]) -> Concept:
    """Return the concept of a row.

    Raises:
        ValueError: If it has neither a text nor a right mark.
    """
    marks = tuple(
        Mark(UUID(one["segment_id"]), UUID(one["image_id"]), _mask_of(one), one["is_right"])
        for one in row["marks"]
    )
    return Concept(row["name"], row["text"], marks, row["created_s"])


def _mask_columns(mask: MaskRLE) -> dict[str, object]:
    height, width = mask.size_hw
    return {"height": height, "width": width, "counts": mask.counts}


def _mask_of(row: Mapping[str, Any]) -> MaskRLE:
    return MaskRLE((row["height"], row["width"]), row["counts"])


def _table(
    rows: Sequence[Mapping[str, Any]], schema: pa.Schema, vectors: Mapping[str, Vectors] | None = None
) -> pa.Table:
    """Return rows as a table; vectors are given as arrays, which do not pass through Python numbers."""
    plain = pa.schema([field for field in schema if not field.name.startswith(VECTOR)])
    table = pa.Table.from_pylist(list(rows), schema=plain)
    for name, array in (vectors or {}).items():
        flat = pa.array(np.ascontiguousarray(array, np.float32).reshape(-1), pa.float32())
        table = table.append_column(
            schema.field(name), pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
        )
    return table.select(schema.names)
