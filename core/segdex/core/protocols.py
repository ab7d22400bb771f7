"""The three ports of segdex: everything stateful stands behind one of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from uuid import UUID

import numpy as np
import numpy.typing as npt

from segdex.core.geometry import BoxXYXY
from segdex.core.masks import BoolMask
from segdex.core.records import (
    EVERYTHING,
    EmbeddedSegments,
    FusedSegment,
    ImageRecord,
    IndexCounts,
    IndexFingerprint,
    RGBImage,
    ScoredImage,
    ScoredSegment,
    SegmentFilter,
    SegmentRecord,
    Vectors,
    ViewedSegment,
)

FRAME_PX = 1024
"""Side of the square that SAM 2 was trained on: pictures are squashed to it, each axis by its own factor."""

FOREGROUND, BACKGROUND, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, PADDING = 1, 0, 2, 3, -1
"""Point labels of SAM's prompt encoder (segment-anything, ``prompt_encoder.py``)."""


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """A batch of n prompts for one picture.

    Attributes:
        points_xy: (n, p, 2) float32, pixels of the picture that was encoded, x first. A box is two points.
        labels: (n, p) int64: 1 foreground, 0 background, 2 and 3 the corners of a box, -1 padding.
        mask_logits: (n, s, s) float32 logits of an earlier mask (about -32 to 32), or None; s is the
            ``mask_px`` of the features that they are decoded of.
    """

    points_xy: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    mask_logits: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n, p = self.labels.shape
        if self.points_xy.shape != (n, p, 2):
            raise ValueError(f"points_xy must have shape {(n, p, 2)}, but got {self.points_xy.shape}")
        if not np.isin(self.labels, (1, 0, 2, 3, -1)).all():
            raise ValueError("labels must be 1 foreground, 0 background, 2 and 3 box corners or -1 padding")
        if self.mask_logits is not None:
            side = self.mask_logits.shape[-1]
            if self.mask_logits.shape != (n, side, side):
                raise ValueError(f"mask_logits must have shape ({n}, s, s), but got {self.mask_logits.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> "Prompts":
        masks = None if self.mask_logits is None else self.mask_logits[part]
        return Prompts(self.points_xy[part], self.labels[part], masks)


@dataclass(frozen=True, slots=True, eq=False)
class DecodedMasks:
    """What a decoder made of n prompts.

    Attributes:
        logits: (n, m, s, s) float32 mask logits over the whole picture, clamped to -32..32; above 0 is the
            thing. m is 3 with ``multimask``, else 1; s is ``mask_px``. Of narrowed features, only their part.
        predicted_iou: (n, m) float32, the model's estimate of each mask's IoU.
        tokens: (n, m, t) float32, what the decoder knows about each mask; in SAM 2 its mask token and the
            IoU token, 512 numbers.
    """

    logits: npt.NDArray[np.float32]
    predicted_iou: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.float32]

    @classmethod
    def join(cls, parts: Sequence["DecodedMasks"]) -> "DecodedMasks":
        """Return the masks of several batches as one."""
        return cls(
            logits=np.concatenate([part.logits for part in parts]),
            predicted_iou=np.concatenate([part.predicted_iou for part in parts]),
            tokens=np.concatenate([part.tokens for part in parts]),
        )


class ImageFeatures(Protocol):
    """A picture as a segmenter encoded it; only the segmenter that made it can read it."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels of the picture that was encoded."""
        ...

    @property
    def mask_px(self) -> int:
        """Side of the square masks that are decoded of it: a quarter of its frame."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds."""
        ...


