"""Paths survive as URIs, whatever bytes their names have."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdex_core.media.uris import display_path, path_to_uri, uri_sources, uri_to_path
from segdex_core.wording import printable

PART = st.binary(min_size=1, max_size=20).filter(
    lambda part: not set(part) & {0, ord("/")} and part not in {b".", b".."}
)
PATHS = st.lists(PART, min_size=1, max_size=4).map(lambda parts: Path(os.fsdecode(b"/" + b"/".join(parts))))


@given(PATHS)
def test_a_path_of_any_bytes_comes_back_from_its_uri_through_json(path: Path) -> None:
    uri = json.loads(json.dumps(path_to_uri(path)))

    assert uri_to_path(uri) == path
    assert uri.isascii()


@given(PATHS, PATHS)
def test_different_paths_have_different_uris(a: Path, b: Path) -> None:
    assert (path_to_uri(a) == path_to_uri(b)) == (a == b)


@given(PATHS)
def test_sources_are_the_uri_and_those_of_all_folders_above(path: Path) -> None:
    expected = tuple(path_to_uri(above) for above in (path, *path.parents))

    assert uri_sources(path_to_uri(path)) == expected


@given(PATHS)
def test_what_is_displayed_is_one_printable_line(path: Path) -> None:
    shown = display_path(path_to_uri(path))

    assert printable(shown) == shown
    assert len(shown.splitlines()) == 1


def test_special_characters_of_uris_are_quoted() -> None:
    path = Path("/a b/%41/c#d?e=f&g;h/ü猫.jpg")

    assert uri_to_path(path_to_uri(path)) == path
    assert display_path(path_to_uri(path)) == str(path)


def test_a_relative_path_is_taken_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert uri_to_path(path_to_uri(Path("a.jpg"))) == tmp_path / "a.jpg"


@pytest.mark.parametrize("uri", ["http://host/a.jpg", "/a.jpg", "s3://bucket/a", ""])
def test_a_uri_of_another_scheme_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="not a file: URI"):
        uri_to_path(uri)
