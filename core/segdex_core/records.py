"""The frozen records that travel through segdex. A record that exists is valid."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.geometry import BoxXYXY
from segdex_core.ids import make_image_id
from segdex_core.masks import MaskRLE
from segdex_core.media.uris import uri_sources

RGBImage = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, RGB, rows first, EXIF orientation already applied."""

Vectors = npt.NDArray[np.float32]
"""(n, dim) float32, every row of length 1 (or all zero where nothing was recognised)."""

SCHEMA_VERSION = 4
"""Version of what is stored in an index; a newer one is refused, see ``IndexVersionError``.

2: the views of a segment are one vector, side by side.
3: one more number of that vector carries the object score; the views are ``crop`` and ``mask``.
4: vectors are named by embedder and views; the record of a picture has a revision.
"""

OLDEST_SCHEMA_VERSION = 3
"""The oldest version that is migrated when an index is opened; an older one is refused."""

SEGMENT_VIEWS = ("crop", "mask")
"""What is embedded of a segment: the box with a little margin, and what the mask shows of it."""

IMAGE_VIEW = "image"
"""The last part of the name of the vector of a whole picture."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One mask of one picture, as the mask generator leaves it.

    Attributes:
        box: Tight box of the mask, pixels of the full picture, ``x2``/``y2`` exclusive.
        mask: Run-length code at the full size of the picture.
        area_px: Number of pixels in the mask, at least 1.
        predicted_iou: The model's own estimate of its mask's IoU, about 0 to 1.
        stability: IoU of the mask between two logit cut-offs, 0 to 1.
        score: What the selection ranked by, higher is better; its scale depends on the selection.
        object_score: How likely it is one whole object, 0 to 1.
        parent: Position, in the same list, of the smallest segment that contains this one; None at the top.
    """

    box: BoxXYXY
    mask: MaskRLE
    area_px: int
    predicted_iou: float
    stability: float
    score: float
    object_score: float = 0.0
    parent: int | None = None

    def __post_init__(self) -> None:
        if self.area_px < 1:
            raise ValueError(f"area_px must be at least 1, but got {self.area_px}")
        if not 0 <= self.object_score <= 1:
            raise ValueError(f"object_score must be between 0 and 1, but got {self.object_score}")
        if self.box.area_px < self.area_px:
            raise ValueError(f"the box {self.box} is smaller than the mask, {self.area_px} pixels")


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """A segment as the index stores it, without its vectors.

    Attributes:
        segment_id: ``make_segment_id`` of the picture and the mask.
        image_id: The picture that it was cut from.
        box: Tight box of the mask, pixels, ``x2``/``y2`` exclusive.
        mask: Run-length code at the full size of the picture.
        area_px: Pixels in the mask.
        area_fraction: ``area_px`` over the pixels of the picture, (0, 1].
        predicted_iou: The model's estimate of its mask's IoU.
        stability: IoU of the mask between two logit cut-offs, 0 to 1.
        object_score: How likely it is one whole object, 0 to 1; part of its score for a text.
        touches_border: Whether the box touches an edge of the picture.
        ancestor_ids: The segments that contain this one, the smallest (its parent) first.
        sources: ``uri_sources`` of every place where the picture lies.
        tags: Labels given at ingest, sorted.
        captured_s: When the picture was taken, seconds since 1970 UTC (EXIF, else the file's mtime).
    """

    segment_id: UUID
    image_id: UUID
    box: BoxXYXY
    mask: MaskRLE
    area_px: int
    area_fraction: float
    predicted_iou: float
    stability: float
    object_score: float
    touches_border: bool
    ancestor_ids: tuple[UUID, ...]
    sources: tuple[str, ...]
    tags: tuple[str, ...]
    captured_s: float

    def __post_init__(self) -> None:
        if not 0 < self.area_fraction <= 1:
            raise ValueError(f"area_fraction must be in (0, 1], but got {self.area_fraction}")
        if not 0 <= self.object_score <= 1:
            raise ValueError(f"object_score must be between 0 and 1, but got {self.object_score}")

    @property
    def parent_id(self) -> UUID | None:
        """The smallest segment that contains this one; None at the top of the mask tree."""
        return self.ancestor_ids[0] if self.ancestor_ids else None

    @property
    def depth(self) -> int:
        """How many segments contain this one; 0 at the top of the mask tree."""
        return len(self.ancestor_ids)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file that holds a picture.

    Attributes:
        uri: ``file:`` URI of the file.
        mtime_ns: Modification time in nanoseconds since 1970 UTC.
    """

    uri: str
    mtime_ns: int


ImageStatus = Literal["done", "no_segments"]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A line of the ledger: a picture that was ingested completely.

    It is written after all segments of the picture, so that a picture without one is done again.

    Attributes:
        image_id: ``make_image_id`` of the bytes.
        sha256: SHA-256 of the bytes, 64 hexadecimal digits.
        size_bytes: Length of the file.
        files: Every file known to hold exactly these bytes, sorted by URI; at least one.
        width: Width in pixels after EXIF orientation.
        height: Height in pixels after EXIF orientation.
        captured_s: EXIF time, else the mtime of the first file seen; seconds since 1970 UTC.
        place_lat_lon: EXIF position in degrees, or None.
        tags: Labels given at ingest, sorted.
        status: ``done``, or ``no_segments`` when nothing was found.
        segment_count: How many segments were stored.
        recipe: Fingerprint of the models and settings that made the segments; another recipe does it again.
        revision: How often the index has written this record; 0 where it was not read from an index. A write
            holds only if the index still has this revision. It is no part of the content: records that differ
            in nothing else are equal.
    """

    image_id: UUID
    sha256: str
    size_bytes: int
    files: tuple[ImageFile, ...]
    width: int
    height: int
    captured_s: float
    place_lat_lon: tuple[float, float] | None
    tags: tuple[str, ...]
    status: ImageStatus
    segment_count: int
    recipe: str
    revision: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("an image record names at least one file")
        if self.image_id != make_image_id(self.sha256):
            raise ValueError(f"image_id {self.image_id} does not belong to sha256 {self.sha256}")

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    @property
    def sources(self) -> tuple[str, ...]:
        """``uri_sources`` of every file, sorted, without repeats."""
        return tuple(sorted({source for file in self.files for source in uri_sources(file.uri)}))


