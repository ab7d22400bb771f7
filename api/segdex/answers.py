"""Results of ``Library`` and ``Client``: segments, hits, answers and masks.

They hold the JSON records of ``segdex_core.wire``. Masks are decoded, and pixels are fetched, on demand.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, Unpack, overload
from uuid import UUID

from segdex.arguments import Id, ImageArgument, QuestionFields, SearchFields, SomeIds, as_id
from segdex.pictures import Picture, picture_pixels
from segdex_core.errors import ArgumentError, QueryError
from segdex_core.media.limits import MAX_PIXELS
from segdex_core.wire.images import ImageOut
from segdex_core.wire.limits import DEFAULT_NEGATIVE_WEIGHT, DEFAULT_REFINED, MAX_REFINED
from segdex_core.wire.search import (
    HitOut,
    HitSegmentOut,
    RefinementOut,
    SearchResponse,
    WeightedSegment,
    WeightedText,
)
from segdex_core.wire.segments import MaskOut, MasksOut, Rle, SegmentOut

if TYPE_CHECKING:
    from PIL import Image

    from segdex_core.formats.polygons import MultiPolygon
    from segdex_core.geometry import BoxXYXY
    from segdex_core.masks import BoolMask
    from segdex_core.records import RGBImage


class Verbs(Protocol):
    """Methods of ``Library`` and ``Client`` that their results call."""

    def search(
        self, *texts: str | WeightedText, image: ImageArgument = None, **fields: Unpack[SearchFields]
    ) -> "Answer":
        """See ``Library.search``."""
        ...

    def refine(
        self,
        *texts: str | WeightedText,
        segment_ids: Sequence[Id],
        image: ImageArgument = None,
        **fields: Unpack[QuestionFields],
    ) -> Iterator[RefinementOut]:
        """See ``Library.refine``."""
        ...

    def pixels(self, image_id: Id, box_xyxy: tuple[int, int, int, int] | None = None) -> "RGBImage":
        """See ``Library.pixels``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A query, with everything that is needed to refine its hits or to request the next page.

    Attributes:
        texts: Positive texts.
        image: Query images.
        fields: All other arguments of the search.
    """

    texts: tuple[str | WeightedText, ...] = ()
    image: ImageArgument = None
    fields: SearchFields = field(default_factory=SearchFields)

    @property
    def terms(self) -> QuestionFields:
        """Terms other than texts and images, and the view weights; filters and limits are left out."""
        fields = self.fields
        terms: QuestionFields = {}
        if "segments" in fields:
            terms["segments"] = fields["segments"]
        if "regions" in fields:
            terms["regions"] = fields["regions"]
        if "negative" in fields:
            terms["negative"] = fields["negative"]
        if "view_weights" in fields:
            terms["view_weights"] = fields["view_weights"]
        return terms

    def after(self, cursor: str) -> SearchFields:
        """Return the arguments that request the page of a cursor."""
        return {**self.fields, "cursor": cursor}


@dataclass(frozen=True, eq=False)
class Found:
    """A segment of the index with its image."""

    record: SegmentOut
    image: ImageOut

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id}, {self.image.path!r})"

    @property
    def id(self) -> UUID:
        """Id of the segment."""
        return self.record.id

    @property
    def box(self) -> "BoxXYXY":
        """Tight box in pixels: x1, y1, x2, y2; x2 and y2 are exclusive."""
        return box_of(self.record.box_xyxy)

    @property
    def rle(self) -> Rle:
        """Mask in COCO's compressed run-length encoding."""
        return self.record.rle

    @property
    def area_px(self) -> int:
        """Area of the mask in pixels."""
        return self.record.area_px

    @property
    def area_fraction(self) -> float:
        """Area of the mask as a share of the image, in (0, 1]."""
        return self.record.area_fraction

    @property
    def object_score(self) -> float:
        """Estimate, from 0 to 1, of how likely the segment is one whole object."""
        return self.record.object_score

    @property
    def predicted_iou(self) -> float:
        """Estimate by the segmenter of the IoU with the true mask."""
        return self.record.predicted_iou

    @property
    def colors(self) -> dict[str, float] | None:
        """Share of each colour inside the mask, above 0, largest first; None where it was not measured."""
        return self.record.colors

    @cached_property
    def mask(self) -> "BoolMask":
        """Mask as (H, W) bool at the size of the image; decoded on first use."""
        return decode_rle(self.rle)

    def polygon(self) -> "MultiPolygon":
        """Return the exact outline as polygons with holes, in pixels of the image."""
        from segdex_core.formats.polygons import mask_polygon

        return mask_polygon(self.mask)

    def crop_box(self, margin: float = 0.0) -> "BoxXYXY":
        """Return the box, grown on each side by a share of its longer side and clipped to the image.

        Raises:
            ValueError: If ``margin`` is negative.
        """
        if margin < 0:
            raise ValueError(f"margin must be 0 or more, but got {margin}")
        x1, y1, x2, y2 = self.record.box_xyxy
        extra = round(margin * max(x2 - x1, y2 - y1))
        size_hw = (self.image.height, self.image.width)
        return box_of((x1 - extra, y1 - extra, x2 + extra, y2 + extra)).clip(size_hw)

    def cut_out_of(self, pixels: "RGBImage") -> "Image.Image":
        """Return the object as an RGBA image, given the pixels of its box."""
        box = self.box
        return rgba_image(pixels, self.mask[box.y1 : box.y2, box.x1 : box.x2])


