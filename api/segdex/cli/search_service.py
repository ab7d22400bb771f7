"""A question to a service."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from PIL import Image
from pydantic import ValidationError

from segdex.render.drawing import SheetRow, Tile
from segdex.render.results import TILES_PER_ROW, hit_tile
from segdex_core.errors import UsageError
from segdex_core.masks import MaskRLE
from segdex_core.records import SegmentFilter
from segdex_core.wire.images import ImageOut
from segdex_core.wire.limits import DEFAULT_VIEW_WEIGHTS
from segdex_core.wire.search import (
    HitSegmentOut,
    RefinementOut,
    SearchResponse,
    ViewWeights,
    WeightedSegment,
    WeightedText,
    Where,
)
from segdex_search.queries import ImageTerm, SearchQuery, SegmentTerm, TextTerm

if TYPE_CHECKING:
    from segdex.client import Client

_TILE_SOURCE_PX = 1_024
"""Longest side of a picture that a tile is drawn of; the tile itself is smaller."""


@dataclass(frozen=True, slots=True, eq=False)
class AnswerOfService:
    """The answer of a service, and what can be asked of it further.

    Attributes:
        response: The hits.
    """

    response: SearchResponse
    _client: "Client"
    _refined: dict[UUID, RefinementOut] = field(default_factory=dict)

    def refine(self, first: int) -> Iterator[RefinementOut]:
        """See ``Answer``."""
        if not self.response.hits:
            return
        for one in self._client.refinements(self.response.id, first):
            self._refined[one.segment_id] = one
            yield one

    def sheet_row(self, heading: str) -> SheetRow:
        """See ``Answer``."""
        images = {hit.image.image_id: hit.image for hit in self.response.hits}
        best = sorted(
            (found for hit in self.response.hits for found in hit.segments), key=lambda found: -found.score
        )
        return SheetRow(
            heading=heading,
            tiles=[
                self._tile(found, images[found.image_id], rank=rank)
                for rank, found in enumerate(best[:TILES_PER_ROW], 1)
            ],
        )

    def _tile(self, found: HitSegmentOut, image: ImageOut, *, rank: int) -> Tile:
        from segdex.client import NotThereError, RequestError

        rle, share = found.rle, found.area_fraction
        refined = self._refined.get(found.segment_id)
        if refined is not None and refined.answer == "refined":
            rle, share = refined.rle, refined.area_px / (image.width * image.height)
        try:
            data = self._client.image_file(image.image_id, _TILE_SOURCE_PX)
        except (NotThereError, RequestError):
            pixels = None
        else:
            with Image.open(BytesIO(data)) as opened:
                pixels = np.asarray(opened.convert("RGB"))
        mask = MaskRLE(rle.size, rle.counts)
        return hit_tile(pixels, mask, rank=rank, score=found.score, path=image.path, share=share)


def ask_service(client: "Client", query: SearchQuery, *, images: list[Path], judged: bool) -> AnswerOfService:
    """Ask a service.

    Args:
        client: Of the service.
        query: The question.
        images: The files of its pictures.
        judged: Leave out pictures that do not show it.

    Raises:
        UsageError: If a service cannot be asked for this.
        ServiceError: If it does not answer it.
    """
    if len(images) > 1:
        raise UsageError("with --server one --image can be sent at a time, but there are several")
    texts = [term for term in query.terms if isinstance(term, TextTerm)]
    segments = [term for term in query.terms if isinstance(term, SegmentTerm)]
    pictures = [term for term in query.terms if isinstance(term, ImageTerm)]
    if any(weight < 0 for weight in (*(one.weight for one in segments), *(one.weight for one in pictures))):
        raise UsageError("with --server only texts may have a --weight below 0")
    try:
        response = client.search(
            *(WeightedText(text=term.text, weight=term.weight) for term in texts if term.weight > 0),
            image=images[0] if images else None,
            weight=pictures[0].weight if pictures else 1.0,
            segments=[WeightedSegment(segment_id=term.segment_id, weight=term.weight) for term in segments],
            away=[WeightedText(text=term.text, weight=-term.weight) for term in texts if term.weight < 0],
            view_weights=ViewWeights(
                **{name: query.view_weights.get(name, 0.0) for name in DEFAULT_VIEW_WEIGHTS}
            ),
            where=_where(query.where),
            limit=query.limit,
            per_image=query.per_image,
            min_score=query.min_score,
            present=judged,
            level=query.level,
            nested=query.nested,
            exact=query.exact,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"a service cannot be asked for this: {where}: {first['msg']}") from error
    return AnswerOfService(response=response, _client=client)


def _where(where: SegmentFilter) -> Where:
    return Where(
        sources=list(where.sources),
        tags=list(where.tags),
        min_area=where.min_area_fraction,
        max_area=where.max_area_fraction,
        since_s=where.captured_from_s,
        until_s=where.captured_until_s,
    )
