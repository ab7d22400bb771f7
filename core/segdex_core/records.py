"""Frozen dataclasses that the packages exchange; constructors validate their values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args
from uuid import UUID, uuid4

import numpy as np
import numpy.typing as npt

from segdex_core.colours import ColourAtLeast, ColourShares
from segdex_core.geometry import BoxXYXY
from segdex_core.ids import make_image_id
from segdex_core.masks import MaskRLE
from segdex_core.media.uris import uri_sources
from segdex_core.wire.limits import LabelAuthor

RGBImage = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, RGB, rows first, EXIF orientation already applied."""

Vectors = npt.NDArray[np.float32]
"""(n, dim) float32. Each row has length 1, or is all zero if nothing was recognised."""

SCHEMA_VERSION = 5
"""Version of the stored index format. Opening an index with a newer version raises ``IndexVersionError``.

2: the views of a segment are concatenated into one vector.
3: the vector has one more element for the object score; the views are ``crop`` and ``mask``.
4: vectors are named after embedder and views; image records have a revision.
5: a third collection holds named sets; segments can have labels and name their sets.
"""

OLDEST_SCHEMA_VERSION = 3
"""Oldest version that can be migrated. Opening an index with an older version raises
``IndexVersionError``."""

SEGMENT_VIEWS = ("crop", "mask")
"""Embedded views of a segment: the box with a small margin, and the pixels that the mask covers."""

IMAGE_VIEW = "image"
"""Last part of the name of a whole-image vector."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One mask of one image, as the mask generator returns it.

    Attributes:
        box: Tight box of the mask in pixels of the full image; ``x2`` and ``y2`` are exclusive.
        mask: Run-length encoding at the full size of the image.
        area_px: Number of pixels in the mask, at least 1.
        predicted_iou: The model's estimate of the mask's IoU, about 0 to 1.
        stability: IoU of the masks at two logit thresholds, 0 to 1.
        score: Score that the selection ranked by; higher is better. Its scale depends on the selection.
        object_score: Estimate, from 0 to 1, of how likely the segment is one whole object.
        parent: Position, in the list of segments, of the smallest segment that contains this one; None at the
            top of the mask tree.
        colours: Shares of the basic colours; None before they are measured.
    """

    box: BoxXYXY
    mask: MaskRLE
    area_px: int
    predicted_iou: float
    stability: float
    score: float
    object_score: float = 0.0
    parent: int | None = None
    colours: ColourShares | None = None

    def __post_init__(self) -> None:
        if self.area_px < 1:
            raise ValueError(f"area_px must be at least 1, but got {self.area_px}")
        if not 0 <= self.object_score <= 1:
            raise ValueError(f"object_score must be between 0 and 1, but got {self.object_score}")
        if self.box.area_px < self.area_px:
            raise ValueError(f"the box {self.box} is smaller than the mask, {self.area_px} pixels")


LABEL_AUTHORS = get_args(LabelAuthor)
"""Kinds of authors of a label."""

MAX_LABEL_CHARS = 100
"""Longest name of a label."""