@dataclass(frozen=True, eq=False, repr=False)
class Segment(Found):
    """A segment of the index.

    Attributes:
        record: Stored data of the segment, as a JSON record.
        image: Image of the segment.
    """

    library: Verbs

    def crop(self, margin: float = 0.0) -> "Image.Image":
        """Return the box as an RGB image, with a margin given as a share of the longer side of the box.

        Raises:
            ImageError: If the file of the image is missing or has changed.
        """
        return rgb_image(self.library.pixels(self.image.id, self.crop_box(margin)))

    def cutout(self) -> "Image.Image":
        """Return the object as an RGBA image, transparent outside the mask.

        Raises:
            ImageError: If the file of the image is missing or has changed.
        """
        return self.cut_out_of(self.library.pixels(self.image.id, self.box))

    def similar(self, *, unlike: SomeIds = (), **fields: Unpack[SearchFields]) -> "Answer":
        """Search for segments that look like this segment; see ``Library.similar``."""
        return self.library.search(**like(self.id, unlike, fields))


@dataclass(frozen=True, eq=False, repr=False)
class Scored(Found):
    """A segment with the scores of a hit."""

    record: HitSegmentOut
    is_match: bool
    presence: float | None
    question: Question
    refinement: RefinementOut | None = None

    @property
    def score(self) -> float:
        """Score of the hit; higher is better. Scores are comparable within one answer only."""
        return self.record.score


@dataclass(frozen=True, eq=False, repr=False)
class Hit(Scored, Segment):
    """A segment that matches a query.

    Attributes:
        record: Stored data and scores of the segment, as a JSON record.
        image: Image of the segment.
        is_match: False if the image does not seem to show what the query describes.
        presence: Presence score of the image; None if presence was not judged.
        question: Query that found the hit.
        refinement: Refinement of the mask; None before ``refine``.
    """

    def refine(self) -> "Hit":
        """Re-decode the mask for the query, and return the hit with the better of both masks.

        ``refinement`` says which mask was chosen, and why.

        Raises:
            ImageError: If the file of the image is missing or has changed.
        """
        question = self.question
        [one] = self.library.refine(
            *question.texts, segment_ids=[self.id], image=question.image, **question.terms
        )
        return refined_hit(self, one)


HitT = TypeVar("HitT", bound=Scored)


@dataclass(frozen=True, eq=False)
class ImageHits(Generic[HitT]):
    """The hits of one image, best first.

    Attributes:
        image: Image of the hits.
        score: Score of the best hit.
        is_match: False if the image does not seem to show what the query describes.
        hits: Hits, at least one.
        near_duplicates: IDs of images that were collapsed into this one, best first.
    """

    image: ImageOut
    score: float
    is_match: bool
    hits: tuple[HitT, ...]
    near_duplicates: tuple[UUID, ...] = ()


