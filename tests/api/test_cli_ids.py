"""Ids on the command line: whole, or the first digits that no other id has."""

from pathlib import Path
from uuid import UUID

import pytest
from tests.api.one_index import Ask, asking
from tests.environment import no_variables

from segdex.cli.ids import ids_among, targets_to_delete
from segdex_core.errors import NotFoundError, UsageError
from segdex_core.wire.ids import MAX_CANDIDATES, FoundId, FoundIds

__all__ = ["asking", "no_variables"]


def _first_hit(ask: Ask, text: str) -> tuple[str, str]:
    [hit] = ask("search", text, "--limit", "1", "--per-image", "1")["hits"]
    return hit["segments"][0]["id"], hit["image"]["id"]


def test_every_verb_takes_the_start_of_an_id(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    segment, image = _first_hit(ask, "green")
    other, _ = _first_hit(ask, "red")
    start, start_of_image, start_of_other = segment[:9], image[:12].upper(), other[:6]

    assert ask("show", start, "--out", str(tmp_path))["segment"]["id"] == segment
    assert (tmp_path / f"{segment}-mask.png").exists()
    like = ask("search", "--segment", start, "--unlike", start_of_other)
    assert like["hits"] == ask("search", "--segment", segment, "--unlike", other)["hits"]
    assert ask("label", "box", "--segment", start, "--by", "anna")["counts"] == {"box": 1}
    assert ask("set", "add", "mine", start, start_of_image)["changed"] == 2
    assert {one["id"] for one in ask("set", "show", "mine")["members"]} == {segment, image}
    assert ask("set", "remove", "mine", start)["changed"] == 1
    assert ask("concept", "mark", "c", "--right", start, "--wrong", start_of_other)["right"] == 1
    assert ask("concept", "mark", "c", "--neither", start_of_other)["wrong"] == 0
    assert ask("delete", start_of_image)["images"] == [image]
    assert "'mine'" in ask("set", "remove", "mine", start, code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "{}"],
        ["search", "--segment", "{}"],
        ["search", "red", "--unlike", "{}"],
        ["label", "box", "--segment", "{}"],
        ["set", "add", "mine", "{}"],
        ["concept", "mark", "c", "--right", "{}"],
    ],
)
def test_what_starts_no_id_is_said_in_one_line(ask: Ask, arguments: list[str]) -> None:
    for given, saying in (("beef0bad", "starts with 'beef0bad'"), ("be", "be"), ("red cat", "red cat")):
        assert saying in ask(*(one.format(given) for one in arguments), code=2)


def test_several_ids_with_one_start_are_listed() -> None:
    ids = [UUID(f"abcd{number}" + "0" * 27) for number in range(MAX_CANDIDATES + 1)]

    assert ids_among(ids, ["ABCD3", str(ids[0])], where="here") == [ids[3], ids[0]]
    with pytest.raises(
        UsageError, match=r"'abcd' is the start of several: abcd0000-.*, ...; write more"
    ) as error:
        ids_among(ids, ["abcd"], where="here")
    assert str(ids[MAX_CANDIDATES - 1]) in str(error.value)
    assert str(ids[MAX_CANDIDATES]) not in str(error.value)
    with pytest.raises(UsageError, match="abcd2000-0000-0000-0000-000000000000; write more"):
        ids_among(ids[1:3], ["abcd"], where="here")
    with pytest.raises(NotFoundError, match="no id in here starts with 'abce'"):
        ids_among(ids, ["abce"], where="here")


def test_a_deletion_needs_more_digits_and_a_file_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = UUID("20240101-0000-4000-8000-000000000000")

    class Index:
        location = "here"

        def find_ids(self, prefix: str) -> FoundIds:
            kind = "image" if image.hex.startswith(prefix.replace("-", "")) else "segment"
            return FoundIds(ids=[FoundId(id=image, kind=kind)])

    def targets(*given: str) -> list[str]:
        return targets_to_delete(Index(), given)  # type: ignore[arg-type]

    monkeypatch.chdir(tmp_path)
    assert targets("20240101", "2024", "beach", str(image)) == [str(image), "2024", "beach", str(image)]
    assert targets("20250101") == ["20250101"]  # only a segment: it may be a folder that is gone
    (tmp_path / "20240101").mkdir()
    assert targets("20240101") == ["20240101"]
