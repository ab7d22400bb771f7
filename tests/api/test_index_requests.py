"""What a library asks of its index: no more than a verb needs."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.environment import no_variables
from tests.fakes.dataset import png
from tests.fakes.parts import parts

from segdex.arguments import IngestProgress
from segdex.jobs.runner import job_runner
from segdex.jobs.worker import Progress
from segdex.library import Library
from segdex.usecases import ingest
from segdex.wiring import build_settings, open_library
from segdex_core.ports.index import SegmentIndex

__all__ = ["no_variables"]


class WatchedIndex:
    """An index that counts what it is asked for."""

    def __init__(self, index: SegmentIndex) -> None:
        self._index = index
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.asked[name] += 1
        return getattr(self._index, name)


@dataclass(frozen=True)
class Place:
    """A library over an index that counts, and a folder with one more picture."""

    library: Library
    asked: Counter[str]
    more: Path


@pytest.fixture(name="place")
def _place(tmp_path: Path, no_variables: None) -> Iterator[Place]:
    fakes = parts(tmp_path / "set")
    index = WatchedIndex(fakes.open_index(build_settings(), create=True))
    more = tmp_path / "more"
    more.mkdir()
    (more / "one.png").write_bytes(png("orange"))
    settings = build_settings(
        cache_dir=tmp_path / "cache", jobs_file=tmp_path / "jobs.sqlite", job_roots=(more,)
    )
    watched = replace(fakes, open_index=lambda *_, **__: cast("SegmentIndex", index))
    with open_library(settings, watched) as library:
        yield Place(library, index.asked, more)


def test_an_ingest_of_a_large_index_builds_its_graph_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "GRAPH_FROM_SEGMENTS", 1)
    notes: list[str] = []
    report = place.library.ingest(place.more, progress=IngestProgress(on_note=notes.append))

    assert report.segments > 0
    assert place.asked["optimize"] == 1
    assert notes[-2:] == ["building the search graph", ""]
    assert place.library.ingest(place.more).segments == 0
    assert place.asked["optimize"] == 1  # nothing was new


def test_an_ingest_of_a_small_index_builds_no_graph(place: Place) -> None:
    assert place.library.ingest(place.more).segments > 0
    assert place.asked["optimize"] == 0


def test_a_job_builds_no_graph_while_others_search(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "GRAPH_FROM_SEGMENTS", 1)
    job = place.library.add_job([place.more])
    progress = Progress(job, lambda _: None, lambda: False)
    job_runner(place.library)(job, progress)

    assert progress.job.segments > 0
    assert place.asked["optimize"] == 0


def test_pictures_are_deleted_by_id_without_a_look_at_all_others(place: Place) -> None:
    hit = place.library.search("green")[0]
    place.asked.clear()

    assert place.library.delete(hit.image.id).images == [hit.image.id]
    assert place.asked["get_images"] == 2  # to find it, and right before it is changed
    assert place.asked["scroll_images"] == 0


def test_pictures_are_deleted_by_file_with_one_look_at_all(place: Place) -> None:
    paths = {group.image.path for group in place.library.search("red").images}
    place.asked.clear()

    assert len(place.library.delete(*paths).images) == len(paths) == 2
    assert place.asked["scroll_images"] == 1


def test_segments_are_refined_with_one_request_for_all_and_one_for_their_pictures(place: Place) -> None:
    ids = [hit.id for hit in place.library.search("red")]
    place.asked.clear()
    done = list(place.library.refine("red", segment_ids=ids))

    assert [one.segment_id for one in done] == ids
    assert len(ids) > 2
    assert place.asked["get_segments"] == place.asked["get_images"] == 1


def test_the_segments_of_a_picture_come_with_one_request_for_the_picture(place: Place) -> None:
    hit = place.library.search("red")[0]
    place.asked.clear()

    assert hit.id in {one.id for one in place.library.image_segments(hit.image.id)}
    assert place.asked["get_images"] == 1
