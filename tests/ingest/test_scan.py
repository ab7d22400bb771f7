"""Files, folders and patterns become one stable list without repeats."""

import os
from pathlib import Path

import pytest

from segdex_core.errors import UsageError
from segdex_core.media.uris import path_to_uri, uri_to_path
from segdex_ingest.scan import scan_paths


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def found(
    folder: Path, *inputs: str, exclude: tuple[str, ...] = (), include_hidden: bool = False
) -> list[str]:
    given = [folder / name for name in inputs] or [folder]
    scan = scan_paths(given, exclude=exclude, include_hidden=include_hidden)

    assert scan.problems == ()
    return [path.relative_to(folder).as_posix() for path in scan.files]


def test_order_is_by_bytes_of_the_name_files_before_folders(tmp_path: Path) -> None:
    make(tmp_path, "b.jpg", "a/z.jpg", "a/a.jpg", "B.jpg", "ä.jpg", "10.jpg", "9.jpg", "a/b/c.jpg")

    assert found(tmp_path) == [
        "10.jpg",
        "9.jpg",
        "B.jpg",
        "b.jpg",
        "ä.jpg",
        "a/a.jpg",
        "a/z.jpg",
        "a/b/c.jpg",
    ]


def test_overlapping_inputs_give_each_file_once_in_order_of_first_mention(tmp_path: Path) -> None:
    make(tmp_path, "x/1.jpg", "x/2.jpg", "x/y/3.jpg")

    assert found(tmp_path, "x/2.jpg", "x", "x/y", "x/../x/1.jpg", "x/*", "**/3.jpg") == [
        "x/2.jpg",
        "x/1.jpg",
        "x/y/3.jpg",
    ]


def test_any_extension_is_a_candidate(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b", "c.txt", "d.JPEG")

    assert found(tmp_path) == ["a.jpg", "b", "c.txt", "d.JPEG"]


def test_hidden_and_system_files_are_skipped_unless_named(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a.jpg",
        "._a.jpg",
        ".b.jpg",
        "Thumbs.db",
        ".DS_Store",
        "@eaDir/t.jpg",
        "__MACOSX/a.jpg",
        ".c/d.jpg",
    )

    assert found(tmp_path) == ["a.jpg"]
    assert found(tmp_path, include_hidden=True) == [".b.jpg", "a.jpg", ".c/d.jpg"]
    assert found(tmp_path, "._a.jpg", "Thumbs.db") == ["._a.jpg", "Thumbs.db"]
    assert found(tmp_path, ".c") == [".c/d.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg"]),
        ("**/*.jpg", ["a.jpg", "p/b.jpg", "p/q/c.jpg"]),
        ("p/**/*.jpg", ["p/b.jpg", "p/q/c.jpg"]),
        ("**/q/**/*.jpg", ["p/q/c.jpg"]),
        ("*/q", ["p/q/c.jpg", "p/q/d.png"]),
        ("p/**", ["p/b.jpg", "p/q/c.jpg", "p/q/d.png"]),
        ("**/[cd].*", ["p/q/c.jpg", "p/q/d.png"]),
        ("?.jpg", ["a.jpg"]),
        ("**/**/c.*", ["p/q/c.jpg"]),
    ],
)
def test_patterns_match_part_by_part(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    make(tmp_path, "a.jpg", "p/b.jpg", "p/q/c.jpg", "p/q/d.png")

    assert found(tmp_path, pattern) == expected


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        ("*.png", ["a.jpg", "p/b.jpg", "p/q/c.jpg"]),
        ("q", ["a.jpg", "p/b.jpg"]),
        ("p/q", ["a.jpg", "p/b.jpg"]),
        ("p/*.jpg", ["a.jpg", "p/q/c.jpg", "p/q/d.png"]),
        ("x/q", ["a.jpg", "p/b.jpg", "p/q/c.jpg", "p/q/d.png"]),
    ],
)
def test_exclude_matches_names_or_ends_of_paths(tmp_path: Path, exclude: str, expected: list[str]) -> None:
    make(tmp_path, "a.jpg", "p/b.jpg", "p/q/c.jpg", "p/q/d.png")

    assert found(tmp_path, exclude=(exclude,)) == expected


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    make(tmp_path, "IMG[1].jpg", "IMG1.jpg")

    assert found(tmp_path, "IMG[1].jpg") == ["IMG[1].jpg"]


