"""A re-embedding makes the vectors that an ingest with the new embedder makes, whatever happens meanwhile."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from tests.backends.index.stored_indexes import edge_content
from tests.fakes.embedder import ColourEmbedder, PoolingEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter
from tests.qdrant_server import QdrantServer

from segdex_backends.index.conditions import Conditions
from segdex_backends.index.edge_store import EdgeStore
from segdex_backends.index.layout import EMBEDDED
from segdex_backends.index.memory import MemoryIndex
from segdex_backends.index.point_store import CollectionSpec, StoredPoint
from segdex_backends.index.qdrant import QdrantIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import IndexConflictError, IndexMismatchError, IndexUnavailableError, UsageError
from segdex_core.media.uris import canonical_uri
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures
from segdex_core.records import ImageRecord, IndexFingerprint, RGBImage, SegmentFilter, SegmentLabel
from segdex_core.sets import SegmentSet, SetMember
from segdex_ingest.analyse import Embedding, Recipe
from segdex_ingest.masks.generate import GeneratorSettings
from segdex_ingest.recolour import images_without_colours, measure_colours
from segdex_ingest.reembed import ReembedOptions, ReembedReport, reembed_index, rehearse_reembedding
from segdex_ingest.run import IngestOptions, ingest_into, prepare_index
from segdex_search.answer import search
from segdex_search.queries import SearchQuery, TextTerm

SOURCE = FileSource()
OLD, NEW = ColourEmbedder(), ColourEmbedder(samples_per_side=3)
SETTINGS = replace(SMALL_FRAME, points_per_side=2, crop_layers=0, segments_per_image=7)  # of no preset
COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (30, 60, 220), "pink": (250, 160, 190)}


class NoSegmenter(FloodSegmenter):
    """Knows its name, and fails when it is used."""

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        raise AssertionError("a picture was segmented")


class Library:
    """A folder of pictures, and how it is ingested and embedded again."""

    def __init__(self, root: Path, index: SegmentIndex) -> None:
        self.root = root
        self.index = index
        root.mkdir(exist_ok=True)

    def draw(self, name: str, colour: str, *, width: int = 48) -> Path:
        image = np.full((40, width, 3), 255, np.uint8)
        image[4:30, 4:30] = COLOURS[colour]
        image[8:12, 33:40] = COLOURS["red"]
        path = self.root / name
        Image.fromarray(image).save(path)
        os.utime(path, ns=(width * 10**9, width * 10**9))
        return path

    def ingest(self, recipe: Recipe | None = None, *, tags: tuple[str, ...] = ()) -> dict[str, int]:
        report = ingest_into(
            self.index,
            recipe or Recipe(FloodSegmenter(), OLD, SETTINGS),
            [canonical_uri(path) for path in sorted(self.root.iterdir())],
            source=SOURCE,
            profile="test",
            options=IngestOptions(max_pixels=10_000, max_bytes=1_000_000, tags=tags),
        )
        return {outcome.value: count for outcome, count in report.counts.items() if count}

    def reembed(
        self,
        embedding: Embedding | None = None,
        *,
        skip_missing: bool = False,
        on_image: Callable[[ImageRecord, str], None] = lambda *_: None,
    ) -> ReembedReport:
        report = reembed_index(
            self.index,
            embedding or Embedding(NEW),
            source=SOURCE,
            profile="test",
            options=ReembedOptions(max_pixels=10_000, skip_missing=skip_missing),
            on_image=on_image,
        )
        if report.index is not None:
            self.index = report.index
        return report


def content(index: SegmentIndex) -> dict[str, object]:
    """Return every record and every vector of an index."""
    segments = {one.segment_id: one for one in index.scroll_segments()}
    images = {one.image_id: one for one in index.scroll_images()}
    vectors = index.get_vectors(list(segments))
    wholes = index.get_image_vectors(list(images))
    return {
        "segments": segments,
        "images": images,
        "vectors": {
            key: {view: row.tolist() for view, row in sorted(vectors[key].items())} for key in segments
        },
        "wholes": {key: wholes[key].tolist() for key in images},
    }


@pytest.fixture(params=["memory", "edge", pytest.param("server", marks=pytest.mark.qdrant)])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Library]:
    index: SegmentIndex = MemoryIndex()
    if request.param == "edge":
        index = QdrantIndex(EdgeStore(tmp_path / "index", create=True))
    if request.param == "server":
        index = on_server(request.getfixturevalue("qdrant_server"), f"test-{uuid4()}")
    library = Library(tmp_path / "pictures", index)
    for name, colour in (("a.png", "red"), ("b.png", "green"), ("c.png", "blue")):
        library.draw(name, colour)
    yield library
    index.close()


def on_server(server: QdrantServer, prefix: str) -> QdrantIndex:
    from segdex_backends.index.server_connection import ServerConnection
    from segdex_backends.index.server_store import ServerStore

    return QdrantIndex(
        ServerStore(ServerConnection(server.url, timeout_s=20), create=True, collection_prefix=prefix)
    )


def fresh_content(library: Library, recipe: Recipe, *, tags: tuple[str, ...] = ()) -> dict[str, object]:
    """Return what an ingest of the folder into a new index stores."""
    other = Library(library.root, MemoryIndex())
    other.ingest(recipe, tags=tags)
    return content(other.index)


NEW_RECIPE = Recipe(FloodSegmenter(), NEW, SETTINGS)
POOLED_RECIPE = Recipe(FloodSegmenter(), PoolingEmbedder(), SETTINGS, "pooled")


@pytest.mark.parametrize("recipe", [NEW_RECIPE, POOLED_RECIPE], ids=["other embedder", "other views"])
def test_the_vectors_are_those_of_an_ingest_and_the_next_ingest_finds_nothing_to_do(
    library: Library, recipe: Recipe
) -> None:
    library.ingest(replace(recipe, embedder=OLD, views="crops") if recipe is NEW_RECIPE else _crops(recipe))

    report = library.reembed(recipe.embedding)

    assert (report.images, report.embedded, list(report.missing), report.unknown) == (3, 3, [], 0)
    assert content(library.index) == fresh_content(library, recipe)
    again = replace(recipe, segmenter=NoSegmenter())
    assert library.ingest(again) == {"unchanged": 3}
    assert library.reembed(recipe.embedding).nothing_to_do


def _crops(recipe: Recipe) -> Recipe:
    return replace(recipe, views="crops")


def test_pictures_that_were_added_changed_deleted_and_tagged_meanwhile_are_as_the_ledger_says(
    library: Library,
) -> None:
    library.ingest()
    changes = iter([1, 2, 3])

    def meanwhile(record: ImageRecord, problem: str) -> None:
        match next(changes, None):
            case 1:
                library.draw("d.png", "pink")
                library.draw("a.png", "pink", width=52)
                library.ingest()
            case 2:
                (library.root / "b.png").rename(library.root / "bb.png")
                library.ingest(tags=("new",))
            case 3:
                [deleted] = [one for one in library.index.scroll_images() if "c.png" in one.files[0].uri]
                library.index.delete_image(deleted.image_id)
                (library.root / "c.png").unlink()

    library.reembed(on_image=meanwhile)

    assert content(library.index) == fresh_content(library, NEW_RECIPE, tags=("new",))


def found_by(index: SegmentIndex, embedder: ColourEmbedder) -> list[tuple[str, float]]:
    """Return what a search finds, with the scores."""
    answer = search(SearchQuery(terms=(TextTerm("red"),), limit=10), index=index, embedder=embedder)
    return [(str(one.segment_id), one.score) for hit in answer.hits for one in hit.segments]


def test_an_open_index_answers_from_the_old_vectors_until_they_are_dropped_and_refuses_writes(
    library: Library,
) -> None:
    library.ingest()
    opened, before = library.index, found_by(library.index, OLD)
    stored = content(opened)
    seen: list[list[tuple[str, float]]] = []

    library.reembed(on_image=lambda *_: seen.append(found_by(opened, OLD)))

    assert seen == [before] * 3
    assert found_by(opened, OLD) == before
    assert content(opened) == stored
    assert found_by(library.index, NEW) != before
    for index, embedder in ((opened, NEW), (library.index, OLD)):
        with pytest.raises(IndexMismatchError, match="reembed"):
            found_by(index, embedder)
    record = next(opened.scroll_images())
    for write in (
        lambda: opened.delete_image(record.image_id),
        lambda: opened.delete_segments(record.image_id),
        lambda: opened.update_image(replace(record, tags=("x",))),
    ):
        with pytest.raises(IndexMismatchError, match="reembed"):
            write()
    assert len(list(library.index.scroll_images())) == 3
    assert library.index.drop_unused() == 1
    with pytest.raises(IndexMismatchError, match="reembed"):
        found_by(opened, OLD)
    assert found_by(library.index, NEW)


def test_searches_in_other_threads_get_whole_answers_of_one_embedder(tmp_path: Path) -> None:
    with closing(QdrantIndex(EdgeStore(tmp_path / "index", create=True))) as index:
        library = Library(tmp_path / "pictures", index)
        for number in range(12):
            library.draw(f"{number}.png", "green", width=41 + number)
        library.ingest()
        allowed = [found_by(library.index, OLD)]
        answers: list[list[tuple[str, float]]] = []
        stopped = threading.Event()

        def ask() -> None:
            while not stopped.is_set():
                now = library.index
                answers.append(found_by(now, OLD if now is index else NEW))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            library.reembed()
            allowed.append(found_by(library.index, NEW))
            while allowed[1] not in answers:
                assert asking.is_alive()
        finally:
            stopped.set()
            asking.join()

        assert allowed[0] != allowed[1]
        assert all(answer in allowed for answer in answers)


def gone(path: Path) -> None:
    path.unlink()


def changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1  # as long as before
    path.write_bytes(data)


@pytest.mark.parametrize("lose", [gone, changed])
def test_a_picture_that_cannot_be_read_keeps_the_old_vectors_in_use_unless_it_may_be_left_out(
    library: Library, lose: Callable[[Path], None]
) -> None:
    library.ingest()
    kept = (library.root / "b.png").read_bytes()
    lose(library.root / "b.png")
    before = content(library.index)

    report = library.reembed()

    assert [one.record.files[0].uri.rpartition("/")[2] for one in report.missing] == ["b.png"]
    assert (report.embedded, report.index) == (2, None)
    assert content(library.index) == before
    library.index.delete_segments(report.missing[0].record.image_id)  # writes are not refused any more

    without = library.reembed(skip_missing=True)

    assert (without.embedded, len(without.missing)) == (0, 1)
    assert without.index is library.index
    (library.root / "b.png").unlink(missing_ok=True)
    assert content(library.index) == fresh_content(library, NEW_RECIPE)
    (library.root / "b.png").write_bytes(kept)
    assert library.ingest(NEW_RECIPE) == {"added": 1, "unchanged": 2}


def test_when_every_picture_is_missing_nothing_is_left_out(library: Library) -> None:
    library.ingest()
    before = content(library.index)
    for path in library.root.iterdir():
        path.unlink()

    with pytest.raises(UsageError, match="is a disk not mounted"):
        library.reembed(skip_missing=True)
    assert content(library.index) == before


def test_ctrl_c_keeps_what_is_embedded_and_the_next_run_goes_on(library: Library) -> None:
    library.ingest()

    def stop(record: ImageRecord, problem: str) -> None:
        raise KeyboardInterrupt

    report = library.reembed(on_image=stop)

    assert report.interrupted
    assert report.index is None
    assert library.ingest() == {"unchanged": 3}
    assert library.reembed().embedded == 2


def test_a_rehearsal_counts_and_times_and_writes_nothing(library: Library, tmp_path: Path) -> None:
    library.ingest()
    (library.root / "c.png").unlink()
    folders = sorted(tmp_path.rglob("segments*"))
    told: list[int] = []

    for _ in range(2):
        found = rehearse_reembedding(
            library.index,
            Embedding(NEW),
            source=SOURCE,
            profile="test",
            options=ReembedOptions(max_pixels=10_000),
        )
        told.append(found.to_embed)
        assert (found.images, len(found.missing)) == (3, 1)
        assert found.image_s is not None
        assert found.image_s > 0
        assert sorted(tmp_path.rglob("segments*")) == folders
    library.reembed()  # does not switch
    found = rehearse_reembedding(
        library.index,
        Embedding(NEW),
        source=SOURCE,
        profile="test",
        options=ReembedOptions(max_pixels=10_000),
    )

    assert told == [2, 2]
    assert (found.to_embed, len(found.missing)) == (0, 1)


def test_pictures_of_settings_that_nobody_knows_are_counted_and_asked_about_by_the_next_ingest(
    library: Library,
) -> None:
    """As those of a segdex that did not note its recipes, with options of their own."""
    library.ingest()
    unnoted = Library(library.root, MemoryIndex())
    prepare_index(unnoted.index, Recipe(FloodSegmenter(), OLD), profile="test")
    for record in library.index.scroll_images():
        unnoted.index.upsert_image(replace(record, revision=0), np.ones((1, OLD.dim), np.float32))

    report = unnoted.reembed()

    assert report.unknown == 3
    recipe = replace(NEW_RECIPE, generator=GeneratorSettings())
    assert NEW_RECIPE.fingerprint() not in {one.recipe for one in unnoted.index.scroll_images()}
    assert recipe.fingerprint() not in {one.recipe for one in unnoted.index.scroll_images()}


def test_an_index_of_unknown_settings_that_has_the_vectors_is_done(library: Library) -> None:
    library.ingest()
    for record in library.index.scroll_images():
        library.index.update_image(replace(record, recipe="0123456789abcdef"))

    first, second, back = library.reembed(), library.reembed(), library.reembed(Embedding(OLD))

    assert (first.unknown, first.nothing_to_do) == (3, False)
    assert (second.nothing_to_do, second.index) == (True, None)
    assert (back.unknown, back.embedded) == (3, 3)


def test_what_people_made_of_an_index_survives(library: Library) -> None:
    library.ingest()
    index = library.index
    segment, image = next(index.scroll_segments()), next(index.scroll_images())
    named = SegmentSet(uuid4(), "mine", 1.0)
    members = [
        SetMember.of_segment(segment, set_id=named.set_id, added_s=1.0),
        SetMember.of_image(image, set_id=named.set_id, added_s=1.0),
    ]
    index.put_set(named)
    index.add_members(members)
    index.set_marks({segment.segment_id: [named.set_id]})
    index.set_labels({segment.segment_id: [SegmentLabel("toy", "person:me", None, 2.0)]})
    before = content(index)

    library.reembed()

    after = content(library.index)
    assert after["segments"] == before["segments"]
    assert library.index.sets() == [named]
    assert sorted(library.index.set_members(named.set_id), key=repr) == sorted(members, key=repr)
    assert library.index.label_counts() == {"toy": 1}
    marked = library.index.scroll_segments(SegmentFilter(sets=(named.set_id,)))
    assert [one.segment_id for one in marked] == [segment.segment_id]


def test_a_quality_that_an_ingest_chose_meanwhile_stays(library: Library) -> None:
    library.ingest()
    chosen = iter(["best"])

    def choose(record: ImageRecord, problem: str) -> None:
        found = library.index.fingerprint()
        assert found is not None
        for quality in chosen:
            library.index.remember(replace(found, quality=quality))

    library.reembed(on_image=choose)

    after = library.index.fingerprint()
    assert after is not None
    assert (after.quality, after.embedder) == ("best", NEW.fingerprint)


def test_a_segment_that_was_ranked_anew_meanwhile_has_its_new_score_in_its_vector(library: Library) -> None:
    library.ingest()
    runs = iter([1])

    def rank(record: ImageRecord, problem: str) -> None:
        for _ in runs:
            where = SegmentFilter(image_ids=(record.image_id,))
            for batch in list(library.index.scroll_vectors(where)):
                changed = [replace(one, object_score=one.object_score / 2 + 0.125) for one in batch.records]
                library.index.upsert_segments(replace(batch, records=changed))

    library.reembed(on_image=rank)

    index = library.index
    query = {view: np.ones(NEW.dim, np.float32) for view in ("crop", "mask")}
    plain = {
        hit.segment_key: hit.score
        for hit in index.query_fused(query, weights={"crop": 1, "mask": 1}, limit=99)
    }
    scored = index.query_fused(query, weights={"crop": 1, "mask": 1}, object_weight=1.0, limit=99)
    stored = {str(one.segment_id): one.object_score for one in index.scroll_segments()}
    assert scored
    for hit in scored:
        assert hit.score - plain[hit.segment_key] == pytest.approx(stored[hit.segment_key], abs=1e-5)


def test_of_two_at_once_the_slower_changes_nothing_of_what_is_in_use(library: Library) -> None:
    library.ingest()
    slower, runs = library.index, iter([1])
    after: list[dict[str, object]] = []

    def run_the_faster(record: ImageRecord, problem: str) -> None:
        for _ in runs:
            library.reembed()
            library.draw("d.png", "pink")
            (library.root / "b.png").unlink()
            library.ingest(NEW_RECIPE)
            [deleted] = [one for one in library.index.scroll_images() if "b.png" in one.files[0].uri]
            library.index.delete_image(deleted.image_id)
            after.append(content(library.index))

    with pytest.raises(IndexMismatchError, match="reembed"):
        Library(library.root, slower).reembed(on_image=run_the_faster)

    assert after == [content(library.index)]
    assert library.ingest(NEW_RECIPE) == {"unchanged": 3}


def test_a_switch_is_refused_when_another_run_refuses_writes_in_its_own_name(library: Library) -> None:
    """Its end would allow writes that the last comparison of the first run does not see."""
    library.ingest()
    first, second = (
        library.index.vector_copy(fingerprint_of(library.index, NEW), key=key, update=lambda record: record)
        for key in ("0123456789ab", "ba9876543210")
    )
    record = next(library.index.scroll_images())

    with first.fenced():
        with second.fenced():
            with pytest.raises(IndexMismatchError, match="reembed"):
                library.index.delete_image(record.image_id)
            with pytest.raises(IndexConflictError, match="another `segdex reembed`"):
                first.switch({})
        library.index.update_image(replace(record, tags=("x",)))  # the second run ended without a switch
        with pytest.raises(IndexConflictError, match="another `segdex reembed`"):
            first.switch({})
    assert [one.tags for one in library.index.get_images([record.image_id])] == [("x",)]

    with ExitStack() as later:
        with first.fenced():
            later.enter_context(second.fenced())
        with pytest.raises(IndexMismatchError, match="reembed"):  # the first run lifts no fence of the second
            library.index.delete_image(record.image_id)
    library.index.delete_image(record.image_id)


def fingerprint_of(index: SegmentIndex, embedder: ColourEmbedder) -> IndexFingerprint:
    found = index.fingerprint()
    assert found is not None
    return replace(found, embedder=embedder.fingerprint, dim=embedder.dim)


def test_vectors_that_were_in_use_stay_until_they_are_dropped_whatever_replaces_them(
    library: Library,
) -> None:
    library.ingest()
    opened: list[tuple[SegmentIndex, ColourEmbedder, dict[str, object]]] = []

    for embedder in (OLD, NEW, OLD, NEW):
        library.reembed(Embedding(embedder))
        opened.append((library.index, embedder, content(library.index)))

    for index, embedder, stored in opened:
        assert content(index) == stored
        assert found_by(index, embedder)
    assert library.index.drop_unused() == 3
    assert content(library.index) == opened[-1][2]


def test_colours_that_are_missing_are_measured_as_an_ingest_does(library: Library) -> None:
    library.ingest()
    before = content(library.index)
    for batch in list(library.index.scroll_vectors()):
        bare = [replace(one, colours=None) for one in batch.records]
        library.index.upsert_segments(replace(batch, records=bare))
    lost = next(one for one in library.index.scroll_images() if one.files[0].uri.endswith("b.png"))
    kept = (library.root / "b.png").read_bytes()
    (library.root / "b.png").unlink()

    def measure() -> int:
        without = images_without_colours(library.index)
        return measure_colours(library.index, without, source=SOURCE, max_pixels=10_000)

    lacking = images_without_colours(library.index)
    measured = measure()

    assert sum(lacking.values()) == measured + lacking[lost.image_id]
    assert images_without_colours(library.index) == {lost.image_id: lacking[lost.image_id]}
    (library.root / "b.png").write_bytes(kept)
    assert measure() == lacking[lost.image_id]
    assert content(library.index) == before
    assert measure() == 0


class StoppingStore(EdgeStore):
    """Stops at a chosen change, and at every later one."""

    def __init__(self, path: Path, *, stops_at: int | None) -> None:
        super().__init__(path, create=False)
        self.changes = 0
        self._stops_at = stops_at

    def _step(self) -> None:
        self.changes += 1
        if self._stops_at is not None and self.changes >= self._stops_at:
            raise IndexUnavailableError("stopped")

    def create(self, real_name: str, spec: CollectionSpec) -> None:
        self._step()
        super().create(real_name, spec)

    def upsert(self, name: str, points: Sequence[StoredPoint], *, vector: str, over: Conditions = ()) -> None:
        self._step()
        super().upsert(name, points[:1], vector=vector, over=over)  # a write may be done by half
        self._step()
        super().upsert(name, points, vector=vector, over=over)

    def overwrite_payload(self, name: str, payload: Mapping[str, object], where: Conditions) -> None:
        self._step()
        super().overwrite_payload(name, payload, where)

    def delete(self, name: str, where: Conditions) -> None:
        self._step()
        super().delete(name, where)

    def describe(self, description: Mapping[str, object]) -> None:
        self._step()
        super().describe(description)

    def note(self, real_name: str, notes: Mapping[str, object]) -> None:
        self._step()
        super().note(real_name, notes)

    def drop(self, real_name: str) -> None:
        self._step()
        super().drop(real_name)


def reembed_at(home: Path, pictures: Path, *, stops_at: int | None = None) -> int:
    """Re-embed an index in a folder as a new process does; return the number of changes."""
    store = StoppingStore(home, stops_at=stops_at)
    with suppress(IndexUnavailableError), closing(QdrantIndex(store)) as index:
        library = Library(pictures, index)
        library.reembed()
        library.index.drop_unused()
    return store.changes


def test_a_rehearsal_beside_a_copy_writes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "index"
    with closing(QdrantIndex(EdgeStore(home, create=True))) as index:
        library = Library(tmp_path / "pictures", index)
        for name, colour in (("a.png", "red"), ("b.png", "green")):
            library.draw(name, colour)
        library.ingest()
        (library.root / "b.png").rename(tmp_path / "b.png")
        assert library.reembed().index is None
        (tmp_path / "b.png").rename(library.root / "b.png")
        for record in list(index.scroll_images()):
            index.update_image(replace(record, tags=("new",)))  # what the next run copies
    store = StoppingStore(home, stops_at=None)
    with closing(QdrantIndex(store)) as index:
        opening = store.changes
        options = ReembedOptions(max_pixels=10_000)
        found = rehearse_reembedding(index, Embedding(NEW), source=SOURCE, profile="test", options=options)

        assert (found.images, found.to_embed) == (2, 1)
        assert store.changes == opening + len(EMBEDDED)  # each copy is opened


def test_a_switch_that_failed_loses_no_vector(tmp_path: Path) -> None:
    home = tmp_path / "index"
    with closing(QdrantIndex(EdgeStore(home, create=True))) as index:
        library = Library(tmp_path / "pictures", index)
        library.draw("a.png", "red")
        library.ingest()
    store = SwitchFailingStore(home, create=False)
    with closing(QdrantIndex(store)) as index, pytest.raises(IndexUnavailableError):
        Library(library.root, index).reembed()
    with closing(QdrantIndex(EdgeStore(home, create=False))) as index:
        report = Library(library.root, index).reembed()

        assert (report.embedded, report.index is None) == (0, False)


class SwitchFailingStore(EdgeStore):
    """Fails before the switch."""

    def switch(self, description: Mapping[str, object]) -> None:
        raise IndexUnavailableError("stopped")


@pytest.mark.slow
def test_stopped_at_any_write_the_next_run_ends_with_what_an_undisturbed_one_makes(tmp_path: Path) -> None:
    home = tmp_path / "index"
    with closing(QdrantIndex(EdgeStore(home, create=True))) as index:
        library = Library(tmp_path / "pictures", index)
        for name, colour in (("a.png", "red"), ("b.png", "green")):
            library.draw(name, colour)
        library.ingest()
    store = EdgeStore(home, create=False)
    with closing(QdrantIndex(store)):  # what later versions add, and others write
        store.set_payload("segments-4", {"toys": ["bear"], "weights_text": ["0.1"], "weights": [0.1]}, ())
        store.set_payload("images-4", {"owners": ["me"]}, ())
    whole = tmp_path / "whole"
    shutil.copytree(home, whole)
    changes = reembed_at(whole, library.root)
    wanted = edge_content(whole)

    assert changes > 12
    points = wanted["points"]
    assert isinstance(points, dict)
    assert all(payload["toys"] == ["bear"] for payload, _ in points["segments"].values())
    assert all(payload["owners"] == ["me"] for payload, _ in points["images"].values())
    for stops_at in range(1, changes + 1):
        broken = tmp_path / f"stopped-{stops_at}"
        shutil.copytree(home, broken)
        reembed_at(broken, library.root, stops_at=stops_at)
        reembed_at(broken, library.root)
        assert edge_content(broken) == wanted, f"after a stop at change {stops_at} of {changes}"
        shutil.rmtree(broken)
