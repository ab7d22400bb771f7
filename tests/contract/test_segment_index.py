"""What every ``SegmentIndex`` promises, checked on all three."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from tests.backends.index.stored_samples import (
    DIM,
    FINGERPRINT,
    FOLDERS,
    VIEWS,
    Picture,
    all_segments,
    all_vectors,
    make_picture,
    make_pictures,
    unit_rows,
)
from tests.qdrant_server import QdrantServer

from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.index.payloads import fingerprint_to_payload
from segdex_backends.index.qdrant import QdrantIndex
from segdex_core.colours import COLOUR_NAMES, FILTER_SHARE, ColourAtLeast, ColourShares
from segdex_core.concepts import Concept, Mark
from segdex_core.errors import (
    IndexConflictError,
    IndexMismatchError,
    IndexMissingError,
    IndexVersionError,
    SegmentIndexError,
)
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import (
    EVERYTHING,
    OLDEST_SCHEMA_VERSION,
    SCHEMA_VERSION,
    EmbeddedSegments,
    ImageFile,
    IndexCounts,
    IndexFingerprint,
    PendingChange,
    SegmentFilter,
    SegmentLabel,
    SegmentRecord,
)
from segdex_core.sets import SegmentSet, SetMember
from segdex_search.queries import SearchQuery, TextTerm
from segdex_search.rank import HitSegment
from segdex_search.retrieve import fused_hits
from segdex_search.scoring import Scoring


@dataclass(frozen=True)
class Scored:
    """A segment with its dot product with a query."""

    record: SegmentRecord
    score: float


@dataclass(frozen=True)
class Place:
    """Where an index of one kind lies: it can be opened again, and its fingerprint be written over."""

    open: Callable[[bool], SegmentIndex]
    write_fingerprint: Callable[[IndexFingerprint], None] | None
    """None for an index that does not outlive its object."""


PERSISTENT = [pytest.param("edge"), pytest.param("server", marks=pytest.mark.qdrant)]
KINDS = ["memory", *PERSISTENT]


@contextmanager
def opened_place(request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    """A place of the kind that ``request`` asks for; what was opened there is closed at the end."""
    opened: list[SegmentIndex] = []
    made: dict[str, Callable[[], Place]] = {
        "memory": lambda: Place(lambda create: MemoryIndex(), None),
        "edge": lambda: _edge_place(folder / "index"),
        "server": lambda: _server_place(request.getfixturevalue("qdrant_server")),
    }
    found = made[request.param]()

    def open_and_remember(create: bool) -> SegmentIndex:
        opened.append(found.open(create))
        return opened[-1]

    yield replace(found, open=open_and_remember)
    for index in opened:
        index.close()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, fast_folder: Path) -> Iterator[Place]:
    with opened_place(request, fast_folder / str(uuid4())) as place:
        yield place


def _edge_place(path: Path) -> Place:
    def write(fingerprint: IndexFingerprint) -> None:
        file = path / "segdex.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fingerprint_to_payload(fingerprint)))

    return Place(lambda create: QdrantIndex(EdgeStore(path, create=create)), write)


def _server_place(server: QdrantServer) -> Place:
    from qdrant_client import QdrantClient

    from segdex_backends.index.server_connection import ServerConnection
    from segdex_backends.index.server_store import ServerStore

    prefix = f"test-{uuid4()}"

    def open_index(create: bool) -> SegmentIndex:
        connection = ServerConnection(server.url, timeout_s=20)
        return QdrantIndex(ServerStore(connection, create=create, collection_prefix=prefix))

    def write(fingerprint: IndexFingerprint) -> None:
        client = QdrantClient(server.url, check_compatibility=False)
        client.update_collection(
            f"{prefix}-segments", metadata={"segdex": fingerprint_to_payload(fingerprint)}
        )
        client.close()

    return Place(open_index, write)


@pytest.fixture
def index(place: Place) -> SegmentIndex:
    """An empty index."""
    index = place.open(True)
    index.ensure(FINGERPRINT)
    return index


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return make_pictures()


@pytest.fixture(scope="module", params=KINDS)
def library(
    request: pytest.FixtureRequest, fast_folder: Path, pictures: list[Picture]
) -> Iterator[SegmentIndex]:
    """An index with all of ``pictures``, only for reading."""
    with opened_place(request, fast_folder / "library") as place:
        index = place.open(True)
        index.ensure(FINGERPRINT)
        ingest(index, pictures)
        yield index


@pytest.fixture
def few(pictures: list[Picture]) -> list[Picture]:
    """Pictures with 40, 0, 1, 3 and 4 segments."""
    return pictures[1:6]


@pytest.fixture
def filled(index: SegmentIndex, few: list[Picture]) -> SegmentIndex:
    """An index with ``few`` pictures, for tests that write."""
    ingest(index, few)
    return index


def ingest(index: SegmentIndex, pictures: Sequence[Picture]) -> None:
    for picture in pictures:
        index.upsert_segments(picture.segments)
        index.upsert_image(picture.record, picture.vector)


def query_by(
    index: SegmentIndex,
    vector: np.ndarray,
    *,
    view: str,
    limit: int,
    where: SegmentFilter = EVERYTHING,
    exact: bool = False,
) -> list[Scored]:
    """Return what a query by one view finds, best first."""
    found = index.query_fused({view: vector}, weights={view: 1.0}, limit=limit, where=where, exact=exact)
    records = index.get_segments([hit.segment_id for hit in found])
    return [Scored(record, hit.score) for record, hit in zip(records, found, strict=True)]


def brute_force(
    pictures: Sequence[Picture], query: np.ndarray, view: str, where: SegmentFilter = EVERYTHING
) -> list[Scored]:
    vectors = all_vectors(pictures, view)
    hits = [
        Scored(record, float(vectors[record.segment_id].astype(np.float64) @ query.astype(np.float64)))
        for record in all_segments(pictures)
        if holds(record, where)
    ]
    return sorted(hits, key=lambda hit: -hit.score)


def holds(record: SegmentRecord, where: SegmentFilter) -> bool:
    """Whether a segment fulfils a filter, condition by condition as the docstring of the filter says."""
    conditions = []
    if where.image_ids:
        conditions.append(record.image_id in where.image_ids)
    if where.min_area_fraction is not None:
        conditions.append(where.min_area_fraction <= record.area_fraction)
    if where.max_area_fraction is not None:
        conditions.append(record.area_fraction <= where.max_area_fraction)
    if where.min_depth is not None:
        conditions.append(len(record.ancestor_ids) >= where.min_depth)
    if where.sources:
        conditions.append(any(source in record.sources for source in where.sources))
    conditions.extend(tag in record.tags for tag in where.tags)
    if where.captured_from_s is not None:
        conditions.append(where.captured_from_s <= record.captured_s)
    if where.captured_until_s is not None:
        conditions.append(record.captured_s < where.captured_until_s)
    conditions.extend(
        record.colours is not None and record.colours.share(one.name) >= one.share for one in where.colours
    )
    return all(conditions)


def assert_same_hits(found: Sequence[Scored], wanted: Sequence[Scored]) -> None:
    assert [hit.record for hit in found] == [hit.record for hit in wanted]
    np.testing.assert_allclose([h.score for h in found], [h.score for h in wanted], atol=1e-5)


def filters(pictures: Sequence[Picture]) -> dict[str, SegmentFilter]:
    middle = all_segments(pictures)[100]
    ids = tuple(picture.image_id for picture in pictures[:5])
    return {
        "nothing": EVERYTHING,
        "image_ids": SegmentFilter(image_ids=ids),
        "unknown image": SegmentFilter(image_ids=(uuid4(),)),
        "smallest area, inclusive": SegmentFilter(min_area_fraction=middle.area_fraction),
        "largest area, inclusive": SegmentFilter(max_area_fraction=middle.area_fraction),
        "exactly this area": SegmentFilter(
            min_area_fraction=middle.area_fraction, max_area_fraction=middle.area_fraction
        ),
        "inside another": SegmentFilter(min_depth=1),
        "inside two others": SegmentFilter(min_depth=2),
        "at any depth": SegmentFilter(min_depth=0),
        "deeper than any": SegmentFilter(min_depth=3),
        "folder": SegmentFilter(sources=("file:///photos",)),
        "any of two folders": SegmentFilter(sources=FOLDERS[1:]),
        "one file": SegmentFilter(sources=(pictures[0].record.files[0].uri,)),
        "part of a folder's name": SegmentFilter(sources=("file:///phot",)),
        "tag": SegmentFilter(tags=("cat",)),
        "all of two tags": SegmentFilter(tags=("dog", "odd")),
        "tag beyond ASCII": SegmentFilter(tags=("\u00fc \u2603",)),
        "from, inclusive": SegmentFilter(captured_from_s=middle.captured_s),
        "until, exclusive": SegmentFilter(captured_until_s=middle.captured_s),
        "a colour": SegmentFilter(colours=(ColourAtLeast("red", 0.25),)),
        "most in a colour": SegmentFilter(colours=(ColourAtLeast("blue", 0.5),)),
        "two colours": SegmentFilter(colours=(ColourAtLeast("red", 0.25), ColourAtLeast("white", 0.25))),
        "all at once": SegmentFilter(
            image_ids=ids,
            min_area_fraction=0.1,
            max_area_fraction=0.9,
            min_depth=1,
            sources=("file:///photos/a", "file:///other%20disk"),
            tags=("all", "odd"),
            captured_from_s=1_700_000_000,
            captured_until_s=1_800_000_000,
        ),
    }


@pytest.mark.parametrize("name", filters(make_pictures()))
def test_a_filter_holds_alike_in_queries_scrolls_and_counts(
    library: SegmentIndex, pictures: list[Picture], name: str
) -> None:
    where = filters(pictures)[name]
    query = np.random.default_rng(1).normal(size=DIM).astype(np.float32)
    wanted = brute_force(pictures, query, "crop", where)

    assert_same_hits(query_by(library, query, view="crop", limit=500, where=where, exact=True), wanted)
    assert [r for r in all_segments(pictures) if holds(r, where)] == list(library.scroll_segments(where))
    assert library.counts(where) == IndexCounts(images=len(pictures), segments=len(wanted))


@pytest.mark.parametrize("weights", [{"crop": 1.0}, {"crop": 0.4, "mask": 0.6}], ids=str)
@pytest.mark.parametrize("counts", [(1, 0), (3, 0), (1, 1), (3, 2)], ids=str)
@pytest.mark.parametrize("where", [EVERYTHING, SegmentFilter(tags=("cat",))], ids=str)
def test_the_best_of_several_examples_are_those_of_comparing_each_by_hand(
    library: SegmentIndex,
    pictures: list[Picture],
    weights: dict[str, float],
    counts: tuple[int, int],
    where: SegmentFilter,
) -> None:
    rng = np.random.default_rng(7)
    likes, unlikes = counts
    examples = [
        {view: row for view, [row] in ((view, unit_rows(rng, 1, DIM)) for view in weights)}
        for _ in range(likes + unlikes)
    ]
    rows = {view: all_vectors(pictures, view) for view in weights}
    wanted: dict[str, float] = {}
    for record in all_segments(pictures):
        each = [
            sum(weights[view] * float(rows[view][record.segment_id] @ one[view]) for view in weights)
            for one in examples
        ]
        best = max(each[:likes])
        if holds(record, where) and best > max(each[likes:], default=-2):
            wanted[str(record.segment_id)] = best
    order = sorted(wanted, key=lambda key: -wanted[key])

    def found(limit: int, *, exact: bool) -> dict[str, float]:
        hits = library.query_best(
            examples[:likes], examples[likes:], weights=weights, limit=limit, where=where, exact=exact
        )
        return {hit.segment_key: hit.score for hit in hits}

    for exact in (True, False):
        whole = found(1_000, exact=exact)
        assert whole == pytest.approx(wanted, abs=1e-5)  # object scores differ, and do not count
        assert list(whole) == order
        assert list(found(5, exact=exact)) == order[:5]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("exact", [True, False])
def test_scores_are_plain_dot_products_of_the_view_also_for_queries_of_any_length(
    library: SegmentIndex, pictures: list[Picture], view: str, exact: bool
) -> None:
    for scale in (1.0, 0.01, 7.0):
        query = scale * np.random.default_rng(2).normal(size=DIM).astype(np.float32)

        found = query_by(library, query, view=view, limit=25, exact=exact)

        # So small an index has no graph yet, so that the answer is exact either way.
        assert_same_hits(found, brute_force(pictures, query, view)[:25])


def asked(
    index: SegmentIndex, query: np.ndarray, *, limit: int, per_image: int, where: SegmentFilter, exact: bool
) -> list[list[HitSegment]]:
    """Return what a search by one view shows of each picture, nested segments too."""
    weights = {"crop": 1.0}
    question = SearchQuery(
        terms=(TextTerm("given as a vector"),),
        where=where,
        limit=limit,
        per_image=per_image,
        view_weights=weights,
        nms=False,
        exact=exact,
    )
    hits, _ = fused_hits(question, Scoring({"crop": query}, weights), index)
    return [list(hit.segments) for hit in hits]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (10, 1), (24, 3), (50, 100)], ids=str)
@pytest.mark.parametrize("name", ["nothing", "tag", "image_ids", "largest area, inclusive"])
def test_a_search_grouped_by_picture_equals_brute_force(
    library: SegmentIndex, pictures: list[Picture], name: str, size: tuple[int, int], exact: bool
) -> None:
    limit, per_image = size
    where = filters(pictures)[name]
    # Towards the picture with 120 segments, so that one picture has many of the best.
    query = pictures[0].segments.vectors["crop"].sum(axis=0)
    groups: dict[UUID, list[Scored]] = {}
    for hit in brute_force(pictures, query, "crop", where):
        groups.setdefault(hit.record.image_id, []).append(hit)

    found = asked(library, query, limit=limit, per_image=per_image, where=where, exact=exact)

    wanted = [hits[:per_image] for hits in groups.values()][:limit]
    assert len(found) == len(wanted)
    for found_hits, wanted_hits in zip(found, wanted, strict=True):
        assert_same_hits([Scored(hit.record, hit.score) for hit in found_hits], wanted_hits)


def fused_brute_force(
    pictures: Sequence[Picture],
    queries: dict[str, np.ndarray],
    weights: dict[str, float],
    where: SegmentFilter,
    object_weight: float,
) -> list[tuple[str, float]]:
    vectors = {view: all_vectors(pictures, view) for view in weights}
    total = sum(weights.values())
    scores = {
        str(record.segment_id): sum(
            weight * float(vectors[view][record.segment_id] @ queries[view])
            for view, weight in weights.items()
        )
        / total
        + object_weight * record.object_score
        for record in all_segments(pictures)
        if holds(record, where)
    }
    return sorted(scores.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("object_weight", [0.0, 0.2, 5.0])
@pytest.mark.parametrize("weights", [{"crop": 0.5, "mask": 0.5}, {"crop": 3.0, "mask": 1.0}, {"crop": 1.0}])
def test_views_and_the_object_score_are_fused_by_weight_for_each_filter(
    library: SegmentIndex,
    pictures: list[Picture],
    weights: dict[str, float],
    object_weight: float,
    exact: bool,
) -> None:
    rng = np.random.default_rng(4)
    queries = {view: rng.normal(size=DIM).astype(np.float32) for view in VIEWS}
    some = tuple(picture.image_id for picture in pictures[1:4])
    for where in (
        *filters(pictures).values(),
        SegmentFilter(image_ids=some[:1]),
        SegmentFilter(image_ids=some),
    ):
        found = library.query_fused(
            queries, weights=weights, object_weight=object_weight, limit=40, where=where, exact=exact
        )

        wanted = fused_brute_force(pictures, queries, weights, where, object_weight)[:40]
        assert [hit.segment_key for hit in found] == [key for key, _ in wanted]
        np.testing.assert_allclose([h.score for h in found], [s for _, s in wanted], atol=1e-5)
        for hit in found[:10]:
            [record] = library.get_segments([hit.segment_id])
            assert hit.image_id == record.image_id
            assert hit.ancestor_keys == tuple(map(str, record.ancestor_ids))


def test_segments_are_viewed_with_the_score_of_each_view(
    library: SegmentIndex, pictures: list[Picture]
) -> None:
    rng = np.random.default_rng(5)
    queries = {view: rng.normal(size=DIM).astype(np.float32) for view in VIEWS}
    picture = pictures[0]

    viewed = library.view_segments([*picture.segment_ids, uuid4()], queries)

    assert [viewed[key].record for key in picture.segment_ids] == list(picture.segments.records)
    assert len(viewed) == len(picture.segment_ids)
    for n, key in enumerate(picture.segment_ids):
        for view in VIEWS:
            wanted = float(picture.segments.vectors[view][n] @ queries[view])
            assert viewed[key].view_scores[view] == pytest.approx(wanted, abs=1e-5)
    assert library.view_segments([], queries) == {}


def test_a_fused_query_that_does_not_fit_the_index_is_a_bug_of_the_caller(library: SegmentIndex) -> None:
    good = np.ones(DIM, np.float32)
    for vectors, weights, limit in (
        ({"face": good}, {"face": 1.0}, 3),
        ({"crop": good}, {"crop": 0.0}, 3),
        ({"crop": good}, {"crop": 1.0}, 0),
        ({"crop": good[:-1]}, {"crop": 1.0}, 3),
    ):
        with pytest.raises(ValueError, match="must"):
            library.query_fused(vectors, weights=weights, limit=limit)
    for object_weight in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="object_weight must be 0 or more"):
            library.query_fused({"crop": good}, weights={"crop": 1.0}, object_weight=object_weight, limit=3)


def test_a_search_finds_all_pictures_when_one_picture_has_all_the_best_segments(
    index: SegmentIndex,
) -> None:
    query = np.eye(1, DIM, dtype=np.float32)[0]
    crowded = make_picture(0, 300)
    near = np.tile(query, (300, 1)) * np.linspace(1, 0.9, 300, dtype=np.float32)[:, None]
    others = [make_picture(number, 2) for number in range(1, 12)]
    far = np.tile(query, (2, 1)) * np.float32(0.1)
    ingest(index, [_with_vectors(crowded, near), *(_with_vectors(picture, far) for picture in others)])

    for exact in (True, False):
        groups = asked(index, query, limit=10, per_image=2, where=EVERYTHING, exact=exact)

        assert len({group[0].record.image_id for group in groups}) == 10
        assert groups[0][0].record.image_id == crowded.image_id
        assert all(len(group) == 2 for group in groups)


def _with_vectors(picture: Picture, rows: np.ndarray) -> Picture:
    return replace(picture, segments=EmbeddedSegments(picture.segments.records, dict.fromkeys(VIEWS, rows)))


def test_writing_twice_is_writing_once(filled: SegmentIndex, few: list[Picture]) -> None:
    before = filled.counts()

    ingest(filled, few)

    assert filled.counts() == before
    assert list(filled.scroll_segments()) == all_segments(few)


def test_a_record_read_back_equals_the_record_written(library: SegmentIndex, pictures: list[Picture]) -> None:
    ids = [segment_id for picture in reversed(pictures) for segment_id in picture.segment_ids]
    images = [picture.record for picture in reversed(pictures)]
    records = {record.segment_id: record for record in all_segments(pictures)}

    assert library.get_segments([*ids, uuid4()]) == [records[key] for key in ids]
    assert library.get_images([uuid4(), *(image.image_id for image in images)]) == images


def test_vectors_read_back_equal_the_vectors_written(library: SegmentIndex, pictures: list[Picture]) -> None:
    picture = pictures[1]

    found = library.get_vectors([*picture.segment_ids, uuid4()])

    assert set(found) == set(picture.segment_ids)
    for view in VIEWS:
        rows = np.stack([found[segment_id][view] for segment_id in picture.segment_ids])
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, picture.segments.vectors[view], atol=1e-6)


def test_whole_picture_vectors_read_back_equal_those_written(
    library: SegmentIndex, pictures: list[Picture]
) -> None:
    ids = [picture.image_id for picture in pictures[:3]]

    found = library.get_image_vectors([*ids, uuid4()])

    assert set(found) == set(ids)
    for picture in pictures[:3]:
        np.testing.assert_allclose(found[picture.image_id], picture.vector[0], atol=1e-6)
    assert library.get_image_vectors([]) == {}


def test_scrolls_yield_everything_once_in_the_order_of_ids(
    library: SegmentIndex, pictures: list[Picture]
) -> None:
    segments = list(library.scroll_segments())

    assert len(segments) > 256  # more than one page
    assert segments == all_segments(pictures)
    assert list(library.scroll_images()) == sorted((p.record for p in pictures), key=lambda r: r.image_id)


def test_a_picture_may_be_deleted_while_the_segments_are_scrolled(index: SegmentIndex) -> None:
    large, small = make_picture(0, 300), make_picture(1, 30)
    ingest(index, [large, small])

    seen = []
    for segment in index.scroll_segments():
        seen.append(segment)
        if len(seen) == 1:
            index.delete_image(large.image_id)

    assert [record for record in seen if record.image_id == small.image_id] == all_segments([small])


def test_deleting_a_picture_takes_its_segments_and_nothing_else(
    filled: SegmentIndex, few: list[Picture]
) -> None:
    gone = few[0]

    filled.delete_image(gone.image_id)
    filled.delete_image(gone.image_id)  # again is harmless

    assert filled.get_images([gone.image_id]) == []
    assert filled.get_segments(gone.segment_ids) == []
    assert list(filled.scroll_segments()) == all_segments([p for p in few if p is not gone])
    assert filled.counts().images == len(few) - 1


def test_deleting_the_segments_of_a_picture_keeps_its_line_of_the_ledger(
    filled: SegmentIndex, few: list[Picture]
) -> None:
    filled.delete_segments(few[0].image_id)

    assert filled.get_images([few[0].image_id]) == [few[0].record]
    assert filled.get_segments(few[0].segment_ids) == []


def test_deleting_some_writes_spares_the_segments_of_others(filled: SegmentIndex, few: list[Picture]) -> None:
    picture = few[0]
    writes = dict(zip(picture.segment_ids, ["", "a", "b", "c"] * len(picture.segment_ids), strict=False))
    records = [replace(one, write=writes[one.segment_id]) for one in picture.segments.records]
    filled.delete_segments(picture.image_id)
    filled.upsert_segments(replace(picture.segments, records=records))

    filled.delete_segments(picture.image_id, writes=())
    assert len(filled.get_segments(picture.segment_ids)) == len(writes)
    filled.delete_segments(picture.image_id, writes={"a", "c", "unknown"})
    assert {one.write for one in filled.get_segments(picture.segment_ids)} == {"", "b"}
    filled.delete_segments(picture.image_id, writes={""})

    left = [one.segment_id for one in filled.scroll_segments() if one.image_id == picture.image_id]
    assert left == sorted(key for key, write in writes.items() if write == "b")
    others = [one for one in all_segments(few) if one.image_id != picture.image_id]
    assert [one for one in filled.scroll_segments() if one.image_id != picture.image_id] == others


def test_a_pending_change_is_stored_and_ends(filled: SegmentIndex, few: list[Picture]) -> None:
    picture = few[0]
    [known] = filled.get_images([picture.image_id])
    changed = replace(known, tags=("new",), pending=PendingChange("write"))

    marked = filled.upsert_image(changed, picture.vector)
    assert filled.get_images([picture.image_id]) == [changed] == [marked]
    assert {one.tags for one in filled.get_segments(picture.segment_ids)} == {picture.record.tags}
    with pytest.raises(IndexConflictError):  # of two changes at the same time, one is told
        filled.upsert_image(replace(known, tags=("new",), pending=PendingChange("write")), picture.vector)

    finished = filled.update_image(replace(marked, pending=None))
    assert finished.revision > marked.revision > known.revision
    assert filled.get_images([picture.image_id]) == [replace(changed, pending=None)] == [finished]


def test_copies_that_are_asked_for_are_written_though_the_record_has_them(
    filled: SegmentIndex, few: list[Picture]
) -> None:
    picture = few[0]
    stale = [replace(one, tags=("stale",)) for one in picture.segments.records]
    filled.upsert_segments(replace(picture.segments, records=stale))
    [known] = filled.get_images([picture.image_id])

    stored = filled.update_image(replace(known, pending=PendingChange("copy")))

    assert filled.get_images([picture.image_id]) == [known] == [stored]
    assert filled.get_segments(picture.segment_ids) == picture.segments.records


@pytest.mark.parametrize("name", ["nothing", "tag", "image_ids", "unknown image"])
def test_a_scroll_brings_records_and_vectors_of_all_matching_segments(
    library: SegmentIndex, pictures: list[Picture], name: str
) -> None:
    where = filters(pictures)[name]

    batches = list(library.scroll_vectors(where))

    assert all(len(batch.records) > 0 for batch in batches)
    assert [one for batch in batches for one in batch.records] == list(library.scroll_segments(where))
    for view in VIEWS:
        written = all_vectors(pictures, view)
        for batch in batches:
            rows = batch.vectors[view]
            assert rows.dtype == np.float32
            np.testing.assert_array_equal(rows, [written[one.segment_id] for one in batch.records])


def label_of(name: str, author: str = "model:a/1", score: float | None = 5.1234) -> SegmentLabel:
    return SegmentLabel(name, author, score, 1_795_458_600.123)


def test_labels_are_stored_filtered_and_counted_and_change_nothing_else(
    filled: SegmentIndex, few: list[Picture]
) -> None:
    first, second, third = few[0].segment_ids[:3]
    labels = {
        first: (label_of("traffic light"), label_of("\u00fc \u2603", "person:me", None)),
        second: (label_of("cat"), label_of("cat", "concept:pets", 0.1)),
        third: (label_of("cat"),),
        uuid4(): (label_of("of no segment"),),
    }
    before = {one.segment_id: one for one in filled.scroll_segments()}
    vectors = filled.get_vectors(list(before))
    assert filled.label_counts() == {}

    filled.set_labels(labels)
    filled.set_labels({third: (label_of("dog"),)})
    filled.set_labels({})

    labels[third] = (label_of("dog"),)
    assert {one.segment_id: one for one in filled.scroll_segments()} == {
        key: replace(record, labels=labels.get(key, ())) for key, record in before.items()
    }
    assert filled.label_counts() == {"cat": 1, "dog": 1, "traffic light": 1, "\u00fc \u2603": 1}
    assert list(filled.label_counts()) == sorted(filled.label_counts())
    again = filled.get_vectors(list(before))
    assert all(np.array_equal(again[key][view], vectors[key][view]) for key in vectors for view in VIEWS)
    for names, keys in (
        (("cat",), {second}),
        (("cat", "dog", "none"), {second, third}),
        (("none",), set()),
        (("traffic light",), {first}),
        (("light",), set()),
    ):
        where = SegmentFilter(labels=names)
        assert {one.segment_id for one in filled.scroll_segments(where)} == keys
        assert filled.counts(where).segments == len(keys)
        query = few[0].segments.vectors["crop"][0]
        found = query_by(filled, query, view="crop", limit=500, where=where)
        assert {one.record.segment_id for one in found} == keys

    filled.set_labels(dict.fromkeys(before, ()))
    assert list(filled.scroll_segments()) == list(before.values())
    assert filled.label_counts() == {}


def test_labels_that_another_process_changed_meanwhile_are_not_replaced(
    filled: SegmentIndex, few: list[Picture]
) -> None:
    first, second, gone = *few[0].segment_ids[:2], uuid4()

    def seen() -> dict[UUID, str]:
        return {gone: "", **{one.segment_id: one.labelling for one in filled.get_segments([first, second])}}

    for _ in range(2):  # without labels at first, and then with some
        before = seen()
        filled.set_labels({first: [label_of("of another")]})
        mine = {key: [label_of("mine")] for key in (first, second, gone)}
        assert filled.set_labels(mine, over=before) == [first]
        assert filled.label_counts() == {"mine": 1, "of another": 1}
    assert filled.set_labels(mine, over=seen()) == []
    assert filled.label_counts() == {"mine": 2}


def test_labels_of_a_segment_are_written_with_it_and_stay_when_its_picture_changes(
    index: SegmentIndex, few: list[Picture]
) -> None:
    picture = few[0]
    records = [replace(one, labels=(label_of("cat"),)) for one in picture.segments.records]
    index.upsert_segments(EmbeddedSegments(records, picture.segments.vectors))
    stored = index.upsert_image(picture.record, picture.vector)

    index.update_image(replace(stored, tags=("renamed",)))

    assert index.label_counts() == {"cat": len(records)}
    assert list(index.scroll_segments()) == sorted(
        (replace(one, tags=("renamed",)) for one in records), key=lambda one: one.segment_id
    )
    index.upsert_segments(picture.segments)  # without labels: the same id again overwrites
    assert index.label_counts() == {}


def test_colours_are_replaced_and_all_else_stays(index: SegmentIndex, few: list[Picture]) -> None:
    picture = few[0]
    bare = [replace(one, colours=None, labels=(label_of("cat"),)) for one in picture.segments.records]
    index.upsert_segments(EmbeddedSegments(bare, picture.segments.vectors))
    first, second = bare[:2]
    red, blue = (
        ColourShares(tuple(1000 * (each == name) for each in COLOUR_NAMES)) for name in ("red", "blue")
    )

    index.set_colours({first.segment_id: blue, uuid4(): red})
    index.set_colours({first.segment_id: red, second.segment_id: blue})
    index.set_colours({})

    changed = {
        first.segment_id: replace(first, colours=red),
        second.segment_id: replace(second, colours=blue),
    }
    assert {one.segment_id: one for one in index.scroll_segments()} == {
        one.segment_id: changed.get(one.segment_id, one) for one in bare
    }
    for colour, key in (
        (ColourAtLeast("red", FILTER_SHARE), first.segment_id),
        (ColourAtLeast("blue", FILTER_SHARE), second.segment_id),
    ):
        where = SegmentFilter(colours=(colour,))
        assert [one.segment_id for one in index.scroll_segments(where)] == [key]


def set_of(name: str) -> SegmentSet:
    return SegmentSet(uuid4(), name, 1_795_458_600.123)


def members_of(picture: Picture, one: SegmentSet, *, count: int) -> list[SetMember]:
    """The picture itself, and some of its segments."""
    records = picture.segments.records[:count]
    return [
        SetMember.of_image(picture.record, set_id=one.set_id, added_s=3.25),
        *(SetMember.of_segment(record, set_id=one.set_id, added_s=4.125) for record in records),
    ]


def by_id(members: Iterable[SetMember]) -> list[SetMember]:
    return sorted(members, key=lambda one: (one.set_id, one.member_id))


def test_sets_and_their_members_are_stored_and_outlive_the_pictures(
    filled: SegmentIndex, few: list[Picture]
) -> None:
    cats, dogs = set_of("cats"), set_of("\u00fc dogs")
    first, second = few[0], few[3]
    in_cats = [*members_of(first, cats, count=5), *members_of(second, cats, count=2)]
    in_dogs = members_of(first, dogs, count=1)
    assert filled.sets() == []

    for one in (dogs, cats, cats):
        filled.put_set(one)
    filled.add_members(in_cats)
    filled.add_members(in_dogs)
    filled.add_members(in_cats[:2])  # again is harmless
    filled.add_members([])

    assert filled.sets() == [cats, dogs]
    assert by_id(filled.set_members(cats.set_id)) == by_id(in_cats)
    assert list(filled.set_members(uuid4())) == []
    of_first = [one for one in (*in_cats, *in_dogs) if one.image_id == first.image_id]
    assert by_id(filled.members_of_images([first.image_id])) == by_id(of_first)
    assert by_id(filled.members_of_images([first.image_id, second.image_id])) == by_id([*in_cats, *in_dogs])
    assert filled.members_of_images([]) == filled.members_of_images([uuid4()]) == []

    filled.delete_image(first.image_id)
    assert by_id(filled.set_members(cats.set_id)) == by_id(in_cats)
    renamed = replace(cats, name="lions")
    filled.put_set(renamed)
    assert filled.sets() == [renamed, dogs]
    filled.remove_members(cats.set_id, [in_cats[0].member_id, uuid4()])
    filled.remove_members(cats.set_id, [])
    assert by_id(filled.set_members(cats.set_id)) == by_id(in_cats[1:])
    assert by_id(filled.set_members(dogs.set_id)) == by_id(in_dogs)
    for _ in range(2):
        filled.delete_set(cats.set_id)
    assert filled.sets() == [dogs]
    assert list(filled.set_members(cats.set_id)) == []
    assert by_id(filled.set_members(dogs.set_id)) == by_id(in_dogs)


def test_marks_of_sets_are_filtered_by_and_change_nothing_else(
    filled: SegmentIndex, few: list[Picture]
) -> None:
    cats, dogs = sorted(uuid4() for _ in range(2))
    first, second = few[0].segment_ids[:2]
    before = {one.segment_id: one for one in filled.scroll_segments()}
    vectors = filled.get_vectors(list(before))
    filled.set_labels({first: [label_of("cat")]})

    filled.set_marks({first: (dogs, cats), second: (dogs,), uuid4(): (cats,)})
    filled.set_marks({})

    changed = {
        first: replace(before[first], labels=(label_of("cat"),), sets=(cats, dogs)),
        second: replace(before[second], sets=(dogs,)),
    }
    assert {one.segment_id: one for one in filled.scroll_segments()} == before | changed
    for sets, keys in (((cats,), {first}), ((dogs,), {first, second}), ((uuid4(),), set())):
        where = SegmentFilter(sets=sets)
        assert {one.segment_id for one in filled.scroll_segments(where)} == keys
        assert filled.counts(where).segments == len(keys)
    again = filled.get_vectors(list(before))
    assert all(np.array_equal(again[key][view], vectors[key][view]) for key in vectors for view in VIEWS)
    filled.set_marks({first: (), second: ()})
    filled.set_labels({first: ()})
    assert list(filled.scroll_segments()) == list(before.values())


def concept_of(name: str, picture: Picture, **fields: Any) -> Concept:
    """Return a concept with two marks of a picture."""
    first, second, *_ = picture.segments.records
    marks = (Mark.of(first, is_right=True), Mark.of(second, is_right=False))
    return Concept(**{"name": name, "text": "\u00fc dog", "marks": marks, "created_s": 5.125, **fields})


def test_concepts_are_stored_whole_and_outlive_the_pictures(filled: SegmentIndex, few: list[Picture]) -> None:
    dogs, cats = concept_of("dogs", few[0]), concept_of("cats", few[0], text=None)
    assert filled.concepts() == []
    assert filled.concept("dogs") is None

    for one in (dogs, cats):
        assert filled.put_concept(one) == one
        assert filled.put_concept(one) == one  # again is harmless
    assert filled.concepts() == [cats, dogs]
    assert filled.concept("dogs") == dogs
    assert filled.sets() == []
    assert filled.members_of_images([few[0].record.image_id]) == []

    filled.delete_image(few[0].record.image_id)
    assert filled.concept("dogs") == dogs
    for _ in range(2):
        filled.delete_concept("dogs")
    assert filled.concepts() == [cats]


def test_of_two_changes_to_a_concept_none_is_lost(filled: SegmentIndex, few: list[Picture]) -> None:
    dogs = concept_of("dogs", few[0])
    filled.put_concept(dogs)
    read = filled.concept("dogs")
    assert read is not None
    faster = filled.put_concept(replace(read, text="faster"))

    with pytest.raises(IndexConflictError, match="'dogs'"):
        filled.put_concept(replace(read, text="slower"))
    with pytest.raises(IndexConflictError, match="'dogs'"):
        filled.put_concept(replace(dogs, text="of somebody who thinks it is new"))
    assert filled.concept("dogs") == faster
    again = filled.put_concept(replace(faster, marks=faster.marks[:1]))
    assert filled.concepts() == [again]


def test_sets_are_there_when_the_index_is_opened_again(place: Place, few: list[Picture]) -> None:
    if place.write_fingerprint is None:
        pytest.skip("it does not outlive its object")
    index = place.open(True)
    index.ensure(FINGERPRINT)
    cats = set_of("cats")
    index.put_set(cats)
    index.add_members(members_of(few[0], cats, count=3))
    concept = index.put_concept(concept_of("cats", few[0]))
    index.close()

    again = place.open(False)

    assert again.sets() == [cats]
    assert by_id(again.set_members(cats.set_id)) == by_id(members_of(few[0], cats, count=3))
    assert again.concept("cats") == concept


def test_updating_a_picture_reaches_its_segments_and_keeps_their_vectors(
    filled: SegmentIndex, few: list[Picture]
) -> None:
    picture = few[0]
    files = (*picture.record.files, ImageFile(uri="file:///zoo/new%20place.jpg", mtime_ns=5))
    [known] = filled.get_images([picture.image_id])
    changed = replace(known, files=files, tags=("renamed",), captured_s=12.5)
    vectors = filled.get_vectors(picture.segment_ids)

    stored = filled.update_image(changed)

    assert filled.get_images([picture.image_id]) == [changed] == [stored]
    assert filled.get_segments(picture.segment_ids) == [
        replace(record, sources=changed.sources, tags=("renamed",), captured_s=12.5)
        for record in picture.segments.records
    ]
    assert filled.counts(SegmentFilter(sources=("file:///zoo",), tags=("renamed",))).segments == 40
    others = [record for record in all_segments(few) if record.image_id != picture.image_id]
    assert [r for r in filled.scroll_segments() if r.image_id != picture.image_id] == others
    again = filled.get_vectors(picture.segment_ids)
    for segment_id, by_view in vectors.items():
        for view, row in by_view.items():
            np.testing.assert_array_equal(row, again[segment_id][view])
    np.testing.assert_array_equal(
        filled.get_image_vectors([picture.image_id])[picture.image_id], picture.vector[0]
    )


def test_updating_an_unknown_picture_is_refused(index: SegmentIndex) -> None:
    with pytest.raises(SegmentIndexError, match="is not in"):
        index.update_image(make_picture(0, 1).record)


def test_a_write_counts_the_revision_up(index: SegmentIndex) -> None:
    picture = make_picture(0, 2)

    first = index.upsert_image(picture.record, picture.vector)
    second = index.update_image(replace(first, tags=("new",)))
    third = index.upsert_image(replace(second, recipe="other"), picture.vector)

    assert 0 < first.revision < second.revision < third.revision
    assert index.get_images([picture.image_id]) == [third]
    assert [one.revision for one in index.get_images([picture.image_id])] == [third.revision]
    assert [one.revision for one in index.scroll_images()] == [third.revision]


def test_of_two_writers_that_read_the_same_record_the_second_is_told(
    filled: SegmentIndex, few: list[Picture]
) -> None:
    picture = few[0]
    [read] = filled.get_images([picture.image_id])
    won = filled.update_image(replace(read, tags=("first",)))
    late = replace(read, tags=("second",))

    for write in (
        lambda: filled.update_image(late),
        lambda: filled.upsert_image(late, picture.vector * 2),
        lambda: filled.upsert_image(replace(late, revision=0), picture.vector * 2),
        lambda: filled.delete_image(picture.image_id, revision=read.revision),
    ):
        with pytest.raises(IndexConflictError, match="changed or deleted by another process") as caught:
            write()
        assert "\n" not in str(caught.value)

    [held] = filled.get_images([picture.image_id])
    assert (held, held.revision) == (won, won.revision)
    found = filled.get_image_vectors([picture.image_id])
    np.testing.assert_array_equal(found[picture.image_id], picture.vector[0])
    assert {one.tags for one in filled.get_segments(picture.segment_ids)} == {("first",)}
    merged = filled.update_image(replace(held, tags=("first", "second")))
    assert filled.get_images([picture.image_id]) == [merged]


def test_a_write_that_says_what_is_stored_already_succeeds_whatever_its_revision(
    filled: SegmentIndex, few: list[Picture]
) -> None:
    [read] = filled.get_images([few[0].image_id])
    changed = replace(read, tags=("both",))
    first = filled.update_image(changed)

    # as when the answer of the first attempt got lost, or another process had the same to say
    assert filled.update_image(changed).revision == first.revision
    assert filled.upsert_image(changed, few[0].vector).revision == first.revision


def test_a_picture_that_was_deleted_meanwhile_is_not_updated(
    filled: SegmentIndex, few: list[Picture]
) -> None:
    [read] = filled.get_images([few[0].image_id])
    filled.delete_image(read.image_id, revision=read.revision)

    with pytest.raises(SegmentIndexError, match="is not in"):
        filled.update_image(replace(read, tags=("late",)))
    filled.delete_image(read.image_id, revision=read.revision)  # again is harmless

    assert filled.get_images([read.image_id]) == []
    assert filled.get_segments(few[0].segment_ids) == []
    assert filled.upsert_image(read, few[0].vector).image_id == read.image_id


@pytest.mark.parametrize("place", PERSISTENT, indirect=True)
def test_no_tag_is_lost_where_many_threads_change_one_record(place: Place) -> None:
    picture = make_picture(0, 3)
    index = place.open(True)
    index.ensure(FINGERPRINT)
    index.upsert_segments(picture.segments)

    def add(tag: str) -> None:
        while True:
            held = next(iter(index.get_images([picture.image_id])), picture.record)
            try:
                if held.revision == 0:
                    index.upsert_image(replace(held, tags=(tag,)), picture.vector)
                else:
                    index.update_image(replace(held, tags=tuple(sorted({*held.tags, tag}))))
                return
            except IndexConflictError:
                continue

    tags = [f"tag{number}" for number in range(8)]
    with ThreadPoolExecutor(len(tags)) as pool:
        list(pool.map(add, tags))

    [held] = index.get_images([picture.image_id])
    assert set(held.tags) == set(tags)
    assert held.revision >= len(tags)  # more if one was told late and said the same again


def test_zero_vectors_are_stored_and_score_zero(index: SegmentIndex) -> None:
    picture = make_picture(0, 4)
    rows = picture.segments.vectors["crop"].copy()
    rows[2] = 0
    segments = EmbeddedSegments(picture.segments.records, {"crop": rows, "mask": np.zeros_like(rows)})
    index.upsert_segments(segments)
    index.upsert_image(picture.record, np.zeros_like(picture.vector))
    query = rows[0]

    scores = {hit.record.segment_id: hit.score for hit in query_by(index, query, view="crop", limit=9)}
    assert len(scores) == 4
    assert scores[picture.segment_ids[2]] == 0
    assert [hit.score for hit in query_by(index, query, view="mask", limit=9, exact=True)] == [0] * 4
    assert not index.get_image_vectors([picture.image_id])[picture.image_id].any()
    assert not index.get_vectors(picture.segment_ids)[picture.segment_ids[2]]["crop"].any()


def test_an_empty_index_answers_everything_with_nothing(index: SegmentIndex) -> None:
    query = np.ones(DIM, np.float32)

    assert query_by(index, query, view="crop", limit=3) == []
    assert query_by(index, query, view="crop", limit=3, exact=True) == []
    for exact in (True, False):
        assert asked(index, query, limit=3, per_image=2, where=EVERYTHING, exact=exact) == []
    assert index.get_segments([uuid4()]) == []
    assert index.get_vectors([uuid4()]) == {}
    assert index.get_images([uuid4()]) == []
    assert index.get_segments([]) == []
    assert index.get_images([]) == []
    assert list(index.scroll_segments()) == []
    assert list(index.scroll_images()) == []
    assert index.counts() == IndexCounts(images=0, segments=0)
    index.delete_image(uuid4())
    index.optimize()


def test_a_picture_without_segments_has_a_line_in_the_ledger(index: SegmentIndex) -> None:
    picture = make_picture(2, 0)

    ingest(index, [picture])

    assert index.counts() == IndexCounts(images=1, segments=0)
    assert (index.count_images("no_segments"), index.count_images("done")) == (1, 0)
    assert index.get_images([picture.image_id]) == [picture.record]


def test_optimizing_keeps_the_answers(filled: SegmentIndex, few: list[Picture]) -> None:
    query = few[3].segments.vectors["crop"][0]

    filled.optimize()

    assert_same_hits(query_by(filled, query, view="crop", limit=20), brute_force(few, query, "crop")[:20])
    assert list(filled.scroll_segments()) == all_segments(few)


@pytest.mark.parametrize(
    "fault",
    [
        {"crop": np.zeros((3, DIM), np.float32)},
        {"crop": np.zeros((3, DIM), np.float32), "other": np.zeros((3, DIM), np.float32)},
        {"crop": np.zeros((3, DIM), np.float32), "mask": np.zeros((3, DIM + 1), np.float32)},
        {"crop": np.zeros((3, DIM), np.float32), "mask": np.full((3, DIM), np.nan, np.float32)},
    ],
    ids=["view missing", "view unknown", "other dim", "not finite"],
)
def test_vectors_that_do_not_fit_the_index_are_a_bug_of_the_caller(
    index: SegmentIndex, fault: dict[str, np.ndarray]
) -> None:
    records = make_picture(0, 3).segments.records

    with pytest.raises(ValueError, match="must"):
        index.upsert_segments(EmbeddedSegments(records, fault))

    assert index.counts().segments == 0


@pytest.mark.parametrize("place", PERSISTENT, indirect=True)
def test_a_number_that_json_cannot_hold_is_refused_before_anything_is_written(index: SegmentIndex) -> None:
    picture = make_picture(0, 3)
    records = [*picture.segments.records[:2], replace(picture.segments.records[2], stability=float("nan"))]

    with pytest.raises(ValueError, match="finite"):
        index.upsert_segments(replace(picture.segments, records=records))

    assert index.counts().segments == 0


def test_what_another_embedder_or_other_views_would_write_is_refused(index: SegmentIndex) -> None:
    for wanted in (replace(FINGERPRINT, embedder="other"), replace(FINGERPRINT, views=("crop",))):
        with pytest.raises(IndexMismatchError, match=r"--profile offline.*another --index"):
            index.ensure(wanted)

    index.ensure(replace(FINGERPRINT, segmenter="another segmenter is no obstacle"))
    assert index.fingerprint() == FINGERPRINT


def test_the_fingerprint_remembers_how_the_next_ingest_works(place: Place) -> None:
    index = place.open(True)
    index.ensure(FINGERPRINT)
    changed = replace(FINGERPRINT, quality="best", segmenter="another", profile="default")

    index.remember(changed)

    assert index.fingerprint() == changed
    with pytest.raises(IndexMismatchError, match="embedder"):
        index.remember(replace(changed, embedder="other"))
    if place.write_fingerprint is not None:  # it outlives its object
        index.close()
        assert place.open(False).fingerprint() == changed


def test_before_ensure_there_is_no_index_to_use(place: Place) -> None:
    index = place.open(True)

    assert index.fingerprint() is None
    with pytest.raises(IndexMissingError):
        index.counts()
    with pytest.raises(IndexMissingError):
        ingest(index, [make_picture(0, 1)])


@pytest.mark.parametrize("place", PERSISTENT, indirect=True)
def test_an_index_that_does_not_exist_is_not_made_by_reading(place: Place) -> None:
    with pytest.raises(IndexMissingError, match=r"segdex ingest PATH --index .* makes one"):
        place.open(False)
    with pytest.raises(IndexMissingError):
        place.open(False)


@pytest.mark.parametrize("place", PERSISTENT, indirect=True)
def test_an_index_opened_again_has_everything(place: Place, pictures: list[Picture]) -> None:
    index = place.open(True)
    index.ensure(FINGERPRINT)
    ingest(index, pictures)
    query = pictures[4].segments.vectors["crop"][0]
    before = query_by(index, query, view="crop", limit=20, exact=True)
    index.close()
    index.close()  # twice is harmless

    again = place.open(False)

    assert again.fingerprint() == FINGERPRINT
    assert list(again.scroll_segments()) == all_segments(pictures)
    assert query_by(again, query, view="crop", limit=20, exact=True) == before
    assert again.counts().images == len(pictures)
    for where in filters(pictures).values():
        assert again.counts(where).segments == sum(holds(r, where) for r in all_segments(pictures))


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        (SCHEMA_VERSION + 1, "upgrade segdex"),
        (
            OLDEST_SCHEMA_VERSION - 1,
            "make it anew under another name: segdex --index NEW --profile offline ingest FOLDER$",
        ),
    ],
    ids=["newer", "older"],
)
@pytest.mark.parametrize("place", PERSISTENT, indirect=True)
def test_an_index_of_another_schema_is_refused_when_it_is_opened(
    place: Place, version: int, advice: str
) -> None:
    index = place.open(True)
    index.ensure(FINGERPRINT)
    index.close()
    assert place.write_fingerprint is not None
    place.write_fingerprint(replace(FINGERPRINT, schema_version=version))

    for create in (True, False):
        with pytest.raises(IndexVersionError, match=advice) as caught:
            place.open(create)
        assert "\n" not in str(caught.value)


def test_groups_are_pictures(library: SegmentIndex) -> None:
    groups = asked(library, np.ones(DIM, np.float32), limit=9, per_image=3, where=EVERYTHING, exact=False)

    ids = [hit.record.image_id for group in groups for hit in group]
    assert len([key for key, _ in groupby(ids)]) == len(set(ids)) == 9


@pytest.mark.parametrize("limit", [1, 7, 10_000])
def test_ids_are_found_from_one_to_another_in_order(
    library: SegmentIndex, pictures: list[Picture], limit: int
) -> None:
    segments = sorted(record.segment_id for record in all_segments(pictures))
    images = sorted(picture.image_id for picture in pictures)

    for find, ids in ((library.segment_ids, segments), (library.image_ids, images)):
        middle = ids[len(ids) // 2]
        bounds = [
            (UUID(int=0), UUID(int=(1 << 128) - 1)),
            (middle, middle),
            (middle, ids[-1]),
            (UUID(int=middle.int + 1), ids[-1]),
            (ids[0], UUID(int=middle.int - 1)),
            (UUID(int=ids[-1].int + 1), UUID(int=(1 << 128) - 1)),
            *((UUID(f"{digit}" + "0" * 31), UUID(f"{digit}" + "f" * 31)) for digit in "0123456789abcdef"),
        ]
        for first, last in bounds:
            assert find(first, last, limit=limit) == [one for one in ids if first <= one <= last][:limit]


def test_ids_of_what_was_deleted_are_not_found(filled: SegmentIndex, few: list[Picture]) -> None:
    gone = few[0]
    filled.delete_image(gone.image_id)

    found = filled.segment_ids(UUID(int=0), UUID(int=(1 << 128) - 1), limit=1_000)
    assert found == sorted(record.segment_id for record in all_segments(few[1:]))
    assert gone.image_id not in filled.image_ids(UUID(int=0), UUID(int=(1 << 128) - 1), limit=1_000)
