"""Results of ``AsyncClient``: as in ``segdex.answers``, but methods that call the service are awaited."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Unpack

from segdex.answers import (
    Found,
    Hits,
    Question,
    Scored,
    check_first,
    like,
    refined_hit,
    rgb_image,
)
from segdex.arguments import Id, ImageArgument, QuestionFields, SearchFields, SomeIds
from segdex_core.wire.limits import DEFAULT_REFINED
from segdex_core.wire.search import HitOut, HitSegmentOut, RefinementOut, SearchResponse, WeightedText

if TYPE_CHECKING:
    from PIL import Image

    from segdex_core.records import RGBImage


class AsyncVerbs(Protocol):
    """Methods of ``AsyncClient`` that its results call."""

    async def search(
        self, *texts: str | WeightedText, image: ImageArgument = None, **fields: Unpack[SearchFields]
    ) -> "AsyncAnswer":
        """See ``Library.search``."""
        ...

    def refine(
        self,
        *texts: str | WeightedText,
        segment_ids: Sequence[Id],
        image: ImageArgument = None,
        **fields: Unpack[QuestionFields],
    ) -> AsyncIterator[RefinementOut]:
        """See ``Library.refine``."""
        ...

    async def pixels(self, image_id: Id, box_xyxy: tuple[int, int, int, int] | None = None) -> "RGBImage":
        """See ``Library.pixels``."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class AsyncSegment(Found):
    """A segment of ``AsyncClient``: a ``Segment`` whose methods that call the service are awaited."""

    library: AsyncVerbs

    async def crop(self, margin: float = 0.0) -> "Image.Image":
        """See ``Segment.crop``."""
        return rgb_image(await self.library.pixels(self.image.id, self.crop_box(margin)))

    async def cutout(self) -> "Image.Image":
        """See ``Segment.cutout``."""
        return self.cut_out_of(await self.library.pixels(self.image.id, self.box))

    async def similar(self, *, unlike: SomeIds = (), **fields: Unpack[SearchFields]) -> "AsyncAnswer":
        """See ``Segment.similar``."""
        return await self.library.search(**like(self.id, unlike, fields))


@dataclass(frozen=True, eq=False, repr=False)
class AsyncHit(Scored, AsyncSegment):
    """A hit of ``AsyncClient``; see ``Hit``."""

    async def refine(self) -> "AsyncHit":
        """See ``Hit.refine``."""
        question = self.question
        found = self.library.refine(
            *question.texts, segment_ids=[self.id], image=question.image, **question.terms
        )
        [one] = [each async for each in found]
        return refined_hit(self, one)


class AsyncAnswer(Hits[AsyncHit]):
    """The hits of a query of ``AsyncClient``; see ``Answer``."""

    def __init__(self, response: SearchResponse, question: Question, library: AsyncVerbs) -> None:
        self._library = library
        super().__init__(response, question, self._hit)

    async def refined(self, first: int = DEFAULT_REFINED) -> AsyncIterator[AsyncHit]:
        """See ``Answer.refined``."""
        chosen = {hit.id: hit for hit in self.hits[: check_first(first)]}
        if chosen:
            question = self.question
            found = self._library.refine(
                *question.texts, segment_ids=list(chosen), image=question.image, **question.terms
            )
            async for one in found:
                yield refined_hit(chosen[one.segment_id], one)

    async def next_page(self) -> "AsyncAnswer | None":
        """See ``Answer.next_page``."""
        cursor, question = self.response.next_cursor, self.question
        if cursor is None:
            return None
        return await self._library.search(*question.texts, image=question.image, **question.after(cursor))

    def _hit(self, group: HitOut, one: HitSegmentOut) -> AsyncHit:
        return AsyncHit(
            record=one,
            image=group.image,
            library=self._library,
            is_match=group.is_match,
            presence=group.presence,
            question=self.question,
        )
