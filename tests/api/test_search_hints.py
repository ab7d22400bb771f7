"""What an answer says beside its hits: how to write a position, and why a colour filter finds nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.environment import no_variables
from tests.fakes.parts import parts

from segdex.wiring import build_settings, open_library
from segdex_core.records import EmbeddedSegments
from segdex_core.wire.search import Filter

__all__ = ["no_variables"]


@pytest.mark.parametrize("earlier", ["none", "one picture", "all"])
def test_pictures_of_an_earlier_version_are_named_where_there_are_some(
    tmp_path: Path, no_variables: None, earlier: str
) -> None:
    fakes = parts(tmp_path / "set")
    index = fakes.open_index(build_settings(), create=True)
    records = list(index.scroll_segments())
    of_one = records[0].image_id
    old = [one for one in records if earlier == "all" or (earlier != "none" and one.image_id == of_one)]
    vectors = index.get_vectors([one.segment_id for one in old])
    for one in old:
        rows = {view: row[None] for view, row in vectors[one.segment_id].items()}
        index.upsert_segments(EmbeddedSegments([replace(one, colours=None)], rows))

    with open_library(build_settings(), replace(fakes, open_index=lambda *_, **__: index)) as library:
        nothing = library.search("red", filter=Filter(colors=["pink"])).response
        plain = library.search("red").response

    assert nothing.hits == []
    assert plain.hits
    assert plain.hints == []
    assert len(nothing.hints) == (earlier != "none")
    if old:
        assert f"of the {len(records)} best segments" in nothing.hints[0]
        assert f"{len(old)} have no measured colors" in nothing.hints[0]
        assert "`segdex reembed`" in nothing.hints[0]


def test_a_hint_of_a_position_is_given_where_one_is_allowed(tmp_path: Path, no_variables: None) -> None:
    fakes = parts(tmp_path / "set")
    with open_library(build_settings(), fakes) as library:
        alone = library.search("red left of blue").response
        beside = library.search("red left of blue", "green").response
        nested = library.search("red left of blue", nms=False).response

    assert alone.hints == ["to require the position, write: red LEFT OF blue"]
    assert beside.hints == nested.hints == []  # a position would be refused with these