@dataclass(frozen=True, slots=True)
class IndexFingerprint:
    """What filled an index. Vectors of two embedders are never mixed.

    Attributes:
        profile: Name of the profile that made the index; the default for later commands.
        embedder: ``Embedder.fingerprint``.
        dim: Length of a vector.
        views: Views of a segment, in the order in which they lie in its vector.
        segmenter: ``Segmenter.fingerprint`` of the first ingest; for information.
        schema_version: ``SCHEMA_VERSION`` of the writer.
        quality: ``fast``, ``balanced`` or ``best``: the masks of the last ingest, and the default for the
            next one; None where it is not known.
    """

    profile: str
    embedder: str
    dim: int
    views: tuple[str, ...]
    segmenter: str
    schema_version: int = SCHEMA_VERSION
    quality: str | None = None

    def describe_mismatch(self, wanted: "IndexFingerprint") -> str | None:
        """Return why vectors made under ``wanted`` cannot go into this index, None when they can."""
        for name in ("embedder", "dim", "views"):
            mine, other = getattr(self, name), getattr(wanted, name)
            if mine != other:
                return f"its {name} is {mine!r}, but {other!r} was asked for"
        return None


@dataclass(frozen=True, slots=True)
class SegmentFilter:
    """Conditions that all must hold; None or an empty tuple is no condition.

    Attributes:
        image_ids: Any of these pictures.
        min_area_fraction: Smallest share of the picture, inclusive, 0 to 1.
        max_area_fraction: Largest share of the picture, inclusive, 0 to 1.
        min_depth: At least so many segments contain it; 1 leaves out what no other segment contains.
        sources: Below any of these folders, or exactly these files (URIs as in ``uri_sources``).
        tags: Carries every one of these tags.
        captured_from_s: Not taken before this time, seconds since 1970 UTC, inclusive.
        captured_until_s: Taken before this time, exclusive.
    """

    image_ids: tuple[UUID, ...] = ()
    min_area_fraction: float | None = None
    max_area_fraction: float | None = None
    min_depth: int | None = None
    sources: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    captured_from_s: float | None = None
    captured_until_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("min_area_fraction", "max_area_fraction"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
                raise ValueError(f"{name} must be between 0 and 1, but got {value}")


EVERYTHING = SegmentFilter()
"""The filter without a condition."""


@dataclass(frozen=True, slots=True)
class FusedSegment:
    """A segment that a query over several views found, without its mask.

    A key is an id as text. Ranking compares keys and makes UUIDs of what is shown alone: UUIDs of all
    candidates made a query take 1.1 times as long for 44 of them, and 1.3 to 1.4 times for 4,000.

    Attributes:
        segment_key: Text of the segment's id.
        image_key: Text of its picture's id.
        ancestor_keys: Text of the ids of the segments that contain it, the smallest first.
        score: Weighted mean of the dot products of its views, and its object score times its weight.
    """

    segment_key: str
    image_key: str
    ancestor_keys: tuple[str, ...]
    score: float

    @property
    def segment_id(self) -> UUID:
        """The segment."""
        return UUID(self.segment_key)

    @property
    def image_id(self) -> UUID:
        """Its picture."""
        return UUID(self.image_key)


@dataclass(frozen=True, slots=True)
class ViewedSegment:
    """A segment with the dot product of each view that was asked for."""

    record: SegmentRecord
    view_scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class IndexCounts:
    """How much an index holds."""

    images: int
    segments: int


@dataclass(frozen=True, slots=True)
class EmbeddedSegments:
    """The segments of one picture with their vectors, as one unit of writing.

    Attributes:
        records: n segments of one picture.
        vectors: View name to (n, dim) unit rows, in the order of ``records``.
    """

    records: Sequence[SegmentRecord]
    vectors: Mapping[str, Vectors]

    def __post_init__(self) -> None:
        for view, rows in self.vectors.items():
            if len(rows) != len(self.records):
                raise ValueError(f"{len(self.records)} records, but {len(rows)} vectors of view {view!r}")