class Hits(Sequence[HitT]):
    """The hits of a query as a sequence, best first; matches come before weaker matches.

    The hits of a query with diversity come image by image, in the order of ``images``.

    Attributes:
        response: Answer as a JSON record, grouped by image.
        question: Query of the answer.
    """

    def __init__(
        self, response: SearchResponse, question: Question, make: Callable[[HitOut, HitSegmentOut], HitT]
    ) -> None:
        self.response = response
        self.question = question
        self.images: tuple[ImageHits[HitT], ...] = tuple(
            ImageHits(
                image=group.image,
                score=group.score,
                is_match=group.is_match,
                hits=tuple(make(group, one) for one in group.segments),
                near_duplicates=tuple(group.near_duplicates),
            )
            for group in response.hits
        )
        order = _matches_first if question.fields.get("diversity") else _best_first
        self.hits: tuple[HitT, ...] = tuple(
            sorted((hit for group in self.images for hit in group.hits), key=order)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.hits)} hits in {len(self.images)} pictures)"

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[HitT]:
        return iter(self.hits)

    @overload
    def __getitem__(self, position: int) -> HitT: ...

    @overload
    def __getitem__(self, position: slice) -> tuple[HitT, ...]: ...

    def __getitem__(self, position: int | slice) -> HitT | tuple[HitT, ...]:
        return self.hits[position]


def _best_first(hit: Scored) -> tuple[bool, float, UUID]:
    return not hit.is_match, -hit.score, hit.id


def _matches_first(hit: Scored) -> bool:
    return not hit.is_match


class Answer(Hits[Hit]):
    """The hits of a query, best first: iterate over the answer, or over ``images`` for hits by image."""

    def __init__(self, response: SearchResponse, question: Question, library: Verbs) -> None:
        self._library = library
        super().__init__(response, question, self._hit)

    def refined(self, first: int = DEFAULT_REFINED) -> Iterator[Hit]:
        """Yield the first hits with re-decoded masks, each as soon as it is ready; see ``Hit.refine``.

        Args:
            first: Number of hits, 1 to 100.

        Raises:
            QueryError: If ``first`` is out of range.
            ImageError: If the file of an image is missing or has changed.
        """
        chosen = {hit.id: hit for hit in self.hits[: check_first(first)]}
        if chosen:
            question = self.question
            found = self._library.refine(
                *question.texts, segment_ids=list(chosen), image=question.image, **question.terms
            )
            for one in found:
                yield refined_hit(chosen[one.segment_id], one)

    def next_page(self) -> "Answer | None":
        """Return the next page of images; None after the last page."""
        cursor, question = self.response.next_cursor, self.question
        if cursor is None:
            return None
        return self._library.search(*question.texts, image=question.image, **question.after(cursor))

    def _hit(self, group: HitOut, one: HitSegmentOut) -> Hit:
        return Hit(
            record=one,
            image=group.image,
            library=self._library,
            is_match=group.is_match,
            presence=group.presence,
            question=self.question,
        )


class ObjectMask:
    """A mask that was decoded for a prompt.

    Attributes:
        record: Mask as a JSON record.
    """

    def __init__(self, record: MaskOut) -> None:
        self.record = record

    @property
    def box(self) -> "BoxXYXY":
        """Tight box in pixels: x1, y1, x2, y2; x2 and y2 are exclusive."""
        return box_of(self.record.box_xyxy)

    @property
    def predicted_iou(self) -> float:
        """Estimate by the segmenter of the IoU with the true mask."""
        return self.record.predicted_iou

    @property
    def area_px(self) -> int:
        """Area of the mask in pixels; 0 if nothing was found."""
        return self.record.area_px

    @cached_property
    def mask(self) -> "BoolMask":
        """Mask as (H, W) bool at the size of the image."""
        return decode_rle(self.record.rle)

    def cutout(self, image: Picture) -> "Image.Image":
        """Return the object as an RGBA image, transparent outside the mask.

        Args:
            image: Image that was segmented.

        Raises:
            ValueError: If the mask is empty, or the image has another size.
            ImageError: If the image cannot be read.
        """
        from segdex_core.media.decode import decode_image

        limit, box = max(MAX_PIXELS, self.mask.size), self.box
        pixels = picture_pixels(image, max_pixels=limit, decode=decode_image)  # it was decoded before
        if pixels.shape[:2] != self.mask.shape or not self.area_px:
            raise ValueError(f"there is no mask of a picture of {pixels.shape[1]} x {pixels.shape[0]} pixels")
        return rgba_image(
            pixels[box.y1 : box.y2, box.x1 : box.x2], self.mask[box.y1 : box.y2, box.x1 : box.x2]
        )


