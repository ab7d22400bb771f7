"""A folder or file is the same one in every verb and filter, however a person spells it."""

import os
from pathlib import Path

import pytest
from tests.api.one_index import Ask, asking
from tests.conftest import Tried
from tests.environment import no_variables
from tests.fakes.parts import parts

from segdex.cli.main import run
from segdex.jobs.allowed import check_paths
from segdex_core.errors import UsageError

__all__ = ["asking", "no_variables"]

Capture = pytest.CaptureFixture[str]


@pytest.fixture(name="images")
def _images(tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the two pictures of the index; the current folder is one beside it."""
    images = tmp_path / "set" / "images"
    (tmp_path / "desk").mkdir()
    (tmp_path / "link").symlink_to(images)
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setenv("HOME", str(tmp_path / "desk"))
    return images


def spellings(images: Path) -> list[str]:
    return [
        str(images),
        f"{images}/",
        f"{images.parent}//./images",
        f"{images}/../images",
        "../set/images",
        "../link",
        "~/../set/images",
        images.as_uri(),
        f"file:{images}",
        f"FILE://localhost{images}/",
        images.as_uri().replace("images", "%69mages"),
        "..",
    ]


@pytest.mark.promise("Search", "A folder of a filter is the same folder however it is spelt.")
def test_a_filter_finds_a_folder_however_it_is_spelt(images: Path, ask: Ask, tried: Tried) -> None:
    for place in spellings(images):
        answer = ask("search", "red", "--source", place)
        assert answer["hits"][0]["image"]["path"] == str(images / "a.png"), place
        assert answer["hints"] == []
    tried(len(spellings(images)), "spellings of a folder")


@pytest.mark.promise("Search", "A folder of a filter of which the index knows nothing is named.")
def test_a_folder_that_the_index_does_not_know_is_named(images: Path, ask: Ask) -> None:
    answer = ask("search", "red", "--source", "../nosuch", "--source", str(images / "b.png"))
    text = ask("search", "red", "--source", "../nosuch", text=True)

    hint = f"no object of the index lies below {images.parents[1] / 'nosuch'}"
    assert [one.startswith(hint) for one in answer["hints"]] == [True]
    assert {hit["image"]["path"] for hit in answer["hits"]} == {str(images / "b.png")}
    assert hint in text
    assert "nothing found" not in text
    assert ask("search", "red", "--source", "../set/images", "--tag", "no")["hints"] == []


@pytest.mark.parametrize("position", range(12))
def test_a_folder_is_deleted_however_it_is_spelt(images: Path, ask: Ask, position: int) -> None:
    assert len(ask("delete", spellings(images)[position])["images"]) == 2


def test_a_place_on_another_machine_is_refused(images: Path, ask: Ask, capsys: Capture) -> None:
    for command in (["search", "red", "--source"], ["delete"], ["ingest"]):
        assert run([*command, "file://nas/photos"], parts=parts(images.parent)) == 2
        assert "names the machine 'nas'" in capsys.readouterr().err


def test_a_job_may_name_a_folder_in_any_spelling_inside_the_allowed_ones(tmp_path: Path) -> None:
    allowed, outside = tmp_path / "caf\u00e9 [1]", tmp_path / "secret"
    for folder in (allowed / "in", outside):
        folder.mkdir(parents=True)
    (tmp_path / "root").symlink_to(allowed)
    (allowed / "out").symlink_to(outside)
    (allowed / "loop").symlink_to(allowed / "loop")
    roots = [tmp_path / "root"]

    for good in (
        allowed / "in",
        tmp_path / "cafe\u0301 [1]" / "in",
        tmp_path / "root" / "in" / ".." / "in",
        (allowed / "in").as_uri(),
        f"file:{allowed}/in/",
        allowed,
    ):
        check_paths([str(good)], roots)
    for bad in (
        allowed / ".." / "secret",
        allowed / "out",
        allowed / "loop",
        allowed / "nosuch",
        f"{allowed}/in/\0",
        "in",
        "~",
        "file://nas/in",
        (allowed / "in" / ".." / ".." / "secret").as_uri(),
        f"{outside.as_uri()}%2f..%2fsecret",
        os.fspath(tmp_path),
    ):
        with pytest.raises(UsageError, match="below one of the allowed folders"):
            check_paths([str(bad)], roots)
