"""Re-embed an index: new vectors from stored masks and the files of the images, without segmenting."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from uuid import UUID

from segdex_core.errors import ImageError, ImageFailedError, IndexMissingError, UsageError
from segdex_core.media.decode import decode_image
from segdex_core.media.uris import display_path
from segdex_core.ports.decoder import Decode
from segdex_core.ports.index import SegmentIndex, VectorCopy
from segdex_core.ports.source import Source
from segdex_core.records import (
    SEGMENT_VIEWS,
    EmbeddedSegments,
    ImageRecord,
    MaskRecipe,
    RGBImage,
    SegmentFilter,
    Vectors,
)
from segdex_ingest.again import gone, read_again, stored_segment
from segdex_ingest.ahead import results_ahead
from segdex_ingest.analyse import Embedding, embed_image
from segdex_ingest.earlier import made_masks
from segdex_ingest.failures import failures_of
from segdex_ingest.places import may_exist

_UNKNOWN = "unknown"
"""Ranker of masks that were made by settings that nobody noted."""

TIMED_IMAGES = 3
"""Images that ``rehearse_reembedding`` embeds to learn how long the others take."""


@dataclass(frozen=True, slots=True)
class ReembedOptions:
    """How images are read.

    Attributes:
        max_pixels: Images with more pixels are not embedded.
        decode_threads: Threads that read and decode images ahead of the embedder, 1 or more.
        skip_missing: Leave images that cannot be read out of the new vectors, instead of keeping the old
            vectors in use.
        decode: Decodes the files.
    """

    max_pixels: int
    decode_threads: int = 2
    skip_missing: bool = False
    decode: Decode = decode_image


@dataclass(frozen=True, slots=True)
class MissingImage:
    """An image that cannot be embedded again.

    Attributes:
        record: Record of the image.
        reason: One line.
    """

    record: ImageRecord
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class ReembedReport:
    """The result of a re-embedding.

    Attributes:
        images: Number of images in the index at the start.
        embedded: Number of images that this run embedded.
        segments: Number of their segments.
        missing: Images that could not be embedded.
        unknown: Number of images whose masks were made by settings that are not known. The next ingest asks
            to segment them again.
        index: The index with the new vectors; None if they are not in use.
        nothing_to_do: Whether the index has these vectors already.
        interrupted: Whether the user stopped the run.
        elapsed_s: Wall seconds of the whole run.
    """

    images: int
    embedded: int
    segments: int
    missing: Sequence[MissingImage]
    unknown: int
    index: SegmentIndex | None
    nothing_to_do: bool
    interrupted: bool
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a re-embedding would do.

    Attributes:
        images: Number of images in the index.
        to_embed: Number of images that would be embedded.
        missing: Images that could not be embedded.
        image_s: Wall seconds per image; None if no image could be timed.
        nothing_to_do: Whether the index has these vectors already.
    """

    images: int
    to_embed: int
    missing: Sequence[MissingImage]
    image_s: float | None
    nothing_to_do: bool


