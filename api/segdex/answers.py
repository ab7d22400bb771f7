"""What the verbs return: segments, hits, answers and masks, the same from a library and from a service.

They hold the JSON records of ``segdex_core.wire``. Masks are decoded, and pixels are fetched, on demand.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, Unpack, overload
from uuid import UUID

from segdex.arguments import Id, ImageArgument, QuestionFields, SearchFields
from segdex.pictures import Picture, picture_pixels
from segdex_core.errors import ArgumentError
from segdex_core.media.limits import MAX_PIXELS
from segdex_core.wire.images import ImageOut
from segdex_core.wire.limits import DEFAULT_REFINED, MAX_REFINED
from segdex_core.wire.search import HitOut, HitSegmentOut, RefinementOut, SearchResponse, WeightedText
from segdex_core.wire.segments import MaskOut, MasksOut, Rle, SegmentOut

if TYPE_CHECKING:
    from PIL import Image

    from segdex_core.formats.polygons import MultiPolygon
    from segdex_core.geometry import BoxXYXY
    from segdex_core.masks import BoolMask
    from segdex_core.records import RGBImage


class Verbs(Protocol):
    """What answers of ``Library`` and ``Client`` ask further."""

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
    """What was asked for: enough to refine a hit of the answer, or to ask for the next page.

    Attributes:
        texts: Positive texts.
        image: Pictures to look like.
        fields: Everything else.
    """

    texts: tuple[str | WeightedText, ...] = ()
    image: ImageArgument = None
    fields: SearchFields = field(default_factory=SearchFields)

    @property
    def terms(self) -> QuestionFields:
        """What the question asks for beside texts and pictures, without what chooses and orders the hits."""
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
        """Return the fields that ask for the page of a cursor."""
        return {**self.fields, "cursor": cursor}


@dataclass(frozen=True, eq=False)
class Found:
    """A segment of the index with its picture."""

    record: SegmentOut
    image: ImageOut

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id}, {self.image.path!r})"

    @property
    def id(self) -> UUID:
        """Of the segment."""
        return self.record.id

    @property
    def box(self) -> "BoxXYXY":
        """Tight box in pixels: x1, y1, x2, y2; x2 and y2 exclusive."""
        return box_of(self.record.box_xyxy)

    @property
    def rle(self) -> Rle:
        """The mask as COCO's compressed run-length code."""
        return self.record.rle

    @property
    def area_px(self) -> int:
        """Pixels of the mask."""
        return self.record.area_px

    @property
    def area_fraction(self) -> float:
        """Share of the picture, (0, 1]."""
        return self.record.area_fraction

    @property
    def object_score(self) -> float:
        """How likely it is one whole object, 0 to 1."""
        return self.record.object_score

    @property
    def predicted_iou(self) -> float:
        """The model's estimate of the mask's IoU."""
        return self.record.predicted_iou

    @cached_property
    def mask(self) -> "BoolMask":
        """(H, W) bool at the size of the picture; decoded on first use."""
        return decode_rle(self.rle)

    def polygon(self) -> "MultiPolygon":
        """Return the exact outline as a GeoJSON MultiPolygon in pixels."""
        from segdex_core.formats.polygons import mask_polygon

        return mask_polygon(self.mask)

    def crop_box(self, margin: float = 0.0) -> "BoxXYXY":
        """Return the box grown on each side by a share of its longer side, inside the picture.

        Raises:
            ValueError: If the margin is negative.
        """
        if margin < 0:
            raise ValueError(f"margin must be 0 or more, but got {margin}")
        x1, y1, x2, y2 = self.record.box_xyxy
        extra = round(margin * max(x2 - x1, y2 - y1))
        size_hw = (self.image.height, self.image.width)
        return box_of((x1 - extra, y1 - extra, x2 + extra, y2 + extra)).clip(size_hw)

    def cut_out_of(self, pixels: "RGBImage") -> "Image.Image":
        """Return the object alone, RGBA, of the pixels of its box."""
        box = self.box
        return rgba_image(pixels, self.mask[box.y1 : box.y2, box.x1 : box.x2])


