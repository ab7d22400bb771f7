"""``segdex ingest``, used twice: nothing to do loads no model, a change asks, a place has one name."""

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.conftest import Tried
from tests.fakes.dataset import png
from tests.fakes.embedder import COLOURS_RGB, ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter

from segdex.cli.ingest import exit_code
from segdex.cli.main import run
from segdex.parts import Parts
from segdex.wiring import REAL
from segdex_core.choices import ProfileName
from segdex_core.media.uris import uri_to_path
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.segmenter import Segmenter
from segdex_core.settings import Settings
from segdex_core.wire.images import IngestReportOut
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings
from segdex_ingest.report import FAILED, FileOutcome, IngestReport, Outcome
from segdex_search.calibrate import Calibration
from segdex_search.presence import PresenceJudge

pytestmark = pytest.mark.models  # a command shares the cores with torch before it loads a recipe

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
            load_segmenter=self._load_segmenter,
            load_embedder=lambda *_: EMBEDDER,
            load_judge=lambda *_: judge,
            make_recipe=self._make_recipe,
        )

    def _load_segmenter(self, settings: Settings, profile: ProfileName) -> Segmenter:
        self.loads += 1
        return FloodSegmenter()

    def _make_recipe(
        self, settings: Settings, segmenter: Segmenter, embedder: Embedder, generator: GeneratorSettings
    ) -> Recipe:
        small = replace(generator, points_per_side=3, explained_above=1.0, redraws=False)
        return Recipe(segmenter, embedder, small)

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
        counts: dict[str, int] = self.ask("ingest", str(self.root / "pictures"), *arguments)["outcomes"]
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


def test_pictures_that_break_a_limit_are_outcomes_that_name_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGDEX_DECODE_MEMORY_MIB", "512")
    Image.new("1", (1, 50_000_000)).save(desk.root / "pictures" / "tall.png")
    Image.new("1", (12_000, 8_000)).save(desk.root / "pictures" / "heavy.png")
    report = desk.ask("ingest", str(desk.root / "pictures"), code=1)

    found = {Path(one["path"]).name: (one["outcome"], one["detail"]) for one in report["files"]}
    assert found["a.png"][0] == found["b.png"][0] == "added"
    assert found["tall.png"][0] == found["heavy.png"][0] == "too_large"
    assert "more than the 65,535 allowed for one side" in found["tall.png"][1]
    assert "512 MiB of memory that SEGDEX_DECODE_MEMORY_MIB allows" in found["heavy.png"][1]
    assert not list((desk.root / "cache" / "journal").iterdir())


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
    assert re.search(r"\(about \d+ (s|min)\)", line)
    assert "--yes" in line
    assert desk.ask("stats") == before
    assert desk.counts("--quality", "best", "--dry-run") == {"replaced": 2, "added": 1}
    assert desk.counts("--quality", "best", "--yes") == {"replaced": 2, "added": 1}
    assert desk.counts() == {"unchanged": 3}


