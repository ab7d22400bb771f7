"""Complaints of people about files, folders and copies, with their own inputs, through the command line."""

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.api.test_cli_ingest import Capture, Desk
from tests.core.media.making import make_case

pytestmark = pytest.mark.models


@pytest.fixture(name="desk")
def _desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Desk:
    monkeypatch.setenv("SEGDEX_CACHE_DIR", str(tmp_path / "cache"))
    return Desk(tmp_path, capsys)


def planned(desk: Desk, *places: str | Path, code: int = 0) -> tuple[list[str], str]:
    """Return the files that an ingest would take, below the case's folder, and its notes as JSON."""
    report = desk.ask("ingest", *map(str, places), "--dry-run", code=code)
    files = [one["path"].partition("/case/")[2] for one in report["files"]]
    return files, json.dumps([report["notes"], report["skipped_folders"]], ensure_ascii=False)


def names(hits: list[dict[str, dict[str, str]]]) -> list[str]:
    return [hit["image"]["path"].rsplit("/", 1)[-1] for hit in hits]


def test_a_folder_with_brackets_is_taken_as_it_is_written(desk: Desk, tmp_path: Path) -> None:
    case = make_case("01", tmp_path / "case")

    files, _ = planned(desk, case / "Trip [2024]" / "*.jpg")

    assert files == ["Trip [2024]/a.jpg", "Trip [2024]/b (1).jpg"]


@pytest.mark.parametrize(
    ("exclude", "left_out", "is_named"),
    [
        ("2022/**/private", 3, False),
        ("*.{tif,jpg}", 8, False),
        ("private", 3, False),
        ("nosuchthing", 0, True),
    ],
)
def test_an_exclude_leaves_out_what_it_says_or_is_named(
    desk: Desk, tmp_path: Path, exclude: str, left_out: int, is_named: bool
) -> None:
    case = make_case("03", tmp_path / "case")

    files, notes = planned(desk, case / "in", "--exclude", exclude)

    assert len(files) == 9 - left_out
    assert (exclude in notes) == is_named


def test_what_was_indexed_before_it_was_excluded_is_counted(desk: Desk, tmp_path: Path) -> None:
    case = make_case("03", tmp_path / "case")
    desk.ask("ingest", str(case / "in"))

    report = desk.ask("ingest", str(case / "in"), "--exclude", "private")

    assert any("3 pictures" in note and "segdex delete" in note for note in report["notes"])


def test_links_to_folders_are_followed_once_and_dead_ones_are_named(desk: Desk, tmp_path: Path) -> None:
    case = make_case("04", tmp_path / "case")

    collection, named = planned(desk, case / "collection", code=1)
    only_links, _ = planned(desk, case / "only-links")
    pattern, _ = planned(desk, case / "only-links" / "*" / "*.jpg")

    assert sorted(collection) == ["collection/2020/b.jpg", "elsewhere/2022/a.jpg"]
    assert only_links == pattern == ["elsewhere/2022/a.jpg"]
    for name in ("loop", "itself.jpg", "dangling.jpg"):
        assert name in named


@pytest.mark.parametrize("target", ["in/phone", "in/phone/r.jpg"])
def test_one_of_two_copies_is_forgotten_alone(desk: Desk, tmp_path: Path, target: str) -> None:
    case = make_case("06", tmp_path / "case")
    desk.ask("ingest", str(case / "in"))

    deleted = desk.ask("delete", str(case / target))

    assert [Path(one["path"]).name for one in deleted["kept"]] == ["r copy.jpg"]
    assert len(deleted["images"]) == (1 if target == "in/phone" else 0)
    hits = desk.ask("search", "red", "--source", str(case / "in/backup"), "--limit", "9")["hits"]
    assert names(hits) == ["r copy.jpg"]


def test_a_folder_is_the_same_one_however_it_is_spelt(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case("07", tmp_path / "case")
    desk.ask("ingest", str(case / "album"))
    monkeypatch.chdir(case / "desk")

    inside = desk.ask("search", "red", "--source", "../album/backup")["hits"]
    above = desk.ask("search", "red", "--source", "..")["hits"]
    nowhere = desk.ask("search", "red", "--source", "../album/nosuch")
    deleted = desk.ask("delete", "../album/phone")

    assert names(inside) == ["rocket.jpg"]
    assert sorted(names(above)) == ["flower.jpg", "rocket.jpg"]
    assert nowhere["hits"] == []
    assert "album/nosuch" in json.dumps(nowhere)
    assert len(deleted["images"]) == 1


@pytest.mark.parametrize("keeps_time", [False, True])
def test_a_mask_is_not_drawn_on_another_picture(
    desk: Desk, tmp_path: Path, capsys: Capture, keeps_time: bool
) -> None:
    from segdex.cli.main import run

    case = make_case("38", tmp_path / "case")
    desk.ask("ingest", str(case / "in"))
    sheet = tmp_path / "sheet.png"
    hit = desk.ask("search", "red", "--save", str(sheet))["hits"][0]
    assert sheet.stat().st_size > 1_000
    status = (case / "in/0.jpg").stat()
    shutil.copyfile(case / "after/0.jpg", case / "in/0.jpg")
    if keeps_time:
        os.utime(case / "in/0.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))

    out = tmp_path / "things"
    base = ["--index", desk.index]
    assert run([*base, "show", hit["segments"][0]["id"], "--out", str(out)], parts=desk.parts) == 1
    assert "changed since it was ingested" in capsys.readouterr().err
    assert not [*tmp_path.glob("things/*cut*")]
    run([*base, "search", "red", "--save", str(sheet)], parts=desk.parts)
    assert "changed since it was ingested" in capsys.readouterr().err