class PromptableSegmenter(Protocol):
    """SAM 2 behind two calls. Several threads may share one, each with pictures of its own."""

    @property
    def name(self) -> str:
        """Short name of model and source, for people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the masks can change: model, weights, adapter version and precision."""
        ...

    @property
    def decoder_id(self) -> str:
        """Says whose tokens these are: equal for the same weights of the decoder, wherever they are from."""
        ...

    def prompts_per_batch(self, features: ImageFeatures) -> int:
        """Return how many prompts to decode in one call on this device; more of a narrow part."""
        ...

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        """Return the features of each picture; they may have different sizes.

        Args:
            images: The pictures.
            frame_px: Side of the square that each is squashed to; a smaller one costs less and sees less.
                A multiple of 32.

        Raises:
            ValueError: If it is not.
        """
        ...

    def dump(self, features: ImageFeatures) -> bytes:
        """Return the features of a whole picture for a file.

        Raises:
            ValueError: If they are another's, or of a part.
        """
        ...

    def restore(self, data: bytes) -> ImageFeatures:
        """Return what ``dump`` of a segmenter with the same fingerprint made bytes of.

        Raises:
            ValueError: If they are something else.
        """
        ...

    def narrow(self, features: ImageFeatures, box: BoxXYXY) -> ImageFeatures:
        """Return the features of a part of the picture, of which masks are decoded faster.

        Points and ``size_hw`` stay those of the whole picture. A mask that lies well inside the part comes
        out about as it does of the whole; one that reaches its edge is cut off there.

        Args:
            features: Of the whole picture.
            box: In pixels of the masks, 0 to ``mask_px``; edges are multiples of 4.

        Raises:
            ValueError: If the box has other edges or leaves the frame, or the features are another's.
        """
        ...

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        """Return the masks for a batch of prompts.

        Raises:
            ValueError: If ``features`` come from another segmenter, or a prompt has no point.
        """
        ...


class TextFeatures(Protocol):
    """A picture as a text-prompted segmenter encoded it; serves any number of texts."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels of the picture that was encoded."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds."""
        ...


class TextSegmenter(Protocol):
    """EVF-SAM2 behind two calls: masks of what a text names."""

    @property
    def name(self) -> str:
        """Short name of model and source, for people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the masks can change."""
        ...

    def encode(self, images: Sequence[RGBImage]) -> Sequence[TextFeatures]:
        """Return the features of each picture."""
        ...

    def decode(
        self, features: Sequence[TextFeatures], texts: Sequence[str], *, semantic: bool = False
    ) -> DecodedMasks:
        """Return one mask for each pair of a picture and a text.

        Args:
            features: n pictures; the same one may come several times.
            texts: n texts.
            semantic: Ask for all things of a kind instead of one.

        Raises:
            QueryError: If a text is empty or too long.
            ValueError: If ``features`` come from another segmenter.
        """
        ...


