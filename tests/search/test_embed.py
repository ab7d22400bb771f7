"""The vectors of a query: their dot products with a segment are the documented score."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest
from tests.backends.index.stored_samples import DIM, FINGERPRINT, VIEWS, make_picture

from segdex_backends.index.memory import MemoryIndex
from segdex_core.errors import QueryError
from segdex_core.records import RGBImage, Vectors
from segdex_search.embed import Vector, embed_query, reading_hints
from segdex_search.queries import ImageTerm, SegmentTerm, Term, TextTerm


class RandomEmbedder:
    """An ``Embedder`` with one random direction for each text and each picture; "nothing" is zero."""

    name = "random"
    fingerprint = FINGERPRINT.embedder
    dim = DIM

    def __init__(self) -> None:
        self.calls: list[int] = []

    def embed_images(self, images: Sequence[RGBImage]) -> Vectors:
        return self._rows([int(image.astype(np.int64).sum()) for image in images])

    def relevance(self, image: RGBImage, texts: Vectors) -> Vectors:
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        rows = self._rows([int.from_bytes(text.encode()) for text in texts])
        rows[[text == "nothing" for text in texts]] = 0
        return rows

    def _rows(self, seeds: Sequence[int]) -> Vectors:
        self.calls.append(len(seeds))
        rows = np.array([np.random.default_rng(seed).normal(size=DIM) for seed in seeds], np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


PICTURE = make_picture(1, 5)
SEGMENT_ID = PICTURE.segment_ids[2]
PIXELS = np.full((5, 6, 3), 77, np.uint8)


@pytest.fixture(name="index")
def _index() -> MemoryIndex:
    index = MemoryIndex()
    index.ensure(FINGERPRINT)
    index.upsert_segments(PICTURE.segments)
    index.upsert_image(PICTURE.record, PICTURE.vector)
    return index


def embedded(index: MemoryIndex, *terms: Term, embedder: RandomEmbedder | None = None) -> dict[str, Vector]:
    return embed_query(terms, views=VIEWS, embedder=embedder or RandomEmbedder(), index=index)


def vector_of(text: str) -> Vector:
    row: Vector = RandomEmbedder().embed_texts([text])[0]
    return row


def unit(vector: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return vector / np.linalg.norm(vector)


def test_one_text_is_its_own_vector_in_every_view(index: MemoryIndex) -> None:
    query = embedded(index, TextTerm("dog", 3.0))

    assert set(query) == set(VIEWS)
    for vector in query.values():
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector, vector_of("dog"), atol=1e-6)


def test_a_segment_stands_for_itself_view_by_view(index: MemoryIndex) -> None:
    query = embedded(index, SegmentTerm(SEGMENT_ID))

    for view in VIEWS:
        np.testing.assert_allclose(query[view], PICTURE.segments.vectors[view][2], atol=1e-6)


def test_positive_terms_are_a_weighted_mean_of_length_one(index: MemoryIndex) -> None:
    query = embedded(index, TextTerm("dog", 2.0), TextTerm("cat", 1.0))

    for vector in query.values():
        np.testing.assert_allclose(vector, unit(2 * vector_of("dog") + vector_of("cat")), atol=1e-6)


def test_terms_of_all_kinds_add_up_in_any_order(index: MemoryIndex) -> None:
    terms = (
        TextTerm("dog"),
        ImageTerm(PIXELS, 0.5),
        TextTerm("cat", -0.5),
        SegmentTerm(SEGMENT_ID, 2.0),
        TextTerm("tree", 0.25),
    )
    embedder = RandomEmbedder()

    query = embedded(index, *terms, embedder=embedder)
    backwards = embedded(index, *reversed(terms))

    for view in VIEWS:
        towards = (
            vector_of("dog")
            + 0.5 * RandomEmbedder().embed_images([PIXELS])[0]
            + 2 * PICTURE.segments.vectors[view][2]
            + 0.25 * vector_of("tree")
        )
        expected = unit(towards) - 0.5 * vector_of("cat")
        np.testing.assert_allclose(query[view], expected, atol=1e-6)
        np.testing.assert_allclose(backwards[view], query[view], atol=1e-6)
    assert sorted(embedder.calls) == [1, 3]  # all texts in one call, all pictures in another


def test_a_negative_term_lowers_the_score_by_its_weighted_similarity(index: MemoryIndex) -> None:
    plain = embedded(index, TextTerm("dog"))["crop"]
    away = embedded(index, TextTerm("dog"), TextTerm("cat", -0.5))["crop"]

    for row in PICTURE.segments.vectors["crop"]:
        expected = row @ plain - 0.5 * (row @ vector_of("cat"))
        assert float(row @ away) == pytest.approx(float(expected), abs=1e-6)
    assert away @ vector_of("cat") < plain @ vector_of("cat")


def test_an_unknown_segment_is_refused_with_its_id_and_the_index(index: MemoryIndex) -> None:
    unknown = UUID(int=5)

    with pytest.raises(QueryError, match=f"^there is no segment {unknown} in memory$"):
        embedded(index, TextTerm("dog"), SegmentTerm(unknown))


@pytest.mark.parametrize(
    "terms",
    [
        (TextTerm("nothing"),),
        (TextTerm("nothing"), TextTerm("cat", -0.5)),
        (TextTerm("dog"), TextTerm("dog", -1.0)),
        (TextTerm("dog", 4.0), TextTerm("dog", -0.5), TextTerm("dog", -0.5)),
    ],
)
def test_terms_that_leave_nothing_are_refused(index: MemoryIndex, terms: tuple[Term, ...]) -> None:
    with pytest.raises(QueryError, match=r"^the query says nothing: .*$"):
        embedded(index, *terms)


class PartialReader(RandomEmbedder):
    """Reads what is written in ASCII."""

    def reading_hint(self, text: str) -> str | None:
        return None if text.isascii() else f"random cannot read {text!r}"


def test_what_the_texts_have_that_cannot_be_read_is_said_once_each() -> None:
    terms: list[Term] = [
        TextTerm("dog"),
        TextTerm("\u732b"),
        TextTerm("\u72ac", -0.5),
        TextTerm("\u732b"),
        ImageTerm(PIXELS),
    ]

    assert reading_hints(terms, PartialReader()) == (
        "random cannot read '\u732b'",
        "random cannot read '\u72ac'",
    )
    assert reading_hints(terms, RandomEmbedder()) == ()  # which cannot say