def reembed_index(
    index: SegmentIndex,
    embedding: Embedding,
    *,
    source: Source,
    profile: str,
    options: ReembedOptions,
    on_start: Callable[[int], None] = lambda _: None,
    on_image: Callable[[ImageRecord, str], None] = lambda *_: None,
) -> ReembedReport:
    """Embed every image of an index again, and switch to the new vectors in one step.

    Images are read, but never segmented. Searches continue on the old vectors. A run that is stopped or
    killed is resumed by the next run with the same embedder and views. What other processes write in the
    meantime is copied by comparing both sets of vectors again until nothing is left. The last comparison
    happens while writes are refused (see ``VectorCopy.fenced``), so the new vectors lack no write that
    succeeded.

    If an image cannot be read, the new vectors are kept and not switched to, unless ``skip_missing`` is set.

    Args:
        index: Index to re-embed.
        embedding: New embedder and views.
        source: Source of the files.
        profile: Profile of the new embedder, for the index fingerprint.
        options: Limits, threads, and what happens to images that cannot be read.
        on_start: Called with the number of images to embed.
        on_image: Called after each image, with an empty text or the reason why it could not be embedded.

    Raises:
        IndexMissingError: If there is no index.
        IndexMismatchError: If another re-embedding was faster.
        SegmentIndexError: If the index fails; the next run continues.
        ModelError: If the embedder fails.
    """
    started = time.perf_counter()
    run = _Run(index, embedding, source=source, profile=profile, options=options, on_image=on_image)
    images = index.counts().images
    switched: SegmentIndex | None = None
    interrupted = False
    is_done = run.is_done()
    if not is_done:
        copy = run.copy()
        try:
            behind = run.behind(copy)
            on_start(len(behind))
            while behind:
                run.embed(copy, behind)
                behind = run.behind(copy)
            if run.may_switch(images):
                with copy.fenced():
                    while behind := run.behind(copy):  # written since the last comparison
                        run.embed(copy, behind)
                    if run.may_switch(images):
                        switched = run.switch(copy)
        except KeyboardInterrupt:
            interrupted = True
    return ReembedReport(
        images=images,
        embedded=run.embedded,
        segments=run.segments,
        missing=list(run.missing.values()),
        unknown=0 if switched is None else run.unknown(),
        index=switched,
        nothing_to_do=is_done,
        interrupted=interrupted,
        elapsed_s=time.perf_counter() - started,
    )


