"""A re-embedding that is killed five times ends as an undisturbed one, while searches go on beside it."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from tests.backends.index.stored_indexes import edge_content, server_content
from tests.e2e import reembed_child
from tests.e2e.reembed_child import NEW, OLD, found_by, open_index
from tests.fakes.segmenter import SMALL_FRAME, FloodSegmenter
from tests.needs import ROOT
from tests.qdrant_server import QdrantServer
from tests.waiting import wait_until

from segdex_backends.sources.files import FileSource
from segdex_ingest.analyse import Recipe
from segdex_ingest.run import IngestOptions, ingest_into

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

KILLS = 5
PICTURES = 7


def draw(folder: Path) -> None:
    """Write small pictures of a coloured box each."""
    folder.mkdir()
    for number in range(PICTURES):
        image = np.full((40, 50 + number, 3), 255, np.uint8)
        image[4:30, 4:30] = (220, 30 * number, 30)
        image[8:12, 33:40] = (30, 60, 220)
        Image.fromarray(image).save(folder / f"{number}.png")


def fill(place: str, prefix: str, pictures: Path) -> None:
    with closing(open_index(place, prefix)) as index:
        ingest_into(
            index,
            Recipe(FloodSegmenter(), OLD, SMALL_FRAME),
            FileSource().list([str(pictures)]).uris,
            source=FileSource(),
            profile="test",
            options=IngestOptions(max_pixels=10_000, max_bytes=1_000_000),
        )


@contextmanager
def child(verb: str, place: str, prefix: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "ignore", "-m", reembed_child.__name__, verb, place, prefix]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_of(process: subprocess.Popen[str]) -> Iterator[object]:
    assert process.stdout is not None
    return map(json.loads, process.stdout)


def killed_and_finished(place: str, prefix: str) -> list[object]:
    """Re-embed, killed after the first picture five times, then to the end; return what was found."""
    found: list[object] = []
    for _ in range(KILLS):
        with child("begin", place, prefix) as process:
            found.append(next(lines_of(process)))
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    with child("reembed", place, prefix) as process:
        found += lines_of(process)
        assert process.wait() == 0
    return found


def without_tokens(points: object) -> object:
    """Return points without the tokens of their writes, which differ between two ingests."""
    assert isinstance(points, dict)
    return {
        name: {
            key: ({field: value for field, value in payload.items() if field != "write"}, rows)
            for key, (payload, rows) in collection.items()
        }
        for name, collection in points.items()
    }


def test_in_a_folder(tmp_path: Path) -> None:
    draw(tmp_path / "pictures")
    home, whole = tmp_path / "index", tmp_path / "whole"
    fill(str(home), "", tmp_path / "pictures")
    shutil.copytree(home, whole)
    with closing(open_index(str(home), "")) as index:
        before = found_by(index, OLD)
    with child("reembed", str(whole), "") as process:
        list(lines_of(process))
        assert process.wait() == 0

    found = killed_and_finished(str(home), "")

    assert KILLS < len(found) <= KILLS + PICTURES
    assert found == [before] * len(found)
    assert edge_content(home) == edge_content(whole)
    with closing(open_index(str(home), "")) as index:
        assert found_by(index, NEW) != before


@pytest.mark.qdrant
def test_on_a_server_with_searches_from_another_process(qdrant_server: QdrantServer, tmp_path: Path) -> None:
    draw(tmp_path / "pictures")
    url, prefix, whole = qdrant_server.url, f"test-{uuid4()}", f"test-{uuid4()}"
    for each in (prefix, whole):
        fill(url, each, tmp_path / "pictures")
    with closing(open_index(url, prefix)) as index:
        before = found_by(index, OLD)
    with child("reembed", url, whole) as process:
        list(lines_of(process))
        assert process.wait() == 0
    answers: list[object] = []

    with child("search", url, prefix) as searching:
        reader = threading.Thread(target=lambda: answers.extend(lines_of(searching)))
        reader.start()
        wait_until(lambda: bool(answers), what="the other process searches")
        found = killed_and_finished(url, prefix)
        after_switch = len(answers)
        wait_until(lambda: len(answers) > after_switch + 1, what="it searches on after the switch")
        with closing(open_index(url, prefix)) as index:
            assert index.drop_unused() == 1
        reader.join()

    *answered, refused = answers
    assert answered == [before] * len(answered)
    assert found == [before] * len(found)
    assert "segdex reembed" in str(refused)
    content, wanted = server_content(url, prefix), server_content(url, whole)
    assert without_tokens(content["points"]) == without_tokens(wanted["points"])
    assert content["description"] == wanted["description"]
    with closing(open_index(url, prefix)) as index:
        assert found_by(index, NEW) != before
