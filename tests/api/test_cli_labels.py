"""``segdex label`` and ``segdex set`` on an index of two pictures of coloured boxes."""

from pathlib import Path

from tests.api.one_index import Ask, asking
from tests.environment import no_variables

__all__ = ["asking", "no_variables"]


def test_labels_come_from_words_and_files_and_are_listed_searched_and_cleared(
    ask: Ask, tmp_path: Path
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("red\n\n  green \nred\n")
    at = ("--min-score", "0.5")

    dry = ask("label", "--from", str(words), "--dry-run", *at)
    assert list(dry["counts"]) == ["red", "green"]
    assert dry["dry_run"] is True
    assert ask("label", "--list")["counts"] == {}
    report = ask("label", "--from", str(words), *at)
    assert report["counts"] == dry["counts"] == ask("stats")["labels"] == ask("label", "--list")["counts"]
    assert min(report["counts"].values()) >= 1
    several = ask("label", "red", "a red box", "--several", "--min-score", "0.01", "--dry-run")
    assert sum(several["counts"].values()) > several["labelled"]

    hits = ask("search", "red", "--label", "green")["hits"]
    assert sum(len(hit["segments"]) for hit in hits) == report["counts"]["green"]
    segment = hits[0]["segments"][0]
    assert [one["name"] for one in segment["labels"]] == ["green"]

    ask("label", "my box", "--segment", segment["id"], "--by", "anna")
    shown = ask("label", "--list", text=True)
    assert "my box" in shown
    assert ask("label", "--clear", "green")["counts"] == {"green": report["counts"]["green"]}
    assert ask("label", "--clear")["counts"] == {"red": report["counts"]["red"]}
    assert "my box" in ask("label", "--clear", "--author", "person", text=True)
    assert ask("label", "--list", text=True).strip() == "no labels"
    assert "nothing fits the others" in ask("label", "red", text=True)


def test_sets_are_filled_listed_searched_renamed_and_deleted(ask: Ask) -> None:
    [hit] = ask("search", "green", "--limit", "1", "--per-image", "1")["hits"]
    segment, image = hit["segments"][0]["id"], hit["image"]["id"]

    assert ask("set", "list", text=True).strip() == "no sets"
    ask("set", "create", "empty")
    assert ask("set", "add", "greens", segment, image)["changed"] == 2
    assert ask("set", "add", "greens", segment)["changed"] == 0
    assert [(one["name"], one["segments"], one["images"]) for one in ask("set", "list")["sets"]] == [
        ("empty", 0, 0),
        ("greens", 1, 1),
    ]
    assert ask("set", "remove", "greens", image)["changed"] == 1
    found = ask("search", "red", "--set", "greens", "--set", "empty")["hits"]
    assert [one["id"] for each in found for one in each["segments"]] == [segment]
    assert ask("set", "rename", "greens", "kept")["name"] == "kept"
    assert segment in ask("set", "show", "kept", text=True)
    ask("delete", image)
    assert ask("set", "show", "kept", text=True) == "kept: 0 segments, 0 pictures\n"
    assert "deleted the set 'kept': 0 segments, 0 pictures" in ask("set", "delete", "kept", text=True)
    assert [one["name"] for one in ask("set", "list")["sets"]] == ["empty"]
