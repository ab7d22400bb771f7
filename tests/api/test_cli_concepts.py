"""``segdex concept`` on an index of two pictures of coloured boxes."""

from contextlib import nullcontext

import pytest
from tests.api.one_index import Ask, asking
from tests.backends.index.stored_samples import FINGERPRINT, make_picture
from tests.environment import no_variables

from segdex.usecases.concepts import Concepts
from segdex_backends.index.memory import MemoryIndex
from segdex_core.concepts import Concept
from segdex_core.wire.concepts import MarkRequest

__all__ = ["asking", "no_variables"]


def test_concepts_are_marked_listed_searched_renamed_and_deleted(ask: Ask) -> None:
    [hit] = ask("search", "green", "--limit", "1", "--per-image", "1")["hits"]
    green = hit["segments"][0]["id"]
    [hit] = ask("search", "red", "--limit", "1", "--per-image", "1")["hits"]
    red = hit["segments"][0]["id"]

    assert ask("concept", "list", text=True).strip() == "no concepts"
    line = ask("concept", "mark", "mine", "--text", "red", "--right", green, "--wrong", red, text=True)
    assert line.strip() == "mine: 1 right, 1 wrong, from the text 'red'"
    assert ask("concept", "mark", "alone", "--right", green)["text"] is None
    [hit] = ask("search", "concept:alone", "-concept:mine", "--limit", "1", "--per-image", "1")["hits"]
    assert [one["id"] for one in hit["segments"]] == [green]
    assert [one["name"] for one in ask("concept", "list")["concepts"]] == ["alone", "mine"]
    dry = ask("label", "concept:mine", "--dry-run", "--min-score", "0.1")
    assert dry["author"] == "concept:mine"
    labelled = ask("label", "concept:alone", "--min-score", "0.1")
    assert labelled["counts"] == ask("label", "--list")["counts"] == {"alone": labelled["labelled"]}
    [hit] = ask("search", "green", "--label", "alone", "--limit", "1", "--per-image", "1")["hits"]
    assert [(one["id"], one["labels"][0]["author"]) for one in hit["segments"]] == [(green, "concept:alone")]
    assert ask("label", "--clear", "--author", "concept")["counts"] == labelled["counts"]
    assert ask("concept", "mark", "mine", "--neither", red)["wrong"] == 0
    assert ask("concept", "rename", "mine", "kept")["name"] == "kept"
    ask("delete", next(iter(ask("concept", "show", "kept")["marks"]))["image_id"])
    assert ask("concept", "show", "kept")["marks"] == []
    assert [one["name"] for one in ask("concept", "list")["concepts"]] == ["kept"]  # the other had no text
    assert "deleted the concept 'kept'" in ask("concept", "delete", "kept", text=True)


class RacingIndex(MemoryIndex):
    """Another process marks a segment of the concept right before the first write to it."""

    others: list[MarkRequest]

    def put_concept(self, one: Concept) -> Concept:
        if self.others:
            Concepts(self, nullcontext()).mark(one.name, self.others.pop())
        return super().put_concept(one)


@pytest.mark.parametrize("is_new", [True, False])
def test_marks_of_two_processes_at_once_both_stay(is_new: bool) -> None:
    picture = make_picture(1, 3)
    first, second, third = picture.segment_ids
    index = RacingIndex()
    index.others = []
    index.ensure(FINGERPRINT)
    index.upsert_segments(picture.segments)
    index.upsert_image(picture.record, picture.vector)
    concepts = Concepts(index, nullcontext())
    if not is_new:
        concepts.mark("mine", MarkRequest(right=[third]))
    index.others = [MarkRequest(right=[first])]

    concepts.mark("mine", MarkRequest(text="cup", wrong=[second]))

    found = concepts.show("mine")
    marked = {one.segment_id: one.is_right for one in found.marks}
    assert marked == {first: True, second: False} | ({} if is_new else {third: True})
    assert found.text == "cup"
