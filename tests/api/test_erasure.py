"""Deleting a picture erases everything that was made of it."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from tests.conftest import Tried
from tests.fakes.parts import parts
from tests.faults import failing, full

from segdex.jobs.runner import job_runner
from segdex.jobs.worker import Progress
from segdex.library import Library
from segdex.wiring import build_settings, open_index, open_library
from segdex_core.errors import StorageError
from segdex_core.ports.segmenter import ImageFeatures, Segmenter
from segdex_core.records import RGBImage
from segdex_core.settings import Settings
from segdex_search.refine.encodings import EncodingCache, EncodingFiles
from segdex_search.refine.refiner import Refiner

SIZE = (90, 120)


def picture(colour: tuple[int, int, int]) -> RGBImage:
    image = np.full((*SIZE, 3), 255, np.uint8)
    image[20:70, 20:80] = colour
    return image


@contextmanager
def opened(folder: Path, kind: str, *, index: str = "index") -> Iterator[Library]:
    """Open a library whose queue, uploads and caches, and with ``edge`` the index, are on the disk."""
    settings = build_settings(
        index=f"edge:{folder / index}",
        uploads=folder / "uploads",
        jobs_file=folder / "jobs.sqlite",
        cache_dir=folder / "cache",
        encodings_dir=folder / "encodings",
    )
    kept = replace(parts(folder / "set"), make_refiner=refiner)
    if kind == "edge":
        kept = replace(kept, open_index=open_index)
    with open_library(settings, kept) as library:
        yield library


def refiner(settings: Settings, *, segmenter: Segmenter, **given: object) -> Refiner:
    def restore(_: bytes) -> ImageFeatures:
        raise ValueError("made again")

    assert settings.encodings_dir is not None
    files: EncodingFiles[ImageFeatures] = EncodingFiles(
        settings.encodings_dir, 64, dump=lambda _: b"encoded", restore=restore
    )
    return Refiner(segmenter=segmenter, encodings=EncodingCache(64, files), **given)  # type: ignore[arg-type]


def traces(folder: Path, marks: list[bytes]) -> set[str]:
    """Return the files below a folder whose names or bytes hold any of some marks."""
    anywhere = re.compile(b"|".join(map(re.escape, marks)))
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and (anywhere.search(bytes(path)) or anywhere.search(path.read_bytes())):
            found.add(str(path.relative_to(folder)))
    return found


@pytest.mark.promise("Pictures", "Deleting a picture erases its upload and everything made of it.")
@pytest.mark.parametrize("kind", ["memory", pytest.param("edge", marks=pytest.mark.slow)])
def test_a_deleted_picture_leaves_nothing_of_itself(
    fast_folder: Path, tmp_path: Path, kind: str, tried: Tried
) -> None:
    folder = fast_folder / tmp_path.name
    with opened(folder, kind) as library:
        queued = library.upload(picture((220, 30, 30)), name="secret-name.png", wait=False, tags=["t"])
        kept = library.upload(picture((30, 160, 60)), name="kept.png")
        run_next_job(library)
        image_id = queued.image_id
        assert image_id is not None
        segment = library.image_segments(image_id)[0]
        library.label("mine", segments=[segment.id])
        library.add_to_set("favourites", segment.id, image_id)
        library.mark("thing", right=[segment.id], text="red")
        library.segment(image_id=image_id, points=[(40, 40)])
        path = Path(library.image(image_id).path)
        marks = marks_of(image_id, segment.id, path)
        assert {place.partition("/")[0] for place in traces(folder, marks)} >= {"uploads", "encodings"}

        library.delete(image_id)

        assert not path.parent.exists()
        assert outside(traces(folder, marks)) == set()
        assert library.show_set("favourites").members == []
        assert library.show_concept("thing").right == 0
        assert library.labels().counts == {}
        assert library.jobs() == []
        assert kept.image_id in {image.image_id for image in library.index.scroll_images()}
        if kind == "edge":
            library.back_up(folder / "backup")
    assert outside(traces(folder, marks)) == set()
    if kind == "edge":  # the files of Qdrant keep deleted points; those of a restored backup never had them
        with opened(folder, kind, index="moved") as library:
            library.restore(folder / "backup")
            assert kept.image_id in {image.image_id for image in library.index.scroll_images()}
        shutil.rmtree(folder / "index")
        assert traces(folder, marks) == set()
    tried(len(marks), f"names, ids and bytes looked for in every file ({kind} index)")
    shutil.rmtree(folder)


def test_a_deletion_that_is_stopped_is_completed_by_another_one(tmp_path: Path) -> None:
    with opened(tmp_path, "memory") as library:
        kept = library.upload(picture((220, 30, 30)), name="kept.png")
        assert kept.image_id is not None
        path = Path(library.image(kept.image_id).path)
        library.add_to_set("favourites", kept.image_id)
        with failing(full(), at=0, after=False), pytest.raises(StorageError, match="cannot be deleted"):
            library.delete(kept.image_id)
        assert not path.exists()

        library.delete(kept.image_id)

        assert library.show_set("favourites").members == []
        assert not path.parent.exists()


def test_names_of_files_beside_pictures_are_kept_nowhere(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "secret-name.json").write_text("{}")
    kept = tmp_path / "kept"
    with opened(kept, "memory") as library:
        for dry_run in (True, False):
            assert library.ingest(pictures, dry_run=dry_run).kinds == {"json": 1}

    assert [path.suffix for path in (kept / "cache" / "not-pictures").iterdir()] == [".scan"]
    assert traces(kept, [b"secret-name"]) == set()


def test_a_file_of_a_person_stays(tmp_path: Path) -> None:
    with opened(tmp_path, "memory") as library:
        [record, *_] = library.index.scroll_images()
        path = Path(library.image(record.image_id).path)

        library.delete(record.image_id)

        assert path.exists()


def test_a_picture_whose_file_comes_back_is_back_in_its_sets_and_concepts(tmp_path: Path) -> None:
    with opened(tmp_path, "memory") as library:
        record = next(iter(library.index.scroll_images()))
        path, away = Path(library.image(record.image_id).path), tmp_path / "away"
        segment = library.image_segments(record.image_id)[0]
        library.add_to_set("kept", segment.id, record.image_id)
        library.mark("mine", right=[segment.id])

        path.rename(away)
        library.sync(force=True)
        assert [one.is_present for one in library.show_set("kept").members] == [False, False]
        assert [one.used_id for one in library.show_concept("mine").marks] == [None]
        away.rename(path)
        library.ingest(path)

        assert [one.is_present for one in library.show_set("kept").members] == [True, True]
        assert [one.used_id for one in library.show_concept("mine").marks] == [segment.id]


def run_next_job(library: Library) -> None:
    """Run a job as a worker does."""
    job = library.queue.take("worker")
    assert job is not None
    progress = Progress(job, library.queue.save, lambda: False)
    job_runner(library)(job, progress)
    library.queue.save(progress.job.model_copy(update={"status": "done"}))


def outside(places: set[str]) -> set[str]:
    """Return the files that are not those of the index."""
    return {place for place in places if not place.startswith("index/")}


def marks_of(image_id: UUID, segment_id: UUID, path: Path) -> list[bytes]:
    """Return what a picture is recognised by."""
    ids = [str(one).encode() for one in (image_id, segment_id)]
    hexes = [one.hex.encode() for one in (image_id, segment_id)]
    return [*ids, *hexes, path.name.encode(), path.parent.name.encode(), path.read_bytes()[20:200]]
