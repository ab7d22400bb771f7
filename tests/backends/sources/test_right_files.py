"""A listing has the files that a person meant, and says what it left out."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Tried

from segdex_backends.sources.files import FileSource
from segdex_core.errors import ImageTooLargeError, ImageUnreadableError, NotAnImageError, UsageError
from segdex_core.media.slow_shares import Watchdog
from segdex_core.media.uris import canonical_uri, uri_to_path
from segdex_core.ports.source import Listing, LostFolder

ODD = ["Trip [2024]", "a*b", "what?", "{a,b}", "~x", "-rf", "**", "caf\u00e9", "new\nline"]
"""Names of folders that mean something else as patterns, options or in another form."""


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def listed(*places: str | Path, exclude: tuple[str, ...] = ()) -> Listing:
    return FileSource().list([str(place) for place in places], exclude=exclude)


def names(listing: Listing, folder: Path) -> list[str]:
    return [uri_to_path(uri).relative_to(folder).as_posix() for uri in listing.uris]


@pytest.mark.promise("Ingest", "A folder or file that exists as it is written is taken as it is written.")
def test_what_exists_as_it_is_written_is_meant_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Tried
) -> None:
    for name in ODD:
        make(tmp_path, f"{name}/1.jpg", f"{name}/[x].jpg")
    make(tmp_path, "Trip 2/other.jpg", "aXb/other.jpg", "whaty/other.jpg", "a/other.jpg", "rf/other.jpg")
    monkeypatch.chdir(tmp_path)

    for name in ODD:
        both = [f"{name}/1.jpg", f"{name}/[x].jpg"]
        for place in (name, tmp_path / name, f"{name}/", (tmp_path / name).as_uri(), f"{name}/*.jpg"):
            assert names(listed(place), tmp_path) == both, place
        assert names(listed(f"{name}/[x].jpg"), tmp_path) == [f"{name}/[x].jpg"]
        for exclude in (name, f"{name}/", f"./{name}", str(tmp_path / name)):
            if "*" not in name and "?" not in name:
                left = listed(".", exclude=(exclude,))
                assert not set(both) & set(names(left, tmp_path)), exclude
                assert left.notes == (), exclude
    tried(len(ODD), "odd names")


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("2022/**/private", ["2022/a.jpg", "2022/x/b.jpg", "private/p.jpg"]),
        ("**/private", ["2022/a.jpg", "2022/x/b.jpg"]),
        ("private/**", ["2022/a.jpg", "2022/x/b.jpg"]),
        ("private/", ["2022/a.jpg", "2022/x/b.jpg"]),
        ("2022/**", ["private/p.jpg"]),
        ("./private", ["2022/a.jpg", "2022/private/p.jpg", "2022/x/b.jpg", "2022/x/private/p.jpg"]),
        ("{private,x}", ["2022/a.jpg"]),
        ("*.{tif,jp{e,}g}", []),
        ("**/*.jpg", []),
        ("2022/*/private", ["2022/a.jpg", "2022/private/p.jpg", "2022/x/b.jpg", "private/p.jpg"]),
    ],
)
@pytest.mark.promise("Ingest", "`**` in an exclude stands for any number of folders, none too.")
def test_an_exclude_leaves_out_what_it_says_at_every_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exclude: str, left: list[str]
) -> None:
    make(
        tmp_path,
        "2022/a.jpg",
        "2022/private/p.jpg",
        "2022/x/b.jpg",
        "2022/x/private/p.jpg",
        "private/p.jpg",
    )
    monkeypatch.chdir(tmp_path)

    for place in (".", tmp_path, "**/*.jpg"):
        listing = listed(place, exclude=(exclude,))
        assert sorted(names(listing, tmp_path)) == left
        assert listing.notes == ()


def test_an_exclude_may_be_a_whole_path_however_it_is_spelt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "in/a.jpg", "in/caf\u00e9/b.jpg", "in/x/caf\u00e9/c.jpg", "desk/d.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setenv("HOME", str(tmp_path))

    for exclude in (
        f"{tmp_path}/in/caf\u00e9",
        f"{tmp_path}//in/./cafe\u0301/",
        "../in/caf\u00e9",
        "../link/cafe\u0301",
        "~/in/caf\u00e9",
        "../in/caf?",
        (tmp_path / "in" / "caf\u00e9").as_uri(),
    ):
        listing = listed(tmp_path / "in", exclude=(exclude,))
        assert names(listing, tmp_path) == ["in/a.jpg", "in/x/caf\u00e9/c.jpg"], exclude
        assert listing.notes == ()


@pytest.mark.promise("Ingest", "A pattern that matches nothing is named.")
def test_what_matches_nothing_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.JPG", "b.png")
    listing = FileSource().list(
        [str(tmp_path), f"{tmp_path}/*.tif"], exclude=("nosuchthing", "*.jpg", "b.png")
    )

    assert names(listing, tmp_path) == ["a.JPG"]
    assert listing.problems == ()
    assert listing.notes == (
        f"nothing matches '{tmp_path}/*.tif'",
        "exclude 'nosuchthing' left out nothing",
        "exclude '*.jpg' left out nothing: 1 name would match if upper and lower case were the same",
    )
    with pytest.raises(UsageError, match="as a name or as a pattern"):
        listed(tmp_path / "Trip [2024]" / "*.jpg")


def test_names_that_are_always_left_out_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", ".hidden/b.jpg", ".c.jpg", "Thumbs.db", "x/@eaDir/t.jpg", "x/._a.jpg")
    listing = listed(tmp_path)

    assert names(listing, tmp_path) == ["a.jpg"]
    [hidden, system] = listing.notes
    assert hidden.startswith("2 hidden names left out, which --include-hidden takes: ")
    assert system.startswith("3 names left out that systems create: ")


@pytest.mark.promise("Ingest", "A link to a folder is followed, once, or named as not followed.")
def test_linked_folders_are_followed_and_circles_are_cut(tmp_path: Path) -> None:
    make(tmp_path, "disk/2021/a.jpg", "disk/2022/b.jpg", "in/own/c.jpg", "in/private/p.jpg")
    for name, target in {
        "2021": "disk/2021",
        "again": "disk/2021",
        "year": "disk/2022",
        "up": "in",
        "top": "",
        "secret": "in/private",
    }.items():
        (tmp_path / "in" / name).symlink_to(tmp_path / target)
    (tmp_path / "disk" / "2022" / "back").symlink_to(tmp_path / "in" / "own")
    (tmp_path / "in" / "own" / "there").symlink_to(tmp_path / "disk" / "2022")
    listing = listed(tmp_path / "in", exclude=("private",))

    assert sorted(names(listing, tmp_path)) == ["disk/2021/a.jpg", "disk/2022/b.jpg", "in/own/c.jpg"]
    assert listing.problems == ()
    [followed, circles] = listing.notes
    assert f"{tmp_path}/in/2021 -> {tmp_path}/disk/2021" in followed
    assert "2 links to a folder above not followed" in circles.replace("link ", "links ")
    assert f"{tmp_path}/in/top" in circles
    assert names(listed(f"{tmp_path}/in/*/*.jpg", exclude=("private",)), tmp_path) == [
        "disk/2021/a.jpg",
        "in/own/c.jpg",
        "disk/2022/b.jpg",
    ]


def test_a_link_that_leads_nowhere_is_a_problem_where_it_was_meant(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    (tmp_path / "gone").symlink_to(tmp_path / "unmounted")
    [problem] = listed(tmp_path).problems

    assert uri_to_path(problem.uri) == tmp_path / "gone"
    assert problem.reason == f"a link to {tmp_path / 'unmounted'}, which is not there"
    assert listed(tmp_path / "*.jpg").problems == ()


def test_a_place_has_one_uri_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a b/#1?.jpg")
    monkeypatch.chdir(tmp_path)
    expected = canonical_uri(tmp_path / "a b" / "#1?.jpg")
    spellings = [
        "a b/#1?.jpg",
        "a b/../a b//./#1?.jpg",
        f"file:{tmp_path}/a b/#1?.jpg",
        f"FILE://localhost{tmp_path}/a%20b/%231%3f.jpg",
        f"file://{tmp_path}/%61%20b/#1?.jpg",
    ]

    assert {canonical_uri(one) for one in spellings} == {expected}
    for one in spellings:
        assert listed(one).uris == (expected,)
    with pytest.raises(UsageError, match="names the machine 'nas'"):
        listed("file://nas/photos")
    with pytest.raises(UsageError, match="No such file"):
        listed("~nosuchuser/photos")


def test_a_name_in_neither_unicode_form_is_found_in_every_form(tmp_path: Path) -> None:
    mixed = "\u00e9te\u0301"  # the first letter composed, the second not
    make(tmp_path, f"{mixed}/a.jpg")
    expected = canonical_uri(tmp_path / mixed / "a.jpg")

    for form in ("\u00e9t\u00e9", "e\u0301te\u0301", mixed):
        assert listed(tmp_path / form).uris == (expected,)
        assert listed(tmp_path / form / "*.jpg").uris == (expected,)
        assert listed(f"{tmp_path}/{form}*/a.jpg").uris == (expected,)
        assert canonical_uri(tmp_path / form / "a.jpg") == expected
        assert listed(tmp_path, exclude=(form,)).uris == ()


def test_only_the_system_says_that_a_file_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.jpg", "file")
    source = FileSource()

    assert source.exists(canonical_uri(tmp_path / "a.jpg"))
    assert not source.exists(canonical_uri(tmp_path / "b.jpg"))
    assert not source.exists(canonical_uri(tmp_path / "file" / "b.jpg"))

    def failing(path: object) -> os.stat_result:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.stat", failing)
    with pytest.raises(ImageUnreadableError, match="Input/output error"):
        source.exists("file:///a.jpg")


def test_a_folder_that_a_file_was_lost_with_is_named(tmp_path: Path) -> None:
    make(tmp_path, "disk/a.jpg")
    (tmp_path / "usb").mkdir()
    source = FileSource()

    def lost(name: str) -> LostFolder | None:
        return source.lost_folder(canonical_uri(tmp_path / name))

    assert lost("disk/gone.jpg") is None
    assert lost("disk/2021/x/gone.jpg") == LostFolder(canonical_uri(tmp_path / "disk" / "2021"), "missing")
    for below in ("gone.jpg", "x/gone.jpg"):
        assert lost(f"usb/{below}") == LostFolder(canonical_uri(tmp_path / "usb"), "empty")


@pytest.mark.promise("Ingest", "A network share that does not answer is named, and nothing waits for ever.")
def test_a_share_that_hangs_is_a_problem_and_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.jpg", "share/1/b.jpg", "share/2/c.jpg")
    uri = canonical_uri(tmp_path / "share" / "1" / "b.jpg")
    released, asked = threading.Event(), []
    share = str(tmp_path / "share")
    scandir, real_stat = os.scandir, os.stat

    def hanging(call: Callable[..., object]) -> Callable[..., object]:
        def ask(path: object, *args: object, **options: object) -> object:
            if str(path).startswith(f"{share}/"):
                asked.append(str(path))
                released.wait()
            return call(path, *args, **options)

        return ask

    monkeypatch.setattr("os.scandir", hanging(scandir))
    monkeypatch.setattr("os.stat", hanging(real_stat))
    source = FileSource(Watchdog(0.05, lambda path: share if path.startswith(f"{share}/") else None))
    try:
        listing = source.list([str(tmp_path)])
        for verb in (source.version, source.exists, source.lost_folder):
            with pytest.raises(ImageUnreadableError, match="does not answer"):
                verb(uri)
    finally:
        released.set()

    assert names(listing, tmp_path) == ["a.jpg"]
    assert [uri_to_path(one.uri).name for one in listing.problems] == ["1", "2"]
    assert all("does not answer" in one.reason for one in listing.problems)
    assert len(asked) == 1


def test_a_slow_share_that_gets_on_is_waited_for() -> None:
    watchdog = Watchdog(1.5, lambda path: path)

    def slow(beat: Callable[[], None]) -> str:
        for _ in range(5):
            time.sleep(0.4)
            beat()
        return "all"

    assert watchdog.call(slow, "/share") == "all"


def test_a_file_that_is_no_picture_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    with video.open("wb") as file:
        file.write(b"\0\0\0\x20ftypisom")
        file.truncate(8 << 40)  # it takes no room, and reading it would take all memory
    huge = tmp_path / "huge.jpg"
    huge.write_bytes(b"\xff\xd8\xff" + bytes(99))

    with pytest.raises(NotAnImageError, match="MP4 is video"):
        FileSource().read(canonical_uri(video), max_bytes=1_000)
    with pytest.raises(ImageTooLargeError, match="102 bytes"):
        FileSource().read(canonical_uri(huge), max_bytes=50)