class Terminal(StringIO):
    """A keyboard on which an answer is typed."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code", "outcomes"), [("n\n", 130, None), ("y\n", 0, {"replaced": 2})])
def test_at_a_terminal_the_user_is_asked_before_pictures_are_segmented_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, outcomes: dict[str, int] | None
) -> None:
    desk.counts()
    before = desk.ask("stats")
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    again = ["--index", desk.index, "ingest", str(desk.root / "pictures"), "--quality", "best", "--json"]

    assert run(again, parts=desk.parts) == code
    written = desk.capsys.readouterr()
    assert "2 pictures were made with other models or settings" in written.err
    assert "Go on?" in written.err
    if outcomes is None:
        assert written.out.strip() == ""
        assert desk.ask("stats") == before
    else:
        counts = json.loads(written.out)["outcomes"]
        assert {outcome: count for outcome, count in counts.items() if count} == outcomes


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
    return [hit["image"]["path"] for hit in hits]


def by_deletion(desk: Desk, place: str) -> list[str]:
    desk.counts()
    deleted = desk.ask("delete", place)["images"]
    [outcome] = [
        one for one in desk.ask("ingest", str(desk.root / "pictures"))["files"] if one["outcome"] == "added"
    ]
    return [outcome["path"]] * len(deleted)


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

    assert report["outcomes"]["unchanged"] == len(report["files"]) == 2
    assert desk.ask("stats")["images"] == 2
    assert [hit["image"]["path"] for hit in desk.ask("search", "red")["hits"]] == [
        str(desk.root / "pictures" / name) for name in ("a.png", "b.png")
    ]


def report_of(*outcomes: Outcome, interrupted: bool = False, skipped: bool = False) -> IngestReportOut:
    files = [FileOutcome(f"file:///p/{i}.jpg", outcome) for i, outcome in enumerate(outcomes)]
    folders = [("file:///p/secret", "permission denied")] if skipped else []
    report = IngestReport(files=files, skipped_folders=folders, elapsed_s=1, interrupted=interrupted)
    return report.to_document()


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_exit_code_is_one_when_a_file_was_not_usable(outcome: Outcome) -> None:
    assert exit_code(report_of(Outcome.ADDED, outcome)) == int(outcome in FAILED)
    assert exit_code(report_of()) == 0
    assert exit_code(report_of(Outcome.ADDED, skipped=True)) == 1


@pytest.mark.parametrize("outcome", [Outcome.ADDED, Outcome.UNREADABLE])
def test_a_stopped_run_exits_like_a_program_stopped_by_ctrl_c(outcome: Outcome) -> None:
    assert exit_code(report_of(outcome, interrupted=True)) == 130


def test_what_was_left_out_is_said_and_is_no_failure(desk: Desk) -> None:
    desk.draw("pictures/2022/private/p.png", "green")
    desk.counts()
    folder = str(desk.root / "pictures")
    report = desk.ask("ingest", folder, "--exclude", "2022/**/private", "--exclude", "nosuchthing")

    private = f"{folder}/2022/private"
    assert report["notes"] == [
        "exclude 'nosuchthing' left out nothing",
        f"1 picture in what is excluded now stay in the index; `segdex delete` forgets them: {private}",
    ]
    dry = desk.ask("ingest", folder, "--exclude", "2022/**/private", "--exclude", "nosuchthing", "--dry-run")
    assert dry["notes"] == report["notes"]
    assert len(desk.ask("delete", private)["images"]) == 1


ODD_NAMES = [b"caf\xe9.png", b"new\nline.png", b"-rf.png", b"[1]*.png", b"%41#?.png", b"x" * 251 + b".png"]


@pytest.mark.promise(
    "Ingest", "Any file name that Linux allows goes through ingest, search, sync and delete."
)
def test_any_file_name_goes_through_every_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tried: Tried
) -> None:
    folder = desk.root / "odd"
    folder.mkdir()
    colours = ["red", "green", "blue", "yellow", "orange", "pink"]
    for name, colour in zip(ODD_NAMES, colours, strict=True):
        (folder / os.fsdecode(name)).write_bytes(png(colour))
    monkeypatch.chdir(folder)

    assert desk.ask("ingest", ".")["outcomes"]["added"] == len(ODD_NAMES)
    for name, colour in zip(ODD_NAMES, colours, strict=True):
        path = f"./{os.fsdecode(name)}"
        [file] = desk.ask("ingest", path)["files"]
        assert (file["outcome"], os.fsencode(uri_to_path(file["uri"]).name)) == ("unchanged", name)
        hits = desk.ask("search", colour, "--source", str(folder / path))["hits"]
        assert [os.fsencode(uri_to_path(uri).name) for hit in hits for uri in hit["image"]["uris"]] == [name]
    Path(os.fsdecode(ODD_NAMES[0])).unlink()
    assert len(desk.ask("sync")["gone"]) == 1
    for name in ODD_NAMES[1:]:
        assert desk.ask("delete", f"./{os.fsdecode(name)}")["places"] == 1
    tried(len(ODD_NAMES), "odd names")


def test_without_a_terminal_the_progress_is_on_standard_error_and_counts_segmented_pictures(
    desk: Desk,
) -> None:
    desk.counts()
    desk.draw("pictures/c.png", "green")

    assert run(["--index", desk.index, "ingest", str(desk.root / "pictures")], parts=desk.parts) == 0
    written = desk.capsys.readouterr()
    lines = written.err.splitlines()
    assert lines[0] == "0 of 3 files, time left not known yet"
    assert re.fullmatch(r"3 of 3 files, 1 segmented, .* (a picture|pictures a second)", lines[-1])
    assert "of 3 files" not in written.out
    assert run(["--index", desk.index, "ingest", str(desk.root / "pictures")], parts=desk.parts) == 0
    assert desk.capsys.readouterr().err.splitlines() == ["0 of 3 files", "3 of 3 files, 0 segmented"]
