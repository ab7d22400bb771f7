"""Refining hits, and judging whether an object is there, on pictures of coloured boxes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from tests.fakes.dataset import write_colour_set
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder, PlainEmbedder
from tests.fakes.segmenter import FloodFeatures, FloodSegmenter, PlainSegmenter

from segdex.evaluation.load import load_dataset
from segdex.evaluation.search import ingest_dataset
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import QueryError
from segdex_core.geometry import BoxXYXY
from segdex_core.masks import decode_mask, encode_mask
from segdex_core.media.decode import read_image_file
from segdex_core.media.uris import uri_to_path
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.prompts import DecodedMasks
from segdex_core.ports.segmenter import ImageFeatures, Segmenter
from segdex_core.ports.text_segmenter import TextFeatures
from segdex_core.records import ImageRecord, RGBImage, SegmentRecord
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings
from segdex_search.answer import SearchAnswer, search
from segdex_search.calibrate import Calibration
from segdex_search.presence import PresenceJudge
from segdex_search.queries import SearchQuery, TextTerm
from segdex_search.rank import HitSegment
from segdex_search.refine.encodings import EncodingCache
from segdex_search.refine.gate import GateSettings
from segdex_search.refine.refiner import Refinement, Refiner, refine_segments, segment_by_text

LEFT, RIGHT, TINY = BoxXYXY(8, 30, 58, 90), BoxXYXY(96, 30, 152, 90), BoxXYXY(70, 50, 78, 58)
PICTURES = {
    "a.png": [("red", LEFT), ("blue", RIGHT)],
    "b.png": [("green", LEFT), ("yellow", TINY)],
    "c.png": [("purple", RIGHT)],
}
EMBEDDER = ColourEmbedder()
OTHERS = EMBEDDER.embed_texts(list(COLOURS_RGB))
CALIBRATION = Calibration(object_weight=0.05, threshold=0.3, growth=0)


class CountingSegmenter(FloodSegmenter):
    """Remembers which frames it encoded."""

    def __init__(self) -> None:
        self.frames: list[int] = []

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = 1024) -> list[ImageFeatures]:
        self.frames += [frame_px] * len(images)
        return super().encode(images, frame_px=frame_px)


class BoxText:
    """A text-prompted segmenter that answers every text with the left box, and remembers the texts."""

    name = "left"
    fingerprint = "left"

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.batches: list[int] = []
        self.encoded = 0

    def encode(self, images: Sequence[RGBImage]) -> list[TextFeatures]:
        self.encoded += len(images)
        side = np.zeros((16, 16, 3), np.int16)
        return [FloodFeatures((image.shape[0], image.shape[1]), side) for image in images]

    def decode(
        self, features: Sequence[TextFeatures], texts: Sequence[str], *, semantic: bool = False
    ) -> DecodedMasks:
        self.texts += texts
        self.batches.append(len(texts))
        logits = np.full((len(texts), 1, 60, 80), -8, np.float32)
        logits[:, :, 15:45, 4:29] = 8
        estimates = np.full((len(texts), 1), 0.99, np.float32)
        return DecodedMasks(logits, estimates, tokens=estimates[..., None])


@pytest.fixture(name="index", scope="module")
def _index(tmp_path_factory: pytest.TempPathFactory) -> MemoryIndex:
    dataset = load_dataset(write_colour_set(tmp_path_factory.mktemp("set"), PICTURES))
    generator = GeneratorSettings(points_per_side=8, explained_above=1.0, redraws=False)
    index = MemoryIndex()
    ingest_dataset(
        dataset,
        index=index,
        recipe=Recipe(FloodSegmenter(), EMBEDDER, generator),
        source=FileSource(),
        profile="offline",
    )
    return index


def read(image: ImageRecord) -> RGBImage:
    return read_image_file(Path(uri_to_path(image.files[0].uri))).pixels


def make_refiner(
    segmenter: Segmenter | None = None,
    *,
    text: BoxText | None = None,
    threshold: float = -1,
    embedder: Embedder = EMBEDDER,
) -> Refiner:
    return Refiner(
        segmenter=segmenter or FloodSegmenter(),
        embedder=embedder,
        distractors=OTHERS,
        encodings=EncodingCache(64),
        gate=GateSettings(gain_threshold=threshold),
        text_segmenter=text,
        text_encodings=EncodingCache(64) if text is not None else None,
    )


def ask(index: MemoryIndex, text: str) -> SearchAnswer:
    query = SearchQuery((TextTerm(text),), limit=3, per_image=2)
    return search(query, index=index, embedder=EMBEDDER)


def best_first(answer: SearchAnswer) -> list[HitSegment]:
    segments = [one for hit in answer.hits for one in hit.segments]
    return sorted(segments, key=lambda one: (-one.score, one.segment_id))


def refined(
    index: MemoryIndex, text: str, refiner: Refiner, *, first: int = 1, is_text: bool = True
) -> tuple[SearchAnswer, list[Refinement]]:
    """Return an answer, and its first segments as they are refined for the question."""
    answer = ask(index, text)
    images = {hit.image.image_id: hit.image for hit in answer.hits}
    found = refine_segments(
        [one.record for one in best_first(answer)[:first]],
        refiner=refiner,
        question=answer.query_vectors["crop"],
        text=text if is_text else None,
        read_picture=lambda image_id: read(images[image_id]),
    )
    return answer, list(found)


def worsened(record: SegmentRecord, change: Callable[[np.ndarray], np.ndarray]) -> SegmentRecord:
    """Return a segment whose stored mask is another one, with a lower estimate."""
    mask = change(decode_mask(record.mask))
    return replace(
        record, mask=encode_mask(mask), area_px=int(mask.sum()), predicted_iou=0.3, area_fraction=0.1
    )


def test_segments_are_refined_in_the_order_in_which_they_are_given(index: MemoryIndex) -> None:
    answer, found = refined(index, "red", make_refiner(), first=3)

    assert [one.segment_id for one in found] == [one.segment_id for one in best_first(answer)[:3]]
    for one in found:
        assert set(one.timings_ms) == {"encode", "map", "decode"}
        assert one.relevance is not None
        assert one.prompt is not None


def test_a_mask_that_lost_a_part_gets_it_back(index: MemoryIndex) -> None:
    answer = ask(index, "red")
    best = answer.hits[0].segments[0].record

    def cut(mask: np.ndarray) -> np.ndarray:
        mask = mask.copy()
        mask[70:] = False
        return mask

    query = answer.query_vectors["crop"]
    one = make_refiner().refine(worsened(best, cut), read(answer.hits[0].image), query=query, text="red")

    truth = decode_mask(best.mask)
    new = decode_mask(one.proposal.mask.mask)
    assert one.decision.accepted
    assert (new & truth).sum() / (new | truth).sum() > (cut(truth)).sum() / truth.sum()


def test_what_is_no_better_stays_as_it_is(index: MemoryIndex) -> None:
    _, found = refined(index, "red", make_refiner(threshold=0.02))

    assert not found[0].decision.accepted
    assert "no better" in found[0].decision.reason


def test_a_picture_is_encoded_once_for_all_its_hits(index: MemoryIndex) -> None:
    segmenter = CountingSegmenter()
    refiner = make_refiner(segmenter)

    for text in ("red", "blue", "red"):
        refined(index, text, refiner)

    assert segmenter.frames == [1024]


def test_a_small_object_is_decoded_of_a_part_that_is_encoded_alone(index: MemoryIndex) -> None:
    segmenter = CountingSegmenter()

    answer, [one] = refined(index, "yellow", make_refiner(segmenter))

    assert segmenter.frames == [512]
    assert answer.hits[0].segments[0].record.box.size_wh == TINY.size_wh
    assert abs(np.array(one.proposal.mask.box) - np.array(TINY)).max() <= 2
    assert one.decision.iou > 0.6


def test_a_text_is_decoded_by_the_text_segmenter_where_there_is_one(index: MemoryIndex) -> None:
    text = BoxText()
    refiner = make_refiner(text=text)

    _, found = refined(index, "red", refiner)
    refined(index, "red", refiner)

    assert text.texts == ["red", "red"]
    assert text.encoded == 1
    assert found[0].proposal.source == "evf"
    assert found[0].decision.accepted
    assert found[0].relevance is None


def test_hits_of_several_pictures_are_decoded_in_one_batch(index: MemoryIndex) -> None:
    text, alone = BoxText(), make_refiner(text=BoxText())

    answer, found = refined(index, "red", make_refiner(text=text), first=6)

    segments = best_first(answer)
    pictures = {segment.record.image_id for segment in segments[:6]}
    assert len(pictures) > 1
    assert text.batches == [len(pictures)]
    assert [one.segment_id for one in found] == [segment.segment_id for segment in segments[:6]]
    pixels = {hit.image.image_id: read(hit.image) for hit in answer.hits}
    for segment, one in zip(segments, found, strict=False):
        single = alone.refine(segment.record, pixels[segment.record.image_id], query=OTHERS[0], text="red")
        assert single.proposal.mask.mask == one.proposal.mask.mask
        assert single.decision == one.decision


def test_a_question_that_is_no_text_is_refined_by_relevance(index: MemoryIndex) -> None:
    text = BoxText()

    _, [one] = refined(index, "red", make_refiner(text=text), is_text=False)

    assert text.texts == []
    assert one.proposal.source in ("outline", "relevance")


def test_a_text_finds_its_object_in_a_picture_that_no_index_knows() -> None:
    pixels = np.full((120, 160, 3), COLOURS_RGB["grey"], np.uint8)
    pixels[LEFT.y1 : LEFT.y2, LEFT.x1 : LEFT.x2] = COLOURS_RGB["orange"]
    pixels[RIGHT.y1 : RIGHT.y2, RIGHT.x1 : RIGHT.x2] = COLOURS_RGB["cyan"]

    for text, box in (("orange", LEFT), ("cyan", RIGHT)):
        mask, relevance = segment_by_text(pixels, text, refiner=make_refiner())
        assert relevance is not None
        assert abs(np.array(mask.box) - np.array(box)).max() <= 10
    inside, _ = segment_by_text(pixels, "cyan", refiner=make_refiner(), window=BoxXYXY(90, 20, 160, 100))
    assert abs(np.array(inside.box) - np.array(RIGHT)).max() <= 10


def test_a_text_segmenter_does_not_look_in_parts() -> None:
    with pytest.raises(QueryError, match="whole pictures"):
        segment_by_text(
            np.zeros((50, 50, 3), np.uint8),
            "red",
            refiner=make_refiner(text=BoxText()),
            window=BoxXYXY(0, 0, 9, 9),
        )


@pytest.mark.parametrize("text", ["", "a\x07b", "x" * 1001])
def test_a_text_for_a_picture_is_checked_as_a_query_is(text: str) -> None:
    with pytest.raises(QueryError, match="the query text"):
        segment_by_text(np.zeros((50, 50, 3), np.uint8), text, refiner=make_refiner())


def test_pictures_without_the_object_are_left_out_and_those_with_it_stay(index: MemoryIndex) -> None:
    judge = PresenceJudge(OTHERS, CALIBRATION)

    def pictures(text: str, judge: PresenceJudge | None) -> set[UUID]:
        query = SearchQuery((TextTerm(text),), limit=3)
        answer = search(query, index=index, embedder=EMBEDDER, judge=judge)
        if judge is not None:
            assert all(
                hit.presence is not None and hit.presence >= CALIBRATION.threshold for hit in answer.hits
            )
            assert "presence" in answer.timings_ms
        return {hit.image.image_id for hit in answer.hits}

    for text in ("red", "green", "purple"):
        everything = pictures(text, None)
        first = ask(index, text).hits[0].image.image_id
        assert len(everything) == 3
        assert pictures(text, judge) == {first}
    assert pictures("orange", judge) == set()


def test_without_a_map_of_the_embedder_a_hit_is_prompted_by_its_outline_alone(index: MemoryIndex) -> None:
    _, [one] = refined(index, "red", make_refiner(embedder=PlainEmbedder()))

    assert one.proposal.source == "outline"
    assert one.proposal.agreement == 1
    assert (one.relevance, one.prompt) == (None, None)
    assert set(one.timings_ms) == {"encode", "decode"}


def test_without_a_map_of_the_embedder_a_text_needs_a_text_segmenter() -> None:
    with pytest.raises(QueryError, match=r"plain colours cannot say where.*--refiner"):
        segment_by_text(
            np.zeros((50, 50, 3), np.uint8), "red", refiner=make_refiner(embedder=PlainEmbedder())
        )


def test_a_segmenter_that_can_only_encode_and_decode_refines(index: MemoryIndex) -> None:
    _, [plain] = refined(index, "red", make_refiner(PlainSegmenter()))
    _, [full] = refined(index, "red", make_refiner())

    assert plain.proposal.mask.mask == full.proposal.mask.mask