class Embedder(Protocol):
    """A model that puts pictures and texts into one vector space; several threads may share one."""

    @property
    def name(self) -> str:
        """Short name of model and source, for people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever a vector can change: model, weights, preprocessing, prompt template."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        """Return one unit row for each picture or crop, of any sizes; (0, dim) for none."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return one unit row for each text.

        Raises:
            QueryError: If a text is empty or longer than the model reads; the message says how long.
        """
        ...

    def relevance(self, image: RGBImage, texts: Vectors) -> npt.NDArray[np.float32]:
        """Return how near each part of a picture is to each text.

        Args:
            image: (H, W, 3) uint8, a picture or a part of one.
            texts: (n, dim) unit rows of ``embed_texts``.

        Returns:
            (n, h, w) float32, cosines of about -1 to 1 in cells that cover the picture evenly.

        Raises:
            ModelError: If the architecture has no such map.
        """
        ...


@runtime_checkable
class Vocabulary(Protocol):
    """An embedder that has words of its own, such as the labels of a classifier."""

    def knows(self, text: str) -> bool:
        """Return whether a text is one of them."""
        ...


@runtime_checkable
class RegionEmbedder(Protocol):
    """An embedder that can also average one pass over a picture inside masks: a view of all for one price."""

    @property
    def region_share(self) -> float | None:
        """Share of regions in the ``mask`` view, beside blurred crops, that was measured to be best, 0 to 1.

        None where the architecture of the model has no regions.
        """
        ...

    def embed_regions(self, image: RGBImage, masks: Iterable[BoolMask]) -> Vectors:
        """Return one unit row for each mask of a picture, (0, dim) for none.

        Args:
            image: (H, W, 3) uint8, the whole picture.
            masks: n masks (H, W), none empty; one is read at a time.

        Raises:
            ModelError: If ``region_share`` is None.
        """
        ...


class SegmentIndex(Protocol):
    """Segments with a vector for each view, and the ledger of pictures. All writes are idempotent."""

    @property
    def location(self) -> str:
        """Where it is, for people: ``edge:PATH``, ``http://HOST:PORT`` or ``memory``."""
        ...

    def fingerprint(self) -> IndexFingerprint | None:
        """Return what filled the index, None when there is none yet."""
        ...

    def ensure(self, wanted: IndexFingerprint) -> None:
        """Create the index for ``wanted``, or check that it already is one for it.

        Raises:
            IndexMismatchError: If it was filled by another embedder, or with other views.
            IndexVersionError: If it has a newer schema.
        """
        ...

    def upsert_segments(self, segments: EmbeddedSegments) -> None:
        """Write segments with their vectors; the same id again overwrites. Durable when it returns."""
        ...

    def upsert_image(self, record: ImageRecord, vector: Vectors) -> None:
        """Write a line of the ledger with the (1, dim) vector of the whole picture."""
        ...

    def update_image(self, record: ImageRecord) -> None:
        """Replace the payload of a known picture, and what its segments repeat of it.

        Those are ``sources`` (``uri_sources`` of all its files), ``tags`` and ``captured_s``. Vectors stay.
        The segments are written first and the ledger last, so that a crash is repaired by doing it again.
        """
        ...

    def query(
        self,
        vector: npt.NDArray[np.float32],
        *,
        view: str,
        limit: int,
        where: SegmentFilter = EVERYTHING,
        exact: bool = False,
    ) -> list[ScoredSegment]:
        """Return the segments with the largest dot product, best first.

        Args:
            vector: (dim,) float32, not zero; its length scales the scores.
            view: Which vector of a segment to compare with.
            limit: At most this many.
            where: Conditions on the payload.
            exact: Compare with every vector instead of walking the HNSW graph.
        """
        ...

    def query_fused(
        self,
        vectors: Mapping[str, npt.NDArray[np.float32]],
        *,
        weights: Mapping[str, float],
        object_weight: float = 0.0,
        limit: int,
        where: SegmentFilter = EVERYTHING,
        exact: bool = False,
    ) -> list[FusedSegment]:
        """Return the segments with the largest weighted mean of dot products plus object score, best first.

        Args:
            vectors: (dim,) float32 by view.
            weights: Share of each view, 0 or more, not all 0.
            object_weight: What the object score counts beside that mean, 0 or more.
            limit: At most this many.
            where: Conditions on the payload.
            exact: Compare with every vector instead of walking the HNSW graph.
        """
        ...

    def view_segments(
        self, segment_ids: Sequence[UUID], vectors: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[UUID, ViewedSegment]:
        """Return those of some segments that exist, with the dot product of each view."""
        ...

    def query_images(
        self, vector: npt.NDArray[np.float32], *, limit: int, exact: bool = False
    ) -> list[ScoredImage]:
        """Return the pictures whose whole-picture vector has the largest dot product, best first."""
        ...

    def get_segments(self, segment_ids: Sequence[UUID]) -> list[SegmentRecord]:
        """Return the segments that exist, in the order asked for."""
        ...

    def get_vectors(
        self, segment_ids: Sequence[UUID]
    ) -> Mapping[UUID, Mapping[str, npt.NDArray[np.float32]]]:
        """Return the (dim,) vectors by view of the segments that exist."""
        ...

    def get_images(self, image_ids: Sequence[UUID]) -> list[ImageRecord]:
        """Return the pictures that exist, in the order asked for."""
        ...

    def get_image_vectors(self, image_ids: Sequence[UUID]) -> Mapping[UUID, npt.NDArray[np.float32]]:
        """Return the (dim,) whole-picture vectors of the pictures that exist."""
        ...

    def scroll_segments(self, where: SegmentFilter = EVERYTHING) -> Iterator[SegmentRecord]:
        """Yield all matching segments in the order of their ids."""
        ...

    def scroll_images(self) -> Iterator[ImageRecord]:
        """Yield the whole ledger in the order of the ids."""
        ...

    def delete_segments(self, image_id: UUID) -> None:
        """Delete all segments of a picture."""
        ...

    def delete_image(self, image_id: UUID) -> None:
        """Delete a picture: its line of the ledger first, then its segments.

        So a crash in between leaves a picture that the next ingest does again.
        """
        ...

    def counts(self, where: SegmentFilter = EVERYTHING) -> IndexCounts:
        """Return the exact numbers of pictures and of matching segments."""
        ...

    def optimize(self) -> None:
        """Build what makes queries fast (the HNSW graph); may take minutes on a large embedded index."""
        ...

    def close(self) -> None:
        """Flush and release the index; calling it twice is harmless."""
        ...
