"""Complaints about what lies beside pictures, with their own inputs, through the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.api.test_cli_ingest import Capture, Desk
from tests.conftest import Tried
from tests.core.media.making import make_case

from segdex.cli.main import run

pytestmark = pytest.mark.models

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.fixture(name="desk")
def _desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Desk:
    monkeypatch.setenv("SEGDEX_CACHE_DIR", str(tmp_path / "cache"))
    return Desk(tmp_path, capsys)


def said(desk: Desk, *arguments: str, code: int) -> str:
    """Return what a command prints for people."""
    assert run(["--index", desk.index, *arguments], parts=desk.parts) == code
    return desk.capsys.readouterr().out


@pytest.mark.promise(
    "Pictures",
    "Files beside pictures (JSON, XMP, videos) are counted by kind and are no failure; a broken picture is "
    "named, however many there are.",
)
@pytest.mark.parametrize("dry", [("--dry-run",), pytest.param((), marks=pytest.mark.slow)])
def test_side_files_are_counted_and_the_broken_picture_is_named(
    desk: Desk, tmp_path: Path, tried: Tried, dry: tuple[str, ...]
) -> None:
    case = make_case("10", tmp_path / "case")

    text = said(desk, "ingest", str(case / "export"), *dry, code=0)
    report = desk.ask("ingest", str(case / "export"), *dry)
    broken = said(desk, "ingest", str(case / "one-broken"), *dry, code=1)
    as_json = desk.ask("ingest", str(case / "one-broken"), *dry, code=1)

    assert "not pictures: 3 json, 3 xmp, 1 html, 1 mov, 1 mp4, 1 txt, 1 zip" in text
    assert "IMG_0.jpg.json" not in text
    assert report["outcomes"]["not_an_image"] == sum(report["kinds"].values()) == 11
    assert report["kinds"]["json"] == report["kinds"]["xmp"] == 3
    [named] = [line for line in broken.splitlines() if line.startswith("unreadable: ")]
    assert "IMG_9999.jpg" in named
    assert "not pictures: 30 json" in broken
    assert "more; --json" not in broken
    assert {name: count for name, count in as_json["outcomes"].items() if count} == {
        "unreadable": 1,
        "not_an_image": 30,
    }
    tried(11 + 31, "files of two exports" + (", dry run" if dry else ""))


@pytest.mark.parametrize("how", ["named", "pattern"])
def test_a_file_that_a_person_names_is_an_error_and_one_of_a_pattern_is_not(desk: Desk, how: str) -> None:
    desk.draw("pictures/a.png", "red")
    notes = desk.root / "pictures" / "notes.txt"
    notes.write_text("hello")
    desk.ask("ingest", str(notes.parent), "--dry-run")  # it is remembered, which changes nothing

    place = notes if how == "named" else notes.parent / "*.txt"
    report = desk.ask("ingest", str(place), "--dry-run", code=int(how == "named"))

    [file] = report["files"]
    assert file["outcome"] == ("unreadable" if how == "named" else "not_an_image")
    assert file["kind"] == "txt"
    assert file["detail"].startswith(f"{notes}: not a picture")


def test_broken_pictures_come_before_files_that_were_named_by_mistake(desk: Desk) -> None:
    places = []
    for number in range(25):
        path = desk.root / f"IMG_{number}.json"
        path.write_text("{}")
        places.append(str(path))
    picture = desk.draw("z.png", "red")
    picture.write_bytes(picture.read_bytes()[:100])

    text = said(desk, "ingest", *places, str(picture), "--dry-run", code=1)

    assert text.splitlines()[0].startswith(f"unreadable: {picture}")


@pytest.mark.parametrize(
    ("name", "data", "outcome", "kind"),
    [
        ("empty.jpg", b"", "unreadable", "jpg"),
        ("page.JPG", b"<html>not found</html>", "unreadable", "jpg"),
        ("film.png", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(64), "unreadable", "mp4"),
        ("phone.jpg", HEIC, "not_an_image", "heic"),
        ("phone.heic", HEIC, "not_an_image", "heic"),
        ("raw", b"II*\0\x10\0\0\0CR\x02\0" + bytes(40), "not_an_image", "cr2"),
        ("empty.json", b"", "not_an_image", "json"),
        ("LICENSE", b"free", "not_an_image", "other"),
    ],
)
def test_a_name_that_claims_to_be_a_picture_is_named(
    desk: Desk, name: str, data: bytes, outcome: str, kind: str
) -> None:
    (desk.root / "in").mkdir()
    (desk.root / "in" / name).write_bytes(data)

    for _ in range(2):
        report = desk.ask("ingest", str(desk.root / "in"), "--dry-run", code=int(outcome == "unreadable"))

        assert [(one["outcome"], one["kind"]) for one in report["files"]] == [(outcome, kind)]


def test_what_segdex_does_not_read_yet_is_said_in_one_line(desk: Desk) -> None:
    desk.draw("in/a.png", "red")
    for number in range(2):
        (desk.root / "in" / f"{number}.heic").write_bytes(HEIC)
    (desk.root / "in" / "b.json").write_text("{}")

    text = said(desk, "ingest", str(desk.root / "in"), "--dry-run", code=0)

    assert "2 files left, in formats of pictures and videos that segdex does not read yet: 2 heic" in text
    assert "not pictures: 1 json\n" in text


def test_a_picture_whose_file_is_no_picture_any_more_is_named(desk: Desk) -> None:
    path = desk.draw("in/a.bin", "red")
    assert desk.ask("ingest", str(path.parent))["outcomes"]["added"] == 1
    path.write_text("something else")

    report = desk.ask("ingest", str(path.parent), code=1)

    assert report["outcomes"]["unreadable"] == 1


CHILD = """
import resource, sys
from segdex.cli.main import run
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
code = run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.promise(
    "Pictures", "Of a video beside pictures some kilobytes are read, whatever its size, and once only."
)
def test_videos_beside_pictures_cost_neither_memory_nor_an_error(tmp_path: Path, tried: Tried) -> None:
    case = make_case("40", tmp_path / "case")
    with (case / "longer.mov").open("r+b" if (case / "longer.mov").exists() else "wb") as file:
        file.write(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
        file.truncate(3_000_000_000)
    environment = {**os.environ, "SEGDEX_CACHE_DIR": str(tmp_path / "cache")}
    place = ["--index", f"edge:{tmp_path / 'index'}", "ingest", str(case), "--dry-run", "--json"]

    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *place],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["kinds"] == {"mov": 6}
        assert report["outcomes"]["too_large"] == 0
        grown_kib = int(done.stderr.split()[-1])
        assert grown_kib < 300_000  # libraries, and the decoder; the smallest video has 450 MB
    tried(12, "videos of 0.45 to 3 GB")
