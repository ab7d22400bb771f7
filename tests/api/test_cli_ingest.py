"""``segdex ingest``, used twice: nothing to do loads no model, a change asks, a place has one name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter
from tests.fakes.service import png

from segdex.cli.main import run
from segdex.wiring import REAL, Parts
from segdex_core.settings import ProfileName, Settings
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings
from segdex_search.calibrate import Calibration
from segdex_search.presence import PresenceJudge

Capture = pytest.CaptureFixture[str]
EMBEDDER = ColourEmbedder()


class Desk:
    """A folder of pictures, an index beside it, and a command line over fakes that counts what it loads."""

    def __init__(self, root: Path, capsys: Capture) -> None:
        self.root, self.capsys = root, capsys
        self.loads = 0
        self.index = f"edge:{root / 'index'}"
        judge = PresenceJudge(EMBEDDER.embed_texts(list(COLOURS_RGB)), Calibration(0.05, 0.3, 0))
        self.parts: Parts = replace(
            REAL,
            load_recipe=self._load,
            load_embedder=lambda *_: EMBEDDER,
            load_judge=lambda *_: judge,
        )

    def _load(self, settings: Settings, profile: ProfileName, generator: GeneratorSettings) -> Recipe:
        self.loads += 1
        small = replace(generator, points_per_side=3, explained_above=1.0, redraws=False)
        return Recipe(FloodSegmenter(), EMBEDDER, small)

    def draw(self, name: str, colour: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(colour))
        return path

    def ask(self, *arguments: str, code: int = 0) -> Any:
        assert run(["--index", self.index, *arguments, "--json"], parts=self.parts) == code
        return json.loads(self.capsys.readouterr().out)

    def fails(self, *arguments: str) -> str:
        assert run(["--index", self.index, *arguments], parts=self.parts) == 2
        [line] = self.capsys.readouterr().err.strip().splitlines()
        return line

    def counts(self, *arguments: str) -> dict[str, int]:
        counts: dict[str, int] = self.ask("ingest", str(self.root / "pictures"), *arguments)["counts"]
        return {outcome: count for outcome, count in counts.items() if count}


@pytest.fixture(name="desk")
def _desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Desk:
    monkeypatch.setenv("SEGDEX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path, capsys)
    desk.draw("pictures/a.png", "red")
    desk.draw("pictures/b.png", "blue")
    return desk


def test_an_ingest_with_nothing_to_do_loads_no_model(desk: Desk) -> None:
    first = desk.counts()
    loads = desk.loads
    (desk.root / "pictures" / "a.png").rename(desk.root / "pictures" / "c.png")

    again = desk.counts()

    assert first == {"added": 2}
    assert again == {"renamed": 1, "unchanged": 1}
    assert desk.loads == loads == 1


def test_without_what_is_remembered_the_models_are_loaded_and_the_outcome_is_the_same(desk: Desk) -> None:
    desk.counts()
    for broken in (b"", b"{", b'{"by_key": 3}'):
        (desk.root / "cache" / "recipes.json").write_bytes(broken)

        assert desk.counts() == {"unchanged": 2}
    assert desk.loads == 4


def test_the_quality_that_filled_an_index_is_that_of_its_next_ingest(desk: Desk) -> None:
    desk.counts("--quality", "best")
    desk.draw("pictures/c.png", "green")

    assert desk.counts("--dry-run") == {"added": 1, "unchanged": 2}
    assert desk.counts() == {"added": 1, "unchanged": 2}
    assert desk.counts("--quality", "best") == {"unchanged": 3}


def test_a_changed_recipe_is_not_followed_without_a_yes(desk: Desk) -> None:
    desk.counts()
    before = desk.ask("stats")
    desk.draw("pictures/c.png", "green")

    line = desk.fails("ingest", str(desk.root / "pictures"), "--quality", "best")

    assert "2 pictures were made with other models or settings" in line
    assert "min" in line  # about how long
    assert "--yes" in line
    assert desk.ask("stats") == before
    assert desk.counts("--quality", "best", "--dry-run") == {"replaced": 2, "added": 1}
    assert desk.counts("--quality", "best", "--yes") == {"replaced": 2, "added": 1}
    assert desk.counts() == {"unchanged": 3}


def forms(desk: Desk) -> list[str]:
    """Return ways to write the folder ``caf\u00e9`` that is there, composed."""
    (desk.root / "link").symlink_to(desk.root / "pictures")
    return [
        "pictures/caf\u00e9",
        "./pictures/../pictures/caf\u00e9/",
        "link/caf\u00e9",
        "pictures/cafe\u0301",
        str(desk.root / "link" / "cafe\u0301"),
        (desk.root / "pictures" / "caf\u00e9").as_uri(),
    ]


def by_search(desk: Desk, place: str) -> list[str]:
    hits = desk.ask("search", "green", "--source", place, "--min-score", "-1")["hits"]
    return [hit["path"] for hit in hits]


def by_deletion(desk: Desk, place: str) -> list[str]:
    desk.counts()
    forgotten = desk.ask("delete", place)["images"]
    [outcome] = [
        one for one in desk.ask("ingest", str(desk.root / "pictures"))["files"] if one["outcome"] == "added"
    ]
    return [outcome["path"]] * len(forgotten)


@pytest.mark.parametrize("names", [by_search, by_deletion])
def test_a_place_is_found_however_it_is_written(desk: Desk, names: Callable[[Desk, str], list[str]]) -> None:
    path = desk.draw("pictures/caf\u00e9/c.png", "green")
    desk.counts()

    for place in forms(desk):
        assert names(desk, place) == [str(path)], place


def test_a_folder_that_is_reached_by_a_link_is_not_ingested_twice(desk: Desk) -> None:
    desk.counts()
    (desk.root / "link").symlink_to(desk.root / "pictures")

    report = desk.ask("ingest", "link", "link/../pictures")

    assert report["counts"]["unchanged"] == len(report["files"]) == 2
    assert desk.ask("stats")["pictures"] == 2
    assert [hit["path"] for hit in desk.ask("search", "red")["hits"]] == [
        str(desk.root / "pictures" / name) for name in ("a.png", "b.png")
    ]