@dataclass(frozen=True, slots=True)
class SegmentLabel:
    """What somebody says that a segment shows.

    Attributes:
        name: The label, such as ``traffic light``; 1 to ``MAX_LABEL_CHARS`` printable characters.
        author: Kind and name of who says so, such as ``model:FINGERPRINT``, ``concept:NAME`` or
            ``person:NAME``; the kind is one of ``LABEL_AUTHORS``.
        score: How sure the author is, on the author's own scale; None for a person. It is stored with 4
            decimal places.
        labelled_s: When it was written, seconds since 1970 UTC; stored with 3 decimal places.
    """

    name: str
    author: str
    score: float | None
    labelled_s: float

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_LABEL_CHARS or not self.name.isprintable():
            raise ValueError(f"a label has 1 to {MAX_LABEL_CHARS} printable characters, but is {self.name!r}")
        kind, _, name = self.author.partition(":")
        if kind not in LABEL_AUTHORS or not name:
            raise ValueError(
                f"author must be KIND:NAME, KIND one of {', '.join(LABEL_AUTHORS)}, but is {self.author!r}"
            )
        if self.score is not None:
            object.__setattr__(self, "score", round(self.score, 4))
        object.__setattr__(self, "labelled_s", round(self.labelled_s, 3))


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """A segment as the index stores it, without its vectors.

    Attributes:
        segment_id: Result of ``make_segment_id`` for the image and the mask.
        image_id: Id of the image that contains the segment.
        box: Tight box of the mask in pixels; ``x2`` and ``y2`` are exclusive.
        mask: Run-length encoding at the full size of the image.
        area_px: Number of pixels in the mask.
        area_fraction: ``area_px`` divided by the number of pixels in the image, in (0, 1].
        predicted_iou: The model's estimate of the mask's IoU.
        stability: IoU of the masks at two logit thresholds, 0 to 1.
        object_score: Estimate, from 0 to 1, of how likely the segment is one whole object; part of its score
            for a text query.
        touches_border: Whether the box touches an edge of the image.
        ancestor_ids: Ids of the segments that contain this one, the smallest (its parent) first.
        sources: URIs of all files of the image and of the folders above them, from ``uri_sources``.
        tags: Tags assigned at ingest, sorted.
        captured_s: Capture time in seconds since 1970 UTC; see ``ImageRecord``.
        colours: Shares of the basic colours inside the mask; None if an earlier segdex stored the segment.
        labels: Labels that models, concepts and people gave; an author gives a name at most once.
        sets: Ids of the sets of the segment or of its image, sorted; see ``segdex_core.sets``.
        write: Token of the write that stored the segment last, so that a deletion spares what others write
            meanwhile; empty if an earlier segdex stored it. Comparisons of records ignore it.
        labelling: Token of the write that set the labels, so that who changes labels loses none of another
            process; empty if there was none since the segment was stored. Comparisons of records ignore it.
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
    colours: ColourShares | None = None
    labels: tuple[SegmentLabel, ...] = ()
    sets: tuple[UUID, ...] = ()
    write: str = field(default="", compare=False)
    labelling: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.area_fraction <= 1:
            raise ValueError(f"area_fraction must be in (0, 1], but got {self.area_fraction}")
        if not 0 <= self.object_score <= 1:
            raise ValueError(f"object_score must be between 0 and 1, but got {self.object_score}")

    @property
    def parent_id(self) -> UUID | None:
        """Id of the smallest segment that contains this one; None at the top of the mask tree."""
        return self.ancestor_ids[0] if self.ancestor_ids else None

    @property
    def depth(self) -> int:
        """Number of segments that contain this one; 0 at the top of the mask tree."""
        return len(self.ancestor_ids)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file that holds an image.

    Attributes:
        uri: ``file:`` URI of the file.
        mtime_ns: Modification time in nanoseconds since 1970 UTC.
    """

    uri: str
    mtime_ns: int