@dataclass(frozen=True, eq=False, repr=False)
class Segment(Found):
    """A segment of the index.

    Attributes:
        record: Everything that is stored of it, as JSON has it.
        image: Its picture.
    """

    library: Verbs

    def crop(self, margin: float = 0.0) -> "Image.Image":
        """Return the part of the picture in the box, RGB, with a margin as a share of its longer side.

        Raises:
            ImageError: If the file of the picture is gone or has changed.
        """
        return rgb_image(self.library.pixels(self.image.id, self.crop_box(margin)))

    def cutout(self) -> "Image.Image":
        """Return the object alone, RGBA, transparent outside the mask.

        Raises:
            ImageError: If the file of the picture is gone or has changed.
        """
        return self.cut_out_of(self.library.pixels(self.image.id, self.box))

    def similar(self, **fields: Unpack[SearchFields]) -> "Answer":
        """Search for segments that look like this one."""
        return self.library.search(**like(self.id, fields))


@dataclass(frozen=True, eq=False, repr=False)
class Scored(Found):
    """What a hit has beside its segment."""

    record: HitSegmentOut
    is_match: bool
    presence: float | None
    question: Question
    refinement: RefinementOut | None = None

    @property
    def score(self) -> float:
        """Higher is better; comparable within one answer."""
        return self.record.score


@dataclass(frozen=True, eq=False, repr=False)
class Hit(Scored, Segment):
    """A segment that answers a question.

    Attributes:
        record: Everything that is stored of it, and its scores, as JSON has it.
        image: Its picture.
        is_match: False where the picture does not seem to show what was asked for.
        presence: How far the picture stands out for the question; None where nobody judged.
        question: What was asked for.
        refinement: What refining said of it; None before.
    """

    def refine(self) -> "Hit":
        """Re-decode the mask for the question; return the hit with the better of both masks.

        ``refinement`` says which one that is, and why.

        Raises:
            ImageError: If the file of the picture is gone or has changed.
        """
        question = self.question
        [one] = self.library.refine(
            *question.texts, segment_ids=[self.id], image=question.image, **question.terms
        )
        return refined_hit(self, one)


HitT = TypeVar("HitT", bound=Scored)


@dataclass(frozen=True, eq=False)
class ImageHits(Generic[HitT]):
    """The hits of one picture, best first.

    Attributes:
        image: The picture.
        score: Of its best hit.
        is_match: False where the picture does not seem to show what was asked for.
        hits: At least one.
    """

    image: ImageOut
    score: float
    is_match: bool
    hits: tuple[HitT, ...]


