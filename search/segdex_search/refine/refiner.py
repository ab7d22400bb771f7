"""Refine segments for a query: re-decode masks, apply the gate, and measure the time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

import numpy as np

from segdex_core.errors import QueryError
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import decode_mask
from segdex_core.ports.embedder import DenseEmbedder, Embedder
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures, Segmenter
from segdex_core.ports.text_segmenter import TextFeatures, TextSegmenter
from segdex_core.records import RGBImage, SegmentRecord, Vectors
from segdex_search.click import PromptedMask, ThingPrompt, full_mask, prompted_masks
from segdex_search.queries import clean_text
from segdex_search.refine.encodings import EncodingCache
from segdex_search.refine.gate import Decision, GateSettings, decide
from segdex_search.refine.map import (
    Floats,
    Proposal,
    RelevanceMap,
    agreement,
    make_map,
    map_prompt,
    outline_prompt,
    propose_by_map,
    window_of,
)
from segdex_search.timing import Stopwatch
from segdex_search.windows import placed, windows_around, windows_over

_TEXT_BATCH = 8
"""Number of hits that EVF-SAM2 decodes in one batch; the first hit waits for the last."""

_ZOOM_BELOW = 1 / 14
"""Objects whose longer side is below this share of the image's longer side are decoded in a part of the image
that is encoded separately."""

_ZOOM_SCALE, _ZOOM_FRAME_PX, _MIN_ZOOM_PX = 4.0, 512, 96
"""Part for small objects: ratio of its side to the side of the box, frame that it is encoded at, and minimum
side in pixels; see docs/research/refinement.md."""

_RELEVANCE_GAIN = 0.05
"""The mask of the map is preferred to the outline if both its predicted IoU and its agreement are higher by
at least this. With the offline embedder, smaller gains do not pay (docs/research/refinement.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Refinement:
    """The result of refining one hit.

    Attributes:
        segment_id: Id of the segment.
        decision: Whether the re-decoded mask replaces the stored mask, and why.
        proposal: Re-decoded mask; shown instead of the stored mask if it is accepted.
        relevance: Relevance map; None if EVF-SAM2 decoded the text or the embedder has no map.
        prompt: Prompt made from the map; None without a map.
        timings_ms: Wall milliseconds by stage: encode (about 0 if cached), map, decode.
    """

    segment_id: UUID
    decision: Decision
    proposal: Proposal
    relevance: RelevanceMap | None
    prompt: ThingPrompt | None
    timings_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Refiner:
    """The models, caches and settings of refinement.

    Attributes:
        segmenter: Segmenter for relevance decode.
        embedder: Embedder that filled the index; if it is no ``DenseEmbedder``, only the outline of a hit
            prompts.
        distractors: (m, dim) unit rows of other words, see ``PresenceJudge``.
        encodings: Cache of encoded images.
        gate: Thresholds for replacing a stored mask.
        text_segmenter: EVF-SAM2, used for text queries instead of relevance decode; None if not available.
        text_encodings: Cache of images encoded by ``text_segmenter``; None for no cache.
    """

    segmenter: Segmenter
    embedder: Embedder
    distractors: Vectors
    encodings: EncodingCache[ImageFeatures]
    gate: GateSettings = field(default_factory=GateSettings)
    text_segmenter: TextSegmenter | None = None
    text_encodings: EncodingCache[TextFeatures] | None = None

    def encode_whole(self, image_id: UUID | None, read: Callable[[], RGBImage]) -> ImageFeatures:
        """Return the features of an image; the image is read and encoded only if it is not cached.

        An image without an id is not cached, because no later request can ask for it.
        """

        def encode() -> ImageFeatures:
            return self.segmenter.encode([read()])[0]

        if image_id is None:
            return encode()
        return self.encodings.get((self.segmenter.fingerprint, None), encode, of=image_id)

    def forget(self, image_id: UUID) -> None:
        """Remove an image from the caches."""
        self.encodings.forget(image_id)
        if self.text_encodings is not None:
            self.text_encodings.forget(image_id)

    def encode_window(
        self,
        image_id: UUID | None,
        window: BoxXYXY,
        size_hw: tuple[int, int],
        read: Callable[[], RGBImage],
        *,
        frame_px: int = FRAME_PX,
    ) -> ImageFeatures:
        """Return the features of a window of an image, see ``encode_whole``.

        Args:
            image_id: Id of an indexed image; None for an image without an id.
            window: Part of the image; all of it is ``encode_whole``.
            size_hw: Height and width of the image in pixels.
            read: Returns the pixels of the whole image.
            frame_px: Frame that a part is encoded at.
        """
        if window.size_wh == (size_hw[1], size_hw[0]):
            return self.encode_whole(image_id, read)

        def encode() -> ImageFeatures:
            return self.segmenter.encode([_cut_out(read(), window)], frame_px=frame_px)[0]

        if image_id is None:
            return encode()
        return self.encodings.get((self.segmenter.fingerprint, window, frame_px), encode, of=image_id)

    def encode_for_text(
        self, segmenter: TextSegmenter, image_id: UUID | None, read: Callable[[], RGBImage]
    ) -> TextFeatures:
        """Return the text-prompted segmenter's features of an image; without an id they are not cached."""

        def encode() -> TextFeatures:
            return segmenter.encode([read()])[0]

        if image_id is None or self.text_encodings is None:
            return encode()
        return self.text_encodings.get(segmenter.fingerprint, encode, of=image_id)

    def refine(
        self, record: SegmentRecord, image: RGBImage, *, query: Floats, text: str | None
    ) -> Refinement:
        """Return the refinement of one segment: a better mask, or the reason that the stored mask stays.

        Args:
            record: Segment to refine.
            image: (H, W, 3) uint8, the whole image of the segment.
            query: (dim,) query vector.
            text: Text of the query if it is a single text, for EVF-SAM2; otherwise None.
        """
        if self.text_segmenter is not None and text is not None:
            [refined] = self.refine_by_text([record], lambda _: image, text)
            return refined
        clock = Stopwatch()
        relevance, prompt, proposal = self._by_relevance(record, image, query, clock)
        return self._judged(record, proposal, clock.timings_ms, relevance=relevance, prompt=prompt)

    def refine_by_text(
        self, records: Sequence[SegmentRecord], read: Callable[[UUID], RGBImage], text: str
    ) -> list[Refinement]:
        """Return the refinements of several segments by EVF-SAM2, with their images in one batch.

        Args:
            records: Segments to refine; segments of one image share one mask.
            read: Returns the pixels of an image; called only if the image is not cached.
            text: Text of the query.

        Raises:
            ValueError: If there is no text-prompted segmenter.
        """
        if self.text_segmenter is None:
            raise ValueError("this needs a text-prompted segmenter")
        clock = Stopwatch()
        pictures = {record.image_id: partial(read, record.image_id) for record in records}
        masks = self._masks_of_text(self.text_segmenter, pictures, text, clock)
        shares_ms = {stage: round(ms / len(records), 2) for stage, ms in clock.timings_ms.items()}
        return [
            self._judged(record, Proposal(masks[record.image_id], "evf", agreement=1.0), shares_ms)
            for record in records
        ]

    def _judged(
        self,
        record: SegmentRecord,
        proposal: Proposal,
        timings_ms: Mapping[str, float],
        *,
        relevance: RelevanceMap | None = None,
        prompt: ThingPrompt | None = None,
    ) -> Refinement:
        decision = decide(
            record.mask,
            proposal.mask.mask,
            stored_iou=record.predicted_iou,
            new_iou=proposal.mask.predicted_iou,
            settings=self.gate,
            may_grow=proposal.source == "evf",
        )
        return Refinement(record.segment_id, decision, proposal, relevance, prompt, timings_ms)

    def _masks_of_text(
        self,
        segmenter: TextSegmenter,
        pictures: Mapping[UUID, Callable[[], RGBImage]],
        text: str,
        clock: Stopwatch,
    ) -> dict[UUID, PromptedMask]:
        """Return the mask of a text in each image."""
        with clock.stage("encode"):
            features = [self.encode_for_text(segmenter, *picture) for picture in pictures.items()]
        with clock.stage("decode"):
            decoded = segmenter.decode(features, [text] * len(features))
            return {
                image_id: full_mask(
                    decoded.logits[row, 0], float(decoded.predicted_iou[row, 0]), features[row].size_hw
                )
                for row, image_id in enumerate(pictures)
            }

    def _by_relevance(
        self, record: SegmentRecord, image: RGBImage, query: Floats, clock: Stopwatch
    ) -> tuple[RelevanceMap | None, ThingPrompt | None, Proposal]:
        """Return the relevance map, the prompt made from it and the better mask, all in pixels of the image.

        If the embedder has no map, only the outline is re-decoded.
        """
        size_hw = (image.shape[0], image.shape[1])
        part, frame_px = _part_of(record.box, size_hw)
        pixels = _cut_out(image, part)
        stored = decode_mask(record.mask)[part.y1 : part.y2, part.x1 : part.x2]
        box = record.box.shift(-part.x1, -part.y1)
        with clock.stage("encode"):
            features = self.encode_window(record.image_id, part, size_hw, lambda: image, frame_px=frame_px)
        relevance: RelevanceMap | None = None
        if isinstance(self.embedder, DenseEmbedder):
            with clock.stage("map"):
                relevance = make_map(
                    pixels,
                    window_of(box, stored.shape),
                    query=query,
                    distractors=self.distractors,
                    embedder=self.embedder,
                )
        with clock.stage("decode"):
            [outline] = prompted_masks(
                features,
                outline_prompt(stored, box, features.mask_px),
                segmenter=self.segmenter,
                multimask=False,
            )
            if relevance is None:
                return None, None, Proposal(placed(outline, part, size_hw), "outline", agreement=1.0)
            prompt = map_prompt(relevance, inside=stored, size_hw=stored.shape, mask_px=features.mask_px)
            chosen = _preferred(
                Proposal(outline, "outline", agreement(relevance, outline.logits > 0, stored.shape)),
                propose_by_map(relevance, prompt, features=features, segmenter=self.segmenter),
            )
        return (
            replace(relevance, window=relevance.window.shift(part.x1, part.y1)),
            prompt.shift(part.x1, part.y1),
            replace(chosen, mask=placed(chosen.mask, part, size_hw)),
        )


def segment_by_text(
    image: RGBImage,
    text: str,
    *,
    refiner: Refiner,
    image_id: UUID | None = None,
    window: BoxXYXY | None = None,
) -> tuple[PromptedMask, RelevanceMap | None]:
    """Return the mask of the object that a text names in an image, and the relevance map.

    Args:
        image: (H, W, 3) uint8.
        text: Text that names the object.
        refiner: EVF-SAM2 is used if the refiner has it, otherwise relevance decode.
        image_id: Id of an indexed image, whose features are cached; None for an image without an id.
        window: Part of the image to search; None for the whole image.

    Raises:
        QueryError: If the model cannot read the text, EVF-SAM2 is asked to search a part, or there is neither
            EVF-SAM2 nor an embedder with a map.
    """
    text = clean_text(text)
    size_hw = (image.shape[0], image.shape[1])
    if refiner.text_segmenter is not None:
        if window is not None:
            raise QueryError("EVF-SAM2 looks at whole pictures: give it the text without a box")
        features = refiner.encode_for_text(refiner.text_segmenter, image_id, lambda: image)
        decoded = refiner.text_segmenter.decode([features], [text])
        return full_mask(decoded.logits[0, 0], float(decoded.predicted_iou[0, 0]), size_hw), None
    embedder = refiner.embedder
    if not isinstance(embedder, DenseEmbedder):
        raise QueryError(
            f"{embedder.name} cannot say where in a picture a text is: use points, a box, or --refiner"
        )
    query = embedder.embed_texts([text])[0]

    def mapped(part: BoxXYXY) -> RelevanceMap:
        return make_map(image, part, query=query, distractors=refiner.distractors, embedder=embedder)

    if window is None:
        relevance = max(map(mapped, windows_over(size_hw)), key=lambda one: float(one.values.max()))
    else:
        relevance = mapped(window)
    part = relevance.window if window is None else next(windows_around(window, size_hw))
    encoded = refiner.encode_window(image_id, part, size_hw, lambda: image)
    inside = replace(relevance, window=relevance.window.shift(-part.x1, -part.y1))
    prompt = map_prompt(inside, inside=None, size_hw=encoded.size_hw, mask_px=encoded.mask_px)
    found = propose_by_map(inside, prompt, features=encoded, segmenter=refiner.segmenter).mask
    return placed(found, part, size_hw), relevance


def refine_segments(
    records: Sequence[SegmentRecord],
    *,
    refiner: Refiner,
    question: Floats,
    text: str | None,
    read_picture: Callable[[UUID], RGBImage],
) -> Iterator[Refinement]:
    """Yield the refinement of each segment, in order.

    Args:
        records: Segments to refine; segments of one image should be adjacent.
        refiner: Models and settings.
        question: (dim,) query vector.
        text: Text of the query if it is a single text; otherwise None.
        read_picture: Returns the pixels of a stored image.

    Raises:
        ImageError: If an image is gone or has changed.
    """
    if refiner.text_segmenter is not None and text is not None:
        for start in range(0, len(records), _TEXT_BATCH):
            yield from refiner.refine_by_text(records[start : start + _TEXT_BATCH], read_picture, text)
        return
    pixels: dict[UUID, RGBImage] = {}
    for record in records:
        if record.image_id not in pixels:
            pixels = {record.image_id: read_picture(record.image_id)}  # one at a time: images may be large
        yield refiner.refine(record, pixels[record.image_id], query=question, text=None)


def _preferred(outline: Proposal, by_map: Proposal) -> Proposal:
    better = (
        by_map.mask.predicted_iou >= outline.mask.predicted_iou + _RELEVANCE_GAIN
        and by_map.agreement >= outline.agreement + _RELEVANCE_GAIN
    )
    return by_map if better else outline


def _part_of(box: BoxXYXY, size_hw: tuple[int, int]) -> tuple[BoxXYXY, int]:
    """Return the part of the image to decode an object in, and the frame that it is encoded at.

    It is the whole image, or a window of a long one, unless the object is small.
    """
    window = next(windows_around(box, size_hw))
    if max(box.size_wh) >= _ZOOM_BELOW * max(window.size_wh):
        return window, FRAME_PX
    return box.scale_about_centre(_ZOOM_SCALE, size_hw, min_side_px=_MIN_ZOOM_PX), _ZOOM_FRAME_PX


def _cut_out(image: RGBImage, part: BoxXYXY) -> RGBImage:
    return np.ascontiguousarray(image[part.y1 : part.y2, part.x1 : part.x2])