def rehearse_reembedding(
    index: SegmentIndex, embedding: Embedding, *, source: Source, profile: str, options: ReembedOptions
) -> Rehearsal:
    """Return what ``reembed_index`` would do, without writing anything.

    The time is measured on a few images, spread over the index.

    Raises:
        IndexMissingError: If there is no index.
        ModelError: If the embedder fails.
    """
    run = _Run(index, embedding, source=source, profile=profile, options=options)
    images = index.counts().images
    if run.is_done():
        return Rehearsal(images, 0, (), None, nothing_to_do=True)
    # without a copy, none is made: that would be a write
    has_copy = index.has_copy(embedding.key())
    records = run.copy().behind(align=False) if has_copy else list(index.scroll_images())
    there: list[ImageRecord] = []
    missing: list[MissingImage] = []
    for record in records:
        if any(may_exist(source)(file.uri) for file in record.files):
            there.append(record)
        else:
            missing.append(MissingImage(record, gone(record)))
    times: list[float] = []
    for record in there[:: max(len(there) // TIMED_IMAGES, 1)][: TIMED_IMAGES + 1]:
        started = time.perf_counter()
        pixels = run.read(record)
        if not isinstance(pixels, ImageError):
            run.vectors_of(record, pixels)
            times.append(time.perf_counter() - started)
    measured = times[1:] or times  # the first image also loads what the embedder loads on first use
    image_s = sum(measured) / len(measured) if measured else None
    return Rehearsal(images, len(there), missing, image_s, nothing_to_do=False)


class _Run:
    """The state of one re-embedding."""

    def __init__(
        self,
        index: SegmentIndex,
        embedding: Embedding,
        *,
        source: Source,
        profile: str,
        options: ReembedOptions,
        on_image: Callable[[ImageRecord, str], None] = lambda *_: None,
    ) -> None:
        found = index.fingerprint()
        if found is None:
            raise IndexMissingError(f"{index.location} is empty; fill it with: segdex ingest FOLDER")
        self._index = index
        self._embedding = embedding
        self._source = source
        self._options = options
        self._on_image = on_image
        self._found = found
        self._made = made_masks(found, index.recipes())
        self._used: dict[str, MaskRecipe] = {}
        self._wanted = replace(
            found,
            profile=profile,
            embedder=embedding.embedder.fingerprint,
            dim=embedding.embedder.dim,
            views=SEGMENT_VIEWS,
        )
        self.missing: dict[UUID, MissingImage] = {}
        self.embedded = self.segments = 0

    def is_done(self) -> bool:
        """Return whether every vector of the index was made by the embedder and its views."""
        if self._found.embedder != self._wanted.embedder:
            return False
        return all(self._updated(record).recipe == record.recipe for record in self._index.scroll_images())

    def copy(self) -> VectorCopy:
        """Return the copy that is filled, or resumed."""
        return self._index.vector_copy(self._wanted, key=self._embedding.key(), update=self._updated)

    def behind(self, copy: VectorCopy) -> list[ImageRecord]:
        """Return the images to embed, without those that cannot be read."""
        self._made = made_masks(self._found, self._index.recipes())  # another ingest may have noted some
        behind = {record.image_id: record for record in copy.behind()}
        self.missing = {  # an ingest may have deleted the image, or found its file at another place
            key: missing
            for key, missing in self.missing.items()
            if key in behind and behind[key].files == missing.record.files
        }
        return [record for key, record in behind.items() if key not in self.missing]

    def embed(self, copy: VectorCopy, records: Sequence[ImageRecord]) -> None:
        """Embed images and write them to the copy, in order; threads read ahead."""
        threads = self._options.decode_threads
        with closing(results_ahead(records, self.read, threads=threads, ahead=threads)) as images:
            for record, pixels in images:
                found = pixels if isinstance(pixels, ImageError) else self.vectors_of(record, pixels)
                if isinstance(found, ImageError):
                    self.missing[record.image_id] = MissingImage(record, str(found))
                    self._on_image(record, str(found))
                    continue
                segments, vector = found
                copy.write(record, segments, vector)
                self.embedded += 1
                self.segments += len(segments.records)
                self._on_image(record, "")

    def read(self, record: ImageRecord) -> RGBImage | ImageError:
        """Return the pixels of an image, or the reason why there are none."""
        try:
            return read_again(
                record,
                source=self._source,
                max_pixels=self._options.max_pixels,
                decode=self._options.decode,
            )
        except ImageError as error:
            return error

    def vectors_of(
        self, record: ImageRecord, pixels: RGBImage
    ) -> tuple[EmbeddedSegments, Vectors] | ImageFailedError:
        """Return the stored segments of an image with new vectors, and the vector of the whole image.

        If the embedder fails on the image, the reason is returned.
        """
        records = list(self._index.scroll_segments(SegmentFilter(image_ids=(record.image_id,))))
        segments = [stored_segment(one) for one in records]
        try:
            with failures_of(display_path(record.files[0].uri)):
                vector, vectors = embed_image(pixels, segments, self._embedding)
        except ImageFailedError as error:
            return error
        return EmbeddedSegments(records=records, vectors=vectors), vector

    def may_switch(self, images: int) -> bool:
        """Return whether the copy may replace the vectors in use.

        Raises:
            UsageError: If no image can be read at all, which ``skip_missing`` does not cover.
        """
        if self.missing and self._options.skip_missing and len(self.missing) >= images:
            raise UsageError(
                f"all {images:,} pictures of {self._index.location} cannot be read: "
                f"{next(iter(self.missing.values())).reason}; is a disk not mounted?"
            )
        return not self.missing or self._options.skip_missing

    def switch(self, copy: VectorCopy) -> SegmentIndex:
        """Replace the vectors in use by the copy."""
        return copy.switch(
            {self._embedding.recipe_of(masks): masks for masks in self._used.values()},
            left_out=list(self.missing),
        )

    def unknown(self) -> int:
        """Return the number of images whose masks were made by unknown settings."""
        return sum(self._masks_of(record).ranker == _UNKNOWN for record in self._index.scroll_images())

    def _updated(self, record: ImageRecord) -> ImageRecord:
        if record.recipe == "":  # no recipe has made all its segments yet
            return record
        masks = self._used[record.recipe] = self._masks_of(record)
        return replace(record, recipe=self._embedding.recipe_of(masks))

    def _masks_of(self, record: ImageRecord) -> MaskRecipe:
        """Return what made the masks of an image; for unknown settings, a recipe that no ingest has."""
        return self._made.get(record.recipe) or MaskRecipe(self._found.segmenter, record.recipe, _UNKNOWN)