class Hits(Sequence[HitT]):
    """The hits of a question as a sequence, best first; matches come before weaker ones.

    Attributes:
        response: The answer as JSON has it, grouped by picture.
        question: What was asked for.
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
            )
            for group in response.hits
        )
        self.hits: tuple[HitT, ...] = tuple(in_order(hit for group in self.images for hit in group.hits))

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


class Answer(Hits[Hit]):
    """The hits of a question, best first: iterate over it, or over ``images`` for hits by picture."""

    def __init__(self, response: SearchResponse, question: Question, library: Verbs) -> None:
        self._library = library
        super().__init__(response, question, self._hit)

    def refined(self, first: int = DEFAULT_REFINED) -> Iterator[Hit]:
        """Yield the first hits, each re-decoded as soon as it is done; see ``Hit.refine``.

        Args:
            first: How many, 1 to 100.

        Raises:
            QueryError: If ``first`` is out of range.
            ImageError: If the file of a picture is gone or has changed.
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
        """Return the next page of pictures; None after the last one."""
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
    """A mask that answers a prompt.

    Attributes:
        record: The mask as JSON has it.
    """

    def __init__(self, record: MaskOut) -> None:
        self.record = record

    @property
    def box(self) -> "BoxXYXY":
        """Tight box in pixels: x1, y1, x2, y2; x2 and y2 exclusive."""
        return box_of(self.record.box_xyxy)

    @property
    def predicted_iou(self) -> float:
        """The model's estimate of the mask's IoU."""
        return self.record.predicted_iou

    @property
    def area_px(self) -> int:
        """Pixels of the mask; 0 where nothing was found."""
        return self.record.area_px

    @cached_property
    def mask(self) -> "BoolMask":
        """(H, W) bool at the size of the picture."""
        return decode_rle(self.record.rle)

    def cutout(self, image: Picture) -> "Image.Image":
        """Return the object alone, RGBA, transparent outside the mask.

        Args:
            image: The picture that was segmented.

        Raises:
            ValueError: If the mask is empty, or the picture has another size.
            ImageError: If the picture cannot be read.
        """
        pixels, box = picture_pixels(image, max_pixels=max(MAX_PIXELS, self.mask.size)), self.box
        if pixels.shape[:2] != self.mask.shape or not self.area_px:
            raise ValueError(f"there is no mask of a picture of {pixels.shape[1]} x {pixels.shape[0]} pixels")
        return rgba_image(
            pixels[box.y1 : box.y2, box.x1 : box.x2], self.mask[box.y1 : box.y2, box.x1 : box.x2]
        )


class Masks(ObjectMask, Sequence[ObjectMask]):
    """The masks that answer a prompt, best first; its own mask and box are those of the best one.

    Attributes:
        response: All masks as JSON has them.
        masks: All masks, the highest predicted IoU first.
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


def in_order(hits: Iterable[HitT]) -> list[HitT]:
    """Return hits best first: matches before weaker ones, then by score, ties by id."""
    return sorted(hits, key=lambda hit: (not hit.is_match, -hit.score, hit.id))


def refined_hit(hit: HitT, one: RefinementOut) -> HitT:
    """Return a hit as a refinement leaves it: with the new mask where the gate let it pass."""
    record = hit.record
    if one.answer == "refined":
        changes = {"rle": one.rle, "box_xyxy": one.box_xyxy, "area_px": one.area_px}
        share = one.area_px / (one.rle.size[0] * one.rle.size[1])
        record = record.model_copy(
            update={**changes, "area_fraction": share, "predicted_iou": one.predicted_iou}
        )
    return replace(hit, record=record, refinement=one)


def check_first(first: int) -> int:
    """Return a number of hits to refine.

    Raises:
        ArgumentError: If it is out of range.
    """
    if not 1 <= first <= MAX_REFINED:
        raise ArgumentError("first", f"must be between 1 and {MAX_REFINED}, but got {first}")
    return first


def like(segment_id: UUID, fields: SearchFields) -> SearchFields:
    """Return the fields of a search for what looks like a segment."""
    return {**fields, "segments": [segment_id, *fields.get("segments", ())]}


def box_of(box_xyxy: tuple[int, int, int, int]) -> "BoxXYXY":
    """Return a box of an answer."""
    from segdex_core.geometry import BoxXYXY

    return BoxXYXY(*box_xyxy)


def decode_rle(rle: Rle) -> "BoolMask":
    """Return a mask, (H, W) bool.

    Raises:
        ValueError: If it is no run-length code of that size.
    """
    from segdex_core.masks import MaskRLE, decode_mask

    return decode_mask(MaskRLE(rle.size, rle.counts))


def rgb_image(pixels: "RGBImage") -> "Image.Image":
    """Return pixels as a Pillow image."""
    from PIL import Image

    return Image.fromarray(pixels)


def rgba_image(pixels: "RGBImage", mask: "BoolMask") -> "Image.Image":
    """Return pixels as a Pillow image that is transparent outside a mask of their size."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.dstack([pixels, np.where(mask, np.uint8(255), np.uint8(0))]))
