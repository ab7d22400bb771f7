"""An ingest brings the index up to date with the files, says what became of each, and survives crashes."""

import os
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from PIL import Image
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter

from segdex_backends.index.memory import MemoryIndex
from segdex_backends.sources.files import FileSource
from segdex_core.errors import IndexMismatchError, IndexUnavailableError, UsageError
from segdex_core.ids import make_image_id
from segdex_core.media.uris import canonical_uri, path_to_uri, uri_to_path
from segdex_core.ports.segmenter import FRAME_PX, ImageFeatures
from segdex_core.ports.source import FileVersion
from segdex_core.records import (
    IMAGE_VIEW,
    EmbeddedSegments,
    ImageFile,
    ImageRecord,
    RGBImage,
    SegmentRecord,
    Vectors,
)
from segdex_ingest.analyse import Recipe
from segdex_ingest.ledger import Ledger
from segdex_ingest.plan import IngestPlan, plan_ingest
from segdex_ingest.report import FileOutcome, IngestReport, Outcome
from segdex_ingest.run import IngestOptions, ingest_into, prepare_index, rehearse

SOURCE = FileSource()
OPTIONS = IngestOptions(max_pixels=10_000, max_bytes=1_000_000)
SETTINGS = replace(SMALL_FRAME, points_per_side=2, crop_layers=0)
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (30, 60, 220),
    "yellow": (240, 220, 40),
}


class CountingSegmenter(FloodSegmenter):
    """Counts the pictures it encodes."""

    def __init__(self, fingerprint: str = "flood") -> None:
        self.fingerprint = fingerprint
        self.encoded = 0

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        self.encoded += len(images)
        return super().encode(images, frame_px=frame_px)