class Masks(ObjectMask, Sequence[ObjectMask]):
    """The masks of a prompt, best first. Attributes such as ``mask`` and ``box`` belong to the best mask.

    Attributes:
        response: All masks as a JSON record.
        masks: All masks, highest predicted IoU first.
    """

    def __init__(self, response: MasksOut) -> None:
        super().__init__(response.masks[0])
        self.response = response
        self.masks = tuple(map(ObjectMask, response.masks))

    def __len__(self) -> int:
        return len(self.masks)

    def __iter__(self) -> Iterator[ObjectMask]:
        return iter(self.masks)

    @overload
    def __getitem__(self, position: int) -> ObjectMask: ...

    @overload
    def __getitem__(self, position: slice) -> tuple[ObjectMask, ...]: ...

    def __getitem__(self, position: int | slice) -> ObjectMask | tuple[ObjectMask, ...]:
        return self.masks[position]


def refined_hit(hit: HitT, one: RefinementOut) -> HitT:
    """Return a hit with its refinement, and with the new mask if the gate accepted it."""
    record = hit.record
    if one.answer == "refined":
        changes = {"rle": one.rle, "box_xyxy": one.box_xyxy, "area_px": one.area_px}
        share = one.area_px / (one.rle.size[0] * one.rle.size[1])
        record = record.model_copy(
            update={**changes, "area_fraction": share, "predicted_iou": one.predicted_iou}
        )
    return replace(hit, record=record, refinement=one)


def check_first(first: int) -> int:
    """Return ``first`` if it is an allowed number of hits to refine.

    Raises:
        ArgumentError: If ``first`` is out of range.
    """
    if not 1 <= first <= MAX_REFINED:
        raise ArgumentError("first", f"must be between 1 and {MAX_REFINED}, but got {first}")
    return first


def like(segment_ids: SomeIds, unlike: SomeIds, fields: SearchFields) -> SearchFields:
    """Return the fields of a search for segments that look like some segments, and unlike others.

    Raises:
        QueryError: If an id is not valid, or there is none to look like.
    """
    towards, away = _ids(segment_ids), _ids(unlike)
    if not towards:
        raise QueryError("similar needs the id of a segment to look like; search prints them")
    if len(towards) > 1 or away:
        fields = {"combine": "best", **fields}
    excluded = [WeightedSegment(segment_id=one, weight=-DEFAULT_NEGATIVE_WEIGHT) for one in away]
    return {**fields, "segments": [*towards, *fields.get("segments", ()), *excluded]}


def _ids(given: SomeIds) -> list[UUID]:
    return [as_id(one) for one in (given if isinstance(given, list | tuple) else [given])]


def box_of(box_xyxy: tuple[int, int, int, int]) -> "BoxXYXY":
    """Return a box of a JSON record as ``BoxXYXY``."""
    from segdex_core.geometry import BoxXYXY

    return BoxXYXY(*box_xyxy)


def decode_rle(rle: Rle) -> "BoolMask":
    """Return a mask as (H, W) bool.

    Raises:
        ValueError: If ``rle`` is not a valid run-length encoding of its size.
    """
    from segdex_core.masks import MaskRLE, decode_mask

    return decode_mask(MaskRLE(rle.size, rle.counts))


def rgb_image(pixels: "RGBImage") -> "Image.Image":
    """Return pixels as a Pillow image."""
    from PIL import Image

    return Image.fromarray(pixels)


def rgba_image(pixels: "RGBImage", mask: "BoolMask") -> "Image.Image":
    """Return pixels as a Pillow image that is transparent outside a mask of equal size."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.dstack([pixels, np.where(mask, np.uint8(255), np.uint8(0))]))