ImageStatus = Literal["done", "no_segments"]


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A change of an image that takes several writes, and that is being made or was interrupted.

    Attributes:
        kind: ``write`` while segments are written and replaced; ``copy`` while fields of the record are
            copied to the segments; ``delete`` while the image is deleted.
        token: Random digits, so that no two changes are equal.
    """

    kind: Literal["write", "copy", "delete"]
    token: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An entry of the ledger: an image whose segments are in the index.

    It is the first of an image that is written and the last that is deleted. While segments and record do not
    fit, ``pending`` says why, and every later run finishes the change or makes it again.

    Attributes:
        image_id: Result of ``make_image_id`` for ``sha256``.
        sha256: SHA-256 of the file content, 64 hexadecimal digits.
        size_bytes: Size of the file in bytes.
        files: All known files with exactly this content, sorted by URI; at least one.
        width: Width in pixels after EXIF orientation.
        height: Height in pixels after EXIF orientation.
        captured_s: Capture time in seconds since 1970 UTC, from the metadata or, without a date there, the
            mtime of the first file seen.
        place_lat_lon: EXIF latitude and longitude in degrees, or None.
        tags: Tags assigned at ingest, sorted.
        status: ``done``, or ``no_segments`` if no segment was found.
        segment_count: Number of stored segments.
        recipe: Fingerprint of the models and settings that made the segments. An ingest with another recipe
            segments the image again. Empty if the segments were never written completely.
        revision: Number of times the index has written this record; 0 if it was not read from an index. A
            write succeeds only if the index still has this revision. Comparisons of records ignore the
            revision.
        pending: The change that is not finished; None if there is none.
        captured_from: What ``captured_s`` is from, usually one of ``CapturedFrom``; None if an earlier segdex
            stored the image.
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
    pending: PendingChange | None = None
    captured_from: str | None = None

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
    def is_shown(self) -> bool:
        """Whether searches show the image: it was written completely once, and is not being deleted."""
        return self.recipe != "" and (self.pending is None or self.pending.kind != "delete")

    def is_made_by(self, recipe: str) -> bool:
        """Return whether the index has all segments that a recipe makes of the image, and no others."""
        return self.recipe == recipe and (self.pending is None or self.pending.kind == "copy")

    @property
    def sources(self) -> tuple[str, ...]:
        """Results of ``uri_sources`` for all files, sorted, without duplicates."""
        return tuple(sorted({source for file in self.files for source in uri_sources(file.uri)}))


@dataclass(frozen=True, slots=True)
class IndexFingerprint:
    """Models and settings that filled an index. An index has vectors of only one embedder.

    Attributes:
        profile: Name of the profile that made the index, which is the default for later commands.
        embedder: Value of ``Embedder.fingerprint``.
        dim: Length of a vector.
        views: Views of a segment, in the order in which its vector concatenates them.
        segmenter: Value of ``Segmenter.fingerprint`` at the first ingest, for information only.
        schema_version: ``SCHEMA_VERSION`` of the segdex that wrote the index.
        quality: Quality of the last ingest (``fast``, ``balanced`` or ``best``), which is the default for the
            next ingest; None if unknown.
    """

    profile: str
    embedder: str
    dim: int
    views: tuple[str, ...]
    segmenter: str
    schema_version: int = SCHEMA_VERSION
    quality: str | None = None

    def describe_mismatch(self, wanted: "IndexFingerprint") -> str | None:
        """Return why vectors made with ``wanted`` cannot go into this index, or None if they can."""
        for name in ("embedder", "dim", "views"):
            mine, other = getattr(self, name), getattr(wanted, name)
            if mine != other:
                return f"its {name} is {mine!r}, but {other!r} was asked for"
        return None

    def with_vectors_of(self, other: "IndexFingerprint") -> "IndexFingerprint":
        """Return the fingerprint of this index with the vectors of another one."""
        return replace(self, profile=other.profile, embedder=other.embedder, dim=other.dim, views=other.views)


@dataclass(frozen=True, slots=True)
class MaskRecipe:
    """What made the masks of an image; together with an embedder and its views, it is a recipe.

    Attributes:
        segmenter: ``Segmenter.fingerprint``.
        generator: Fingerprint of the settings of the mask generator.
        ranker: Fingerprint of the ranker of the masks.
    """

    segmenter: str
    generator: str
    ranker: str


@dataclass(frozen=True, slots=True)
class SegmentFilter:
    """Conditions that must all hold. None or an empty tuple means no condition.

    Attributes:
        image_ids: Images to search; the segment is in one of them.
        min_area_fraction: Smallest ``area_fraction``, inclusive, 0 to 1.
        max_area_fraction: Largest ``area_fraction``, inclusive, 0 to 1.
        min_depth: Smallest ``depth``, inclusive; 1 excludes segments at the top of the mask tree.
        sources: URIs of files or folders, as in ``uri_sources``; the image is one of the files or below one
            of the folders.
        tags: Tags that the segment must all have.
        captured_from_s: Earliest capture time in seconds since 1970 UTC, inclusive.
        captured_until_s: Latest capture time in seconds since 1970 UTC, exclusive.
        colours: Shares of colours that the segment must all have.
        labels: Labels of which the segment must have at least one, by any author.
        sets: Ids of sets of which the segment must be in at least one.
    """

    image_ids: tuple[UUID, ...] = ()
    min_area_fraction: float | None = None
    max_area_fraction: float | None = None
    min_depth: int | None = None
    sources: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    captured_from_s: float | None = None
    captured_until_s: float | None = None
    colours: tuple[ColourAtLeast, ...] = ()
    labels: tuple[str, ...] = ()
    sets: tuple[UUID, ...] = ()

    def __post_init__(self) -> None:
        for name in ("min_area_fraction", "max_area_fraction"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
                raise ValueError(f"{name} must be between 0 and 1, but got {value}")


EVERYTHING = SegmentFilter()
"""Filter without conditions."""


@dataclass(frozen=True, slots=True)
class FusedSegment:
    """A segment found by a query over several views, without its mask.

    A key is an id as text. Ranking compares keys, and only segments of the answer get UUIDs: with UUIDs for
    all candidates, a query took 1.1 times as long for 44 candidates and 1.3 to 1.4 times as long for 4,000.

    Attributes:
        segment_key: Id of the segment as text.
        image_key: Id of the image as text.
        ancestor_keys: Ids, as text, of the segments that contain this one, the smallest first.
        score: Weighted mean of the dot products of the views, plus the object score times its weight.
    """

    segment_key: str
    image_key: str
    ancestor_keys: tuple[str, ...]
    score: float

    @property
    def segment_id(self) -> UUID:
        """Id of the segment."""
        return UUID(self.segment_key)

    @property
    def image_id(self) -> UUID:
        """Id of the image."""
        return UUID(self.image_key)


@dataclass(frozen=True, slots=True)
class ViewedSegment:
    """A segment with the dot product of each requested view."""

    record: SegmentRecord
    view_scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class IndexCounts:
    """Number of images and number of segments in an index."""

    images: int
    segments: int


@dataclass(frozen=True, slots=True)
class EmbeddedSegments:
    """Segments with their vectors: those of one image, which are written together, or a part of an index.

    Attributes:
        records: The n segments.
        vectors: Unit vectors (n, dim) by view name, in the order of ``records``.
    """

    records: Sequence[SegmentRecord]
    vectors: Mapping[str, Vectors]

    def __post_init__(self) -> None:
        for view, rows in self.vectors.items():
            if len(rows) != len(self.records):
                raise ValueError(f"{len(self.records)} records, but {len(rows)} vectors of view {view!r}")
