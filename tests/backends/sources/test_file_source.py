"""Files, folders and patterns become one stable list without repeats."""

import os
from pathlib import Path

import pytest

from segdex_backends.sources.files import FileSource
from segdex_core.errors import ImageTooLargeError, ImageUnreadableError, UsageError
from segdex_core.media.uris import canonical_uri, path_to_uri, uri_to_path
from segdex_core.ports.source import FileVersion, Listing


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def found(
    folder: Path, *inputs: str, exclude: tuple[str, ...] = (), include_hidden: bool = False
) -> list[str]:
    given = [str(folder / name) for name in inputs] or [str(folder)]
    listing = FileSource().list(given, exclude=exclude, include_hidden=include_hidden)

    assert listing.problems == ()
    return [uri_to_path(uri).relative_to(folder).as_posix() for uri in listing.uris]


def listed(*places: str | Path) -> Listing:
    return FileSource().list([str(place) for place in places])


def paths_of(listing: Listing) -> list[Path]:
    return [uri_to_path(uri) for uri in listing.uris]


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


def test_a_link_to_a_file_counts_by_its_own_name_and_a_link_to_a_folder_by_the_real_one(
    tmp_path: Path,
) -> None:
    make(tmp_path, "real/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "real" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "b.jpg")

    assert found(tmp_path, "real") == ["real/a.jpg", "real/link.jpg", "elsewhere/b.jpg"]
    assert found(tmp_path, "real/**/*.jpg") == ["real/a.jpg", "real/link.jpg", "elsewhere/b.jpg"]
    assert found(tmp_path, "real/out") == ["elsewhere/b.jpg"]  # the place itself, by its one name


def test_a_link_in_a_circle_is_a_problem_not_a_failure(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    scan = listed(tmp_path)

    assert paths_of(scan) == [tmp_path / "a.jpg"]
    assert [uri_to_path(problem.uri) for problem in scan.problems] == [tmp_path / "circle"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_an_unreadable_folder_is_reported_and_the_rest_is_scanned(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "closed/b.jpg", "open/c.jpg")
    (tmp_path / "closed").chmod(0)
    scan = listed(tmp_path)
    (tmp_path / "closed").chmod(0o700)

    assert [path.name for path in paths_of(scan)] == ["a.jpg", "c.jpg"]
    assert [(uri_to_path(problem.uri).name, problem.reason) for problem in scan.problems] == [
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
    scan = listed(tmp_path)

    assert paths_of(scan) == [tmp_path / "a.jpg"]
    assert [uri_to_path(problem.uri).name for problem in scan.problems] == ["gone"]


@pytest.mark.parametrize(
    "given", ["missing.jpg", "missing/*.jpg", "*.xyz", "[", "", "a\0b", "x" * 5000, "a.jpg/b"]
)
def test_an_input_that_names_nothing_is_a_usage_error_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    make(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError) as raised:
        listed(given)
    assert len(str(raised.value).splitlines()) == 1
    assert "quoted patterns" in str(raised.value)


def test_no_input_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="nothing to ingest"):
        listed()


def test_an_empty_folder_has_no_files(tmp_path: Path) -> None:
    assert found(tmp_path) == []


def test_paths_are_absolute_and_relative_inputs_meet_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "x/a.jpg")
    monkeypatch.chdir(tmp_path / "x")
    scan = listed("a.jpg", "./a.jpg", "../x/a.jpg", "..", "*.jpg", tmp_path / "x" / "a.jpg")

    assert paths_of(scan) == [tmp_path / "x" / "a.jpg"]


def test_names_that_are_not_utf8_survive_to_the_uri_and_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n\xff.jpg")
    (tmp_path / name).write_bytes(b"x")
    [path] = paths_of(listed(tmp_path))

    assert os.fsencode(path.name) == b"caf\xe9\n\xff.jpg"
    assert uri_to_path(path_to_uri(path)).read_bytes() == b"x"


def test_ten_thousand_files_that_two_inputs_name_are_each_found_once(tmp_path: Path) -> None:
    for folder in range(10):
        (tmp_path / str(folder)).mkdir()
        for number in range(1000):
            os.close(os.open(tmp_path / str(folder) / f"{number}.jpg", os.O_CREAT))
    scan = listed(tmp_path, tmp_path / "**" / "*.jpg")

    assert len(scan.uris) == len(set(scan.uris)) == 10_000


def test_a_place_has_one_uri_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "disk/2026/caf\u00e9/a.jpg", "home/x")
    (tmp_path / "home" / "photos").symlink_to(tmp_path / "disk" / "2026")
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    places = [
        "photos",
        "photos/",
        "./photos/caf\u00e9",
        "photos/cafe\u0301/a.jpg",  # as another keyboard writes it
        "~/photos",
        "photos/../2026/caf\u00e9",
        "../disk/2026/*/*.jpg",
        "photos/*/a.jpg",
        (tmp_path / "home" / "photos").as_uri(),
    ]
    expected = (path_to_uri(tmp_path / "disk" / "2026" / "caf\u00e9" / "a.jpg"),)

    assert [FileSource().list([place]).uris for place in places] == [expected] * len(places)
    assert FileSource().list(places).uris == expected


def test_a_file_is_told_apart_by_size_and_time_and_read_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff45")
    os.utime(path, ns=(7, 7))
    source, uri = FileSource(), canonical_uri(path)

    assert source.version(uri) == FileVersion(5, 7)
    assert source.read(uri, max_bytes=5) == b"\xff\xd8\xff45"
    assert source.exists(uri)
    with pytest.raises(ImageTooLargeError, match="5 bytes, more than the 4"):
        source.read(uri, max_bytes=4)
    path.unlink()
    assert not source.exists(uri)
    for ask in (source.version, lambda gone: source.read(gone, max_bytes=5)):
        with pytest.raises(ImageUnreadableError, match="No such file"):
            ask(uri)
