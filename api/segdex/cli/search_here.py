"""A question to an index of this machine, with the models here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from uuid import UUID

from segdex.cli.common import opened
from segdex.cli.refine import save_explanation
from segdex.render.drawing import SheetRow
from segdex.render.results import hit_out, read_picture, refinement_out, sheet_row
from segdex.wiring import Parts, open_source, profile_of
from segdex_core.ports.embedder import Embedder
from segdex_core.settings import ProfileName, Settings
from segdex_core.wire.search import RefinementOut, SearchResponse
from segdex_search.answer import SearchAnswer, require_filled, search
from segdex_search.presence import PresenceJudge
from segdex_search.queries import SearchQuery, has_text
from segdex_search.rank import HitSegment
from segdex_search.refine.refiner import Refinement, refine_answer


@dataclass(frozen=True, slots=True, eq=False)
class AnswerHere:
    """The answer of an index, and what can be made of it here.

    Attributes:
        response: The hits.
    """

    response: SearchResponse
    _query: SearchQuery
    _answer: SearchAnswer
    _parts: Parts
    _settings: Settings
    _profile: ProfileName
    _embedder: Embedder
    _judge: PresenceJudge | None
    _refined: dict[UUID, Refinement] = field(default_factory=dict)

    def refine(self, first: int) -> Iterator[RefinementOut]:
        """See ``Answer``; the answer was made for it."""
        if self._judge is None or not self._answer.hits:
            return
        made = self._parts.make_refiner(
            self._settings,
            segmenter=self._parts.load_segmenter(self._settings, self._profile),
            embedder=self._embedder,
            distractors=self._judge.distractors,
        )
        read = partial(read_picture, source=open_source(), max_pixels=self._settings.max_pixels)
        for one in refine_answer(self._answer, self._query, refiner=made, first=first, read_picture=read):
            self._refined[one.segment_id] = one
            yield refinement_out(one)

    def sheet_row(self, heading: str) -> SheetRow:
        """See ``Answer``."""
        hits = _with_refined(self._answer, self._refined).hits
        return sheet_row(heading, hits, source=open_source(), max_pixels=self._settings.max_pixels)

    def save_explanation(self, path: Path, *, title: str) -> None:
        """Write a picture of how each refined hit came about.

        Raises:
            UsageError: If the file cannot be written.
        """
        save_explanation(path, self._answer.hits, self._refined, self._settings, title=title)


def ask_here(
    parts: Parts, settings: Settings, query: SearchQuery, *, judged: bool, refined: bool
) -> AnswerHere:
    """Ask the index of the settings.

    Args:
        parts: What opens the index and loads the models.
        settings: Index and models.
        query: The question.
        judged: Leave out pictures that do not show it.
        refined: Whether hits will be re-decoded.

    Raises:
        SegmentIndexError: If the index cannot be used.
        ModelError: If a model cannot be fetched or loaded.
    """
    with opened(parts, settings) as index:
        found = require_filled(index)
        chosen = profile_of(settings, index)
        model = parts.load_embedder(settings, chosen)
        judge = parts.load_judge(settings, model) if judged or refined or has_text(query) else None
        answer = search(
            query,
            index=index,
            embedder=model,
            judge=judge if judged or has_text(query) else None,
            keep_weak=not judged,
        )
    response = SearchResponse(
        id="",  # nobody has to find it again
        answer="found" if any(hit.is_match for hit in answer.hits) else "not there",
        embedder=answer.embedder,
        segmenter=found.segmenter,
        profile=found.profile,
        timings_ms=dict(answer.timings_ms),
        hits=[hit_out(hit, rank=rank) for rank, hit in enumerate(answer.hits, 1)],
    )
    return AnswerHere(
        response=response,
        _query=query,
        _answer=answer,
        _parts=parts,
        _settings=settings,
        _profile=chosen,
        _embedder=model,
        _judge=judge,
    )


def _with_refined(answer: SearchAnswer, refined: Mapping[UUID, Refinement]) -> SearchAnswer:
    """Return the answer with the masks that the gate let pass."""

    def drawn(segment: HitSegment) -> HitSegment:
        one = refined.get(segment.segment_id)
        if one is None or not one.decision.accepted:
            return segment
        mask = one.proposal.mask
        share = mask.area_px / (mask.mask.size_hw[0] * mask.mask.size_hw[1])
        record = replace(
            segment.record, mask=mask.mask, box=mask.box, area_px=mask.area_px, area_fraction=share
        )
        return replace(segment, record=record)

    hits = tuple(replace(hit, segments=tuple(map(drawn, hit.segments))) for hit in answer.hits)
    return replace(answer, hits=hits)
