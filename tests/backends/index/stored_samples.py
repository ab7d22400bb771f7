"""Made-up pictures and segments for the tests of the index; no pixels are behind them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex_core.colours import COLOUR_NAMES, ColourShares
from segdex_core.geometry import BoxXYXY
from segdex_core.ids import make_image_id, make_segment_id
from segdex_core.masks import MaskRLE
from segdex_core.records import (
    EmbeddedSegments,
    ImageFile,
    ImageRecord,
    IndexFingerprint,
    SegmentRecord,
    Vectors,
)

DIM = 12
VIEWS = ("crop", "mask")
FINGERPRINT = IndexFingerprint(
    profile="offline", embedder="fake-embedder-1", dim=DIM, views=VIEWS, segmenter="fake-segmenter-1"
)
FOLDERS = ("file:///photos/a", "file:///photos/b/c", "file:///other%20disk")


@dataclass(frozen=True)
class Picture:
    """A picture with its segments, as ingest would write it."""

    record: ImageRecord
    vector: Vectors
    segments: EmbeddedSegments

    @property
    def image_id(self) -> UUID:
        return self.record.image_id

    @property
    def segment_ids(self) -> list[UUID]:
        return [record.segment_id for record in self.segments.records]


def make_picture(number: int, segment_count: int, *, dim: int = DIM, seed: int = 0) -> Picture:
    """Return picture ``number``; the same arguments always give the same one."""
    rng = np.random.default_rng((seed, number))
    sha256 = hashlib.sha256(f"{seed} {number}".encode()).hexdigest()
    tags = tuple(
        sorted({"all", ("cat", "dog", "\u00fc \u2603")[number % 3], *(["odd"] if number % 2 else [])})
    )
    uri = f"{FOLDERS[number % len(FOLDERS)]}/picture{number}.jpg"
    record = ImageRecord(
        image_id=make_image_id(sha256),
        sha256=sha256,
        size_bytes=1_000_000 + number,
        files=(ImageFile(uri=uri, mtime_ns=1_712_345_678_901_234_567 + number),),
        width=640,
        height=480,
        captured_s=1_700_000_000 + 1000 * number + 0.1,
        place_lat_lon=None if number % 2 else (47.1 + number / 3, -8.1),
        tags=tags,
        status="done" if segment_count else "no_segments",
        segment_count=segment_count,
        recipe="recipe-1",
    )
    segments: list[SegmentRecord] = []
    for n in range(segment_count):
        mask = MaskRLE(size_hw=(480, 640), counts=f"{number}_{n}\\`")
        area_px = int(rng.integers(1, 640 * 480))
        segments.append(
            SegmentRecord(
                segment_id=make_segment_id(record.image_id, mask),
                image_id=record.image_id,
                box=BoxXYXY(n, 0, n + 10, 480),
                mask=mask,
                area_px=area_px,
                area_fraction=area_px / (640 * 480),
                predicted_iou=float(np.float32(rng.random())),
                stability=float(rng.random()),
                object_score=float(rng.random()),
                touches_border=n % 2 == 0,
                ancestor_ids=tuple(s.segment_id for s in reversed(segments[-2:])) if n % 3 else (),
                sources=record.sources,
                tags=tags,
                captured_s=record.captured_s,
                colours=_colours(n, seed=(seed, number)),
            )
        )
    vectors = {view: unit_rows(rng, segment_count, dim) for view in VIEWS}
    return Picture(record, unit_rows(rng, 1, dim), EmbeddedSegments(segments, vectors))


def _colours(n: int, *, seed: tuple[int, int]) -> ColourShares | None:
    """Return two or three colours of a segment; every fifth segment is one of an earlier segdex."""
    if n % 5 == 4:
        return None
    rng = np.random.default_rng((*seed, n))
    counts = rng.multinomial(20, rng.dirichlet(np.full(len(COLOUR_NAMES), 0.15)))
    return ColourShares(tuple((counts * 50).tolist()))


def without_colours(picture: Picture) -> Picture:
    """Return a picture as a segdex wrote it that measured no colours."""
    records = [replace(record, colours=None) for record in picture.segments.records]
    return replace(picture, segments=replace(picture.segments, records=records))


def make_pictures(*, seed: int = 0) -> list[Picture]:
    """Return 24 pictures with 0 to 120 segments each, about 270 together: more than one page of a scroll."""
    counts = [120, 40, 0, 1, *(3 + n % 5 for n in range(20))]
    return [make_picture(number, count, seed=seed) for number, count in enumerate(counts)]


def unit_rows(rng: np.random.Generator, count: int, dim: int) -> Vectors:
    """Return (count, dim) float32 random unit rows."""
    rows = rng.normal(size=(count, dim)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def all_segments(pictures: Sequence[Picture]) -> list[SegmentRecord]:
    """Return the segments of all pictures in the order of their ids."""
    records = [record for picture in pictures for record in picture.segments.records]
    return sorted(records, key=lambda record: record.segment_id)


def all_vectors(pictures: Sequence[Picture], view: str) -> dict[UUID, npt.NDArray[np.float32]]:
    """Return the vectors of one view of all segments."""
    return {
        segment_id: row
        for picture in pictures
        for segment_id, row in zip(picture.segment_ids, picture.segments.vectors[view], strict=True)
    }