def test_links_to_files_count_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    make(tmp_path, "real/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "real" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "b.jpg")
    (tmp_path / "real" / "broken.jpg").symlink_to(tmp_path / "gone.jpg")

    assert found(tmp_path, "real") == ["real/a.jpg", "real/link.jpg"]
    assert found(tmp_path, "real/**/*.jpg") == ["real/a.jpg", "real/link.jpg"]
    assert found(tmp_path, "real/out") == ["real/out/b.jpg"]


def test_a_link_in_a_circle_is_a_problem_not_a_failure(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    scan = scan_paths([tmp_path])

    assert scan.files == (tmp_path / "a.jpg",)
    assert [problem.path for problem in scan.problems] == [tmp_path / "circle"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_an_unreadable_folder_is_reported_and_the_rest_is_scanned(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "closed/b.jpg", "open/c.jpg")
    (tmp_path / "closed").chmod(0)
    scan = scan_paths([tmp_path])
    (tmp_path / "closed").chmod(0o700)

    assert [path.name for path in scan.files] == ["a.jpg", "c.jpg"]
    assert [(problem.path.name, problem.reason) for problem in scan.problems] == [
        ("closed", "Permission denied")
    ]


def test_a_folder_that_vanishes_during_the_scan_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.jpg", "gone/b.jpg")
    scandir = os.scandir

    def scandir_after_removal(path: str) -> object:
        if path.endswith("gone"):
            raise FileNotFoundError(2, "No such file or directory")
        return scandir(path)

    monkeypatch.setattr("os.scandir", scandir_after_removal)
    scan = scan_paths([tmp_path])

    assert scan.files == (tmp_path / "a.jpg",)
    assert [problem.path.name for problem in scan.problems] == ["gone"]


@pytest.mark.parametrize(
    "given", ["missing.jpg", "missing/*.jpg", "*.xyz", "[", "", "a\0b", "x" * 5000, "a.jpg/b"]
)
def test_an_input_that_names_nothing_is_a_usage_error_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    make(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError) as raised:
        scan_paths([given])
    assert len(str(raised.value).splitlines()) == 1
    assert "quoted patterns" in str(raised.value)


def test_no_input_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="nothing to ingest"):
        scan_paths([])


def test_an_empty_folder_has_no_files(tmp_path: Path) -> None:
    assert found(tmp_path) == []


def test_paths_are_absolute_and_relative_inputs_meet_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "x/a.jpg")
    monkeypatch.chdir(tmp_path / "x")
    scan = scan_paths(["a.jpg", "./a.jpg", "../x/a.jpg", "..", "*.jpg", tmp_path / "x" / "a.jpg"])

    assert scan.files == (tmp_path / "x" / "a.jpg",)


def test_names_that_are_not_utf8_survive_to_the_uri_and_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n\xff.jpg")
    (tmp_path / name).write_bytes(b"x")
    (path,) = scan_paths([tmp_path]).files

    assert os.fsencode(path.name) == b"caf\xe9\n\xff.jpg"
    assert uri_to_path(path_to_uri(path)).read_bytes() == b"x"


def test_ten_thousand_files_that_two_inputs_name_are_each_found_once(tmp_path: Path) -> None:
    for folder in range(10):
        (tmp_path / str(folder)).mkdir()
        for number in range(1000):
            os.close(os.open(tmp_path / str(folder) / f"{number}.jpg", os.O_CREAT))
    scan = scan_paths([tmp_path, tmp_path / "**" / "*.jpg"])

    assert len(scan.files) == len(set(scan.files)) == 10_000