class MeanwhileSegmenter(CountingSegmenter):
    """Lets something happen when a picture is first encoded."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self.happens: Callable[[], None] | None = happens

    def encode(self, images: Sequence[RGBImage], *, frame_px: int = FRAME_PX) -> list[ImageFeatures]:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return super().encode(images, frame_px=frame_px)


class ReadOnlyIndex(MemoryIndex):
    """Refuses writes as soon as it is told to."""

    is_read_only = False

    def _write(self) -> None:
        if self.is_read_only:
            raise IndexUnavailableError("memory does not answer")

    def upsert_segments(self, segments: EmbeddedSegments) -> None:
        self._write()
        super().upsert_segments(segments)

    def upsert_image(self, record: ImageRecord, vector: Vectors) -> ImageRecord:
        self._write()
        return super().upsert_image(record, vector)

    def update_image(self, record: ImageRecord) -> ImageRecord:
        self._write()
        return super().update_image(record)

    def delete_segments(self, image_id: UUID, *, writes: Collection[str] | None = None) -> None:
        self._write()
        super().delete_segments(image_id, writes=writes)


Stored = tuple[SegmentRecord | ImageRecord, dict[str, list[float]]]


def everything_in(index: MemoryIndex) -> dict[UUID, Stored]:
    """Return all that is stored, point for point, with the vectors."""
    points: dict[UUID, Stored] = {}
    for segment in index.scroll_segments():
        vectors = index.get_vectors([segment.segment_id])[segment.segment_id]
        points[segment.segment_id] = (segment, {view: row.tolist() for view, row in vectors.items()})
    records = list(index.scroll_images())
    whole = index.get_image_vectors([record.image_id for record in records])
    for record in records:
        points[record.image_id] = (record, {IMAGE_VIEW: whole[record.image_id].tolist()})
    return points


class Folder:
    """A folder of small pictures, and how it is ingested."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = ReadOnlyIndex()
        self.segmenter = CountingSegmenter()
        self.recipe = Recipe(self.segmenter, ColourEmbedder(), SETTINGS)
        self.options = OPTIONS

    def draw(self, name: str, colour: str, *, mtime_s: int = 1000) -> Path:
        """Write a picture; one colour is always the same bytes."""
        image = np.full((40, 48, 3), 255, np.uint8)
        image[4:30, 4:30] = COLOURS[colour]
        path = self.root / name
        Image.fromarray(image).save(path)
        return self.touch(path, mtime_s)

    def write(self, name: str, data: bytes) -> Path:
        path = self.root / name
        path.write_bytes(data)
        return self.touch(path, 1000)

    def touch(self, path: Path, mtime_s: int) -> Path:
        os.utime(path, ns=(mtime_s * 10**9, mtime_s * 10**9))
        return path

    def ingest(
        self,
        *,
        paths: Sequence[Path] | None = None,
        approve: Callable[[IngestPlan], None] = lambda _: None,
        on_file: Callable[[FileOutcome], None] = lambda _: None,
    ) -> IngestReport:
        """Ingest all files as a new process would."""
        return ingest_into(
            self.index,
            self.recipe,
            self.uris() if paths is None else [canonical_uri(path) for path in paths],
            source=SOURCE,
            profile="test",
            options=self.options,
            approve=approve,
            on_file=on_file,
        )

    def uris(self) -> list[str]:
        return [canonical_uri(path) for path in sorted(self.root.iterdir())]

    def rehearse(self) -> IngestReport:
        """Ask what an ingest of all files would do."""
        ledger = Ledger(self.index.scroll_images())
        plan = plan_ingest(self.uris(), source=SOURCE, ledger=ledger, recipe=self.recipe.fingerprint())
        return rehearse(plan, source=SOURCE, ledger=ledger, options=self.options)

    def outcomes(self, report: IngestReport) -> dict[str, str]:
        """Return outcome and detail of each file by name, without the folder."""
        prefix = f"{self.root}/"
        return {
            file.uri.rpartition("/")[2]: f"{file.outcome} {file.detail.replace(prefix, '')}".strip()
            for file in report.files
        }

    def stored_names(self) -> dict[str, set[str]]:
        """Return the names of the files that the ledger knows, by the colour they hold."""
        return {
            self.colour_of(record): {file.uri.rpartition("/")[2] for file in record.files}
            for record in self.index.scroll_images()
        }

    def colour_of(self, record: ImageRecord) -> str:
        vector = self.index.get_image_vectors([record.image_id])[record.image_id]
        return max(COLOURS, key=lambda colour: float(ColourEmbedder().embed_texts([colour])[0] @ vector))


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_new_files_are_added_and_then_unchanged_without_a_model_call(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.draw("b.png", "green")

    first = folder.ingest()
    stored = everything_in(folder.index)
    folder.segmenter.encoded = 0
    folder.index.is_read_only = True
    second = folder.ingest()

    assert folder.outcomes(first) == {"a.png": "added", "b.png": "added"}
    assert first.segments == folder.index.counts().segments > 2
    assert not first.to_document().has_failures
    assert folder.outcomes(second) == {"a.png": "unchanged", "b.png": "unchanged"}
    assert second.segments == 0
    assert folder.segmenter.encoded == 0
    assert everything_in(folder.index) == stored


def test_the_ledger_says_what_was_stored(folder: Folder) -> None:
    path = folder.draw("a.png", "red", mtime_s=777)
    folder.options = replace(OPTIONS, tags=("zoo", "art"))

    folder.ingest()

    [record] = folder.index.scroll_images()
    segments = list(folder.index.scroll_segments())
    assert record.files == (ImageFile(path_to_uri(path), 777 * 10**9),)
    assert (record.width, record.height) == (48, 40)
    assert record.size_bytes == path.stat().st_size
    assert record.captured_s == 777
    assert record.tags == ("art", "zoo")
    assert record.status == "done"
    assert record.segment_count == len(segments)
    assert record.recipe == folder.recipe.fingerprint()
    assert {(s.image_id, s.tags, s.sources) for s in segments} == {
        (record.image_id, record.tags, record.sources)
    }


def test_files_that_are_no_usable_pictures_are_reported_and_stop_nothing(folder: Folder) -> None:
    folder.draw("a.png", "red")
    whole = folder.draw("cut.png", "green").read_bytes()
    folder.write("cut.png", whole[:100])
    folder.write("empty.png", b"")
    Image.new("RGB", (200, 200)).save(folder.root / "large.png")
    folder.write("text.png", b"not a picture")
    folder.write("notes.txt", b"not a picture")
    (folder.root / "link.png").symlink_to(folder.root / "nowhere")
    Image.new("RGB", (3, 3), (9, 9, 9)).save(folder.root / "tiny.png")
    folder.write("zlong.png", whole + bytes(2_000_000))

    report = folder.ingest()

    assert {name: text.split(" ")[0] for name, text in folder.outcomes(report).items()} == {
        "a.png": "added",
        "cut.png": "unreadable",
        "empty.png": "unreadable",
        "large.png": "too_large",
        "link.png": "unreadable",
        "notes.txt": "not_an_image",
        "text.png": "unreadable",
        "tiny.png": "no_segments",
        "zlong.png": "too_large",
    }
    assert report.to_document().has_failures
    assert folder.index.counts().images == 2
    assert all("\n" not in file.detail and len(file.detail) < 400 for file in report.files)
    assert "--max-pixels" in folder.outcomes(report)["large.png"]


def test_a_picture_without_segments_is_not_done_twice(folder: Folder) -> None:
    Image.new("RGB", (3, 3), (9, 9, 9)).save(folder.root / "tiny.png")

    folder.ingest()
    again = folder.ingest()

    assert folder.outcomes(again) == {"tiny.png": "unchanged"}
    assert folder.segmenter.encoded == 1
    [record] = folder.index.scroll_images()
    assert (record.status, record.segment_count) == ("no_segments", 0)


def test_the_same_content_twice_is_one_picture_with_two_files(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.draw("b.png", "red")

    report = folder.ingest()

    assert folder.outcomes(report) == {"a.png": "added", "b.png": "unchanged same content as a.png"}
    assert folder.stored_names() == {"red": {"a.png", "b.png"}}
    assert folder.segmenter.encoded == 1
    sources = {s.sources for s in folder.index.scroll_segments()}
    assert all(path_to_uri(folder.root / "b.png") in found for found in sources)
    assert folder.outcomes(folder.ingest()) == {"a.png": "unchanged", "b.png": "unchanged"}


def test_a_changed_file_replaces_the_picture_and_its_segments(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.ingest()
    before = set(everything_in(folder.index))
    folder.draw("a.png", "blue", mtime_s=2000)

    report = folder.ingest()

    assert folder.outcomes(report) == {"a.png": "replaced"}
    assert folder.stored_names() == {"blue": {"a.png"}}
    assert before.isdisjoint(everything_in(folder.index))
    assert report.segments == folder.index.counts().segments > 0


def test_a_renamed_file_keeps_its_segments_and_tags_without_a_model_call(folder: Folder) -> None:
    folder.options = replace(OPTIONS, tags=("zoo",))
    path = folder.draw("a.png", "red")
    folder.ingest()
    segments = {s.segment_id for s in folder.index.scroll_segments()}
    path.rename(folder.root / "b.png")
    folder.options = OPTIONS

    report = folder.ingest()

    assert folder.outcomes(report) == {"b.png": "renamed was a.png"}
    assert folder.stored_names() == {"red": {"b.png"}}
    assert folder.segmenter.encoded == 1
    found = list(folder.index.scroll_segments())
    assert {s.segment_id for s in found} == segments
    assert {s.tags for s in found} == {("zoo",)}
    assert all(path_to_uri(folder.root / "b.png") in s.sources for s in found)
    assert not any(path_to_uri(path) in s.sources for s in found)


def test_a_file_that_became_a_copy_of_another_is_replaced_by_it(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.draw("b.png", "green")
    folder.ingest()
    folder.draw("b.png", "red", mtime_s=2000)

    report = folder.ingest()

    assert folder.outcomes(report) == {"a.png": "unchanged", "b.png": "replaced same content as a.png"}
    assert folder.stored_names() == {"red": {"a.png", "b.png"}}
    assert {s.image_id for s in folder.index.scroll_segments()} == {
        r.image_id for r in folder.index.scroll_images()
    }
    assert folder.segmenter.encoded == 2


def test_one_of_two_copies_changes_and_the_other_stays(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.draw("b.png", "red")
    folder.ingest()
    folder.draw("a.png", "blue", mtime_s=2000)

    report = folder.ingest()

    assert folder.outcomes(report) == {"a.png": "replaced", "b.png": "unchanged"}
    assert folder.stored_names() == {"blue": {"a.png"}, "red": {"b.png"}}


def swap(folder: Folder) -> None:
    a, b = folder.root / "a.png", folder.root / "b.png"
    a.rename(folder.root / "c.png")
    b.rename(a)
    (folder.root / "c.png").rename(b)


@pytest.mark.parametrize("jobs", [1, 4])
def test_two_files_that_swapped_their_names_are_both_found_under_the_new_ones(
    folder: Folder, jobs: int
) -> None:
    folder.options = replace(OPTIONS, decode_threads=jobs)
    folder.draw("a.png", "red", mtime_s=1000)
    folder.draw("b.png", "green", mtime_s=2000)
    folder.ingest()
    before = {point: vectors for point, (_, vectors) in everything_in(folder.index).items()}
    swap(folder)

    report = folder.ingest()

    assert {file.outcome for file in report.files} == {Outcome.REPLACED}
    assert folder.stored_names() == {"green": {"a.png"}, "red": {"b.png"}}
    assert {point: vectors for point, (_, vectors) in everything_in(folder.index).items()} == before


def test_a_new_time_alone_is_noted_and_nothing_is_done_again(folder: Folder) -> None:
    path = folder.draw("a.png", "red", mtime_s=1000)
    folder.ingest()
    folder.touch(path, 2000)

    report = folder.ingest()

    assert folder.outcomes(report) == {"a.png": "unchanged"}
    assert folder.segmenter.encoded == 1
    [record] = folder.index.scroll_images()
    assert record.files[0].mtime_ns == 2000 * 10**9


class Upload:
    """Ingests another file with its own tag while somebody else's ingest runs."""

    def __init__(self, folder: Folder, path: Path) -> None:
        self.folder, self.path = folder, path

    def __call__(self) -> None:
        options, self.folder.options = self.folder.options, replace(OPTIONS, tags=("uploaded",))
        report = self.folder.ingest(paths=[self.path])
        self.folder.options = options
        assert not report.interrupted


@pytest.mark.parametrize("moment", ["after the plan", "during the analysis", "of a known picture"])
def test_what_another_writer_stores_meanwhile_is_kept(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory, moment: str
) -> None:
    elsewhere = tmp_path_factory.mktemp("uploads") / "u.png"
    elsewhere.write_bytes(folder.draw("a.png", "red").read_bytes())
    upload = Upload(folder, elsewhere)
    prepare_index(folder.index, folder.recipe, profile="test")
    if moment == "of a known picture":
        folder.ingest()
        folder.touch(folder.root / "a.png", 2000)
    folder.options = replace(OPTIONS, tags=("mine",))
    if moment == "during the analysis":
        folder.recipe = replace(folder.recipe, segmenter=MeanwhileSegmenter(upload))
        folder.ingest()
    else:
        folder.ingest(approve=lambda _: upload())

    [record] = folder.index.scroll_images()
    assert {uri_to_path(file.uri) for file in record.files} == {folder.root / "a.png", elsewhere}
    assert {"mine", "uploaded"} <= set(record.tags)
    for segment in folder.index.scroll_segments():
        assert set(segment.tags) == set(record.tags)
        assert set(segment.sources) == set(record.sources)
    assert folder.index.counts().segments == record.segment_count > 0


def test_known_bytes_at_a_new_place_call_no_model(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("uploads") / "u.png"
    elsewhere.write_bytes(folder.draw("a.png", "red").read_bytes())
    folder.ingest()
    [record] = folder.index.scroll_images()
    encoded = folder.segmenter.encoded

    report = ingest_into(
        folder.index,
        folder.recipe,
        [canonical_uri(elsewhere)],
        source=SOURCE,
        profile="test",
        options=OPTIONS,
        known_ids=[record.image_id],
    )

    assert [file.outcome for file in report.files] == [Outcome.UNCHANGED]
    assert folder.segmenter.encoded == encoded
    assert folder.stored_names() == {"red": {"a.png", "u.png"}}


def test_a_picture_that_was_deleted_meanwhile_is_ingested_again(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.ingest()
    [record] = folder.index.scroll_images()
    folder.touch(folder.root / "a.png", 2000)

    report = folder.ingest(approve=lambda _: folder.index.delete_image(record.image_id))

    assert [file.outcome for file in report.files] == [Outcome.ADDED]
    assert folder.index.counts().images == 1
    assert folder.index.counts().segments > 0


def test_a_file_that_changed_takes_no_file_of_another_writer_with_it(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("uploads") / "u.png"
    elsewhere.write_bytes(folder.draw("a.png", "red").read_bytes())
    folder.ingest()
    folder.draw("a.png", "blue", mtime_s=3000)

    folder.ingest(approve=lambda _: Upload(folder, elsewhere)())

    assert folder.stored_names() == {"red": {"u.png"}, "blue": {"a.png"}}


class LazyRecipes:
    """Loads nothing until it has to, and may remember another recipe than the one it loads."""

    def __init__(self, recipe: Recipe, remembered: str | None = None) -> None:
        self.recipe, self.remembered = recipe, remembered or recipe.fingerprint()
        self.loads = 0

    def fingerprint(self) -> str:
        return self.remembered

    def load(self) -> Recipe:
        self.loads += 1
        return self.recipe


def ingest_lazily(folder: Folder, recipes: LazyRecipes) -> IngestReport:
    return ingest_into(
        folder.index, recipes, folder.uris(), source=SOURCE, profile="test", options=folder.options
    )


def test_models_are_loaded_once_for_a_new_picture_and_never_for_what_is_known(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.draw("b.png", "green")
    recipes = LazyRecipes(folder.recipe)

    ingest_lazily(folder, recipes)
    after_new = recipes.loads
    (folder.root / "a.png").rename(folder.root / "c.png")
    folder.touch(folder.root / "b.png", 5000)
    folder.write("notes.txt", b"not a picture")
    report = ingest_lazily(folder, recipes)

    assert after_new == 1
    assert recipes.loads == 1
    assert folder.outcomes(report)["c.png"] == "renamed was a.png"
    assert report.counts[Outcome.NOT_AN_IMAGE] == 1


def test_what_is_remembered_of_changed_models_is_no_harm(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.draw("b.png", "green")
    folder.ingest()
    expected = everything_in(folder.index)
    folder.draw("c.png", "blue")

    report = ingest_lazily(folder, LazyRecipes(folder.recipe, remembered="an older one"))

    assert folder.outcomes(report) == {"a.png": "unchanged", "b.png": "unchanged", "c.png": "added"}
    assert {key: value for key, value in everything_in(folder.index).items() if key in expected} == expected


def test_a_plan_says_how_many_pictures_another_recipe_made_before_anything_is_done(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.draw("b.png", "red")
    folder.draw("c.png", "green")
    folder.ingest()
    before = everything_in(folder.index)
    folder.draw("d.png", "blue")
    folder.recipe = replace(folder.recipe, generator=replace(SETTINGS, segments_per_image=1))
    plans: list[IngestPlan] = []

    def refuse(plan: IngestPlan) -> None:
        plans.append(plan)
        raise UsageError("no")

    with pytest.raises(UsageError):
        folder.ingest(approve=refuse)
    assert everything_in(folder.index) == before
    [plan] = plans
    assert (plan.outdated, plan.to_read) == (2, 1)


def test_a_place_that_was_noted_by_another_name_is_the_same_place(folder: Folder, tmp_path: Path) -> None:
    folder.draw("a.png", "red")
    link = tmp_path.with_name(f"{tmp_path.name}-link")
    link.symlink_to(folder.root)
    folder.ingest()
    [record] = folder.index.scroll_images()
    typed = path_to_uri(link / "a.png")  # as a version noted it that did not follow links
    folder.index.update_image(replace(record, files=(ImageFile(typed, record.files[0].mtime_ns),)))

    folder.ingest()

    [after] = folder.index.scroll_images()
    assert after.files == record.files


def test_tags_of_a_second_run_are_added_to_pictures_and_segments(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.options = replace(OPTIONS, tags=("b",))
    folder.ingest()
    folder.options = replace(OPTIONS, tags=("a", "b"))

    report = folder.ingest()

    assert folder.outcomes(report) == {"a.png": "unchanged"}
    assert {r.tags for r in folder.index.scroll_images()} == {("a", "b")}
    assert {s.tags for s in folder.index.scroll_segments()} == {("a", "b")}


def test_another_recipe_does_every_picture_again_and_leaves_nothing_of_the_old(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.draw("b.png", "red")
    folder.options = replace(OPTIONS, tags=("zoo",))
    folder.ingest()
    old = {s.segment_id for s in folder.index.scroll_segments()}
    folder.options = OPTIONS
    folder.recipe = replace(folder.recipe, generator=replace(SETTINGS, segments_per_image=1))

    report = folder.ingest()

    assert folder.outcomes(report) == {
        "a.png": "replaced made with other models or settings before",
        "b.png": "unchanged",
    }
    new = [s.segment_id for s in folder.index.scroll_segments()]
    assert len(old) > len(new) == 1
    [record] = folder.index.scroll_images()
    assert record.recipe == folder.recipe.fingerprint()
    assert record.tags == ("zoo",)
    assert folder.stored_names() == {"red": {"a.png", "b.png"}}


def test_another_embedder_is_refused_before_anything_is_written(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.ingest()
    folder.recipe = replace(folder.recipe, embedder=ColourEmbedder(samples_per_side=8))

    with pytest.raises(IndexMismatchError):
        folder.ingest()


def test_a_limit_stops_after_so_many_pictures_and_the_next_run_goes_on(folder: Folder) -> None:
    for i, colour in enumerate(COLOURS):
        folder.draw(f"{i}.png", colour)
    folder.options = replace(OPTIONS, limit=2)

    first, second = folder.ingest(), folder.ingest()

    assert folder.outcomes(first) == {"0.png": "added", "1.png": "added"}
    assert folder.outcomes(second) == {
        "0.png": "unchanged",
        "1.png": "unchanged",
        "2.png": "added",
        "3.png": "added",
    }


def test_a_dry_run_says_the_same_and_writes_nothing(folder: Folder) -> None:
    folder.draw("a.png", "red")
    folder.draw("b.png", "green")
    moved = folder.draw("m.png", "blue")
    folder.ingest()
    folder.draw("b.png", "red", mtime_s=2000)
    folder.draw("c.png", "yellow")
    folder.draw("d.png", "yellow")
    folder.write("e.png", b"text")
    moved.rename(folder.root / "n.png")
    before, encoded = everything_in(folder.index), folder.segmenter.encoded

    folder.index.is_read_only = True
    dry = folder.rehearse()
    after_dry = everything_in(folder.index)
    folder.index.is_read_only = False
    real = folder.ingest()

    assert after_dry == before
    assert folder.outcomes(dry) == folder.outcomes(real)
    assert dry.segments == 0
    assert dry.counts[Outcome.ADDED] == 1
    assert folder.segmenter.encoded == encoded + 1


def test_as_many_threads_as_one_do_the_same(tmp_path: Path) -> None:
    found = []
    for jobs in (1, 4):
        folder = Folder(tmp_path)
        folder.options = replace(OPTIONS, decode_threads=jobs)
        for i in range(12):
            folder.draw(f"{i:02}.png", list(COLOURS)[i % 4])
        folder.write("05x.png", b"text")

        report = folder.ingest()
        found.append((folder.outcomes(report), everything_in(folder.index)))

    assert found[0] == found[1]
    assert len(found[0][0]) == 13


def test_files_come_in_the_given_order_and_those_not_given_are_left_alone(folder: Folder) -> None:
    paths = [folder.draw(f"{colour}.png", colour) for colour in COLOURS]
    folder.ingest()
    paths[0].unlink()

    report = folder.ingest(paths=[paths[3], paths[1]])

    assert list(folder.outcomes(report)) == ["yellow.png", "green.png"]
    assert len(folder.stored_names()) == 4


def test_a_file_that_goes_away_between_scan_and_read_is_reported(folder: Folder) -> None:
    path = folder.draw("a.png", "red")
    path.unlink()

    report = folder.ingest(paths=[path])

    assert folder.outcomes(report) == {"a.png": "unreadable a.png: cannot be read: No such file or directory"}


@pytest.mark.parametrize("jobs", [1, 4])
def test_ctrl_c_returns_what_was_done_and_the_next_run_goes_on(folder: Folder, jobs: int) -> None:
    folder.options = replace(OPTIONS, decode_threads=jobs)
    for i, colour in enumerate(COLOURS):
        folder.draw(f"{i}.png", colour)
    seen: list[str] = []

    def stop_at_the_second(outcome: FileOutcome) -> None:
        seen.append(outcome.uri)
        if len(seen) == 2:
            raise KeyboardInterrupt

    report = folder.ingest(on_file=stop_at_the_second)
    stopped_with = folder.index.counts().images
    again = folder.ingest()

    assert report.interrupted
    assert len(report.files) == 2
    assert stopped_with == 2
    assert folder.outcomes(again) == {
        "0.png": "unchanged",
        "1.png": "unchanged",
        "2.png": "added",
        "3.png": "added",
    }
    assert not [t for t in threading.enumerate() if t.name.startswith("segdex-read")]


def test_a_ledger_can_be_read_while_it_changes() -> None:
    sha256 = "ab" * 32
    uri = "file:///a.png"
    record = ImageRecord(
        image_id=make_image_id(sha256),
        sha256=sha256,
        size_bytes=1,
        files=(ImageFile(uri, 1),),
        width=1,
        height=1,
        captured_s=0,
        place_lat_lon=None,
        tags=(),
        status="done",
        segment_count=1,
        recipe="",
    )
    ledger, version = Ledger([record]), FileVersion(1, 1)
    stopped = threading.Event()
    found: list[ImageRecord | None] = []

    def look() -> None:
        while not stopped.is_set():
            found.append(ledger.find(uri, version))

    reader = threading.Thread(target=look)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that the reader comes in the middle of a change
    try:
        reader.start()
        for _ in range(5_000):
            ledger.put(record)
    finally:
        sys.setswitchinterval(interval_s)
        stopped.set()
    reader.join()

    assert set(found) <= {None, record}
    assert ledger.find(uri, version) == record
