"""The way to Label Studio and back, as docs/label-studio.md has it."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.api.pages import commands, done, over_one_index
from tests.environment import no_variables

__all__ = ["no_variables"]


def submitted(tasks: list[dict[str, Any]], renamed: dict[str, str]) -> list[dict[str, Any]]:
    """Return what Label Studio exports after somebody has submitted all tasks with other names."""
    exported = []
    for number, task in enumerate(tasks, start=1):
        result = json.loads(json.dumps(task["predictions"][0]["result"]))
        for position, region in enumerate(result):
            region["id"] = f"r{number}_{position}"
            names = region["value"]["brushlabels"]
            region["value"]["brushlabels"] = [renamed.get(name, name) for name in names]
        annotation = {"id": number, "completed_by": 1, "was_cancelled": False, "result": result}
        annotation["updated_at"] = "2026-11-28T10:00:00.000000Z"
        # the export names predictions by their ids
        exported.append({"id": number, "data": task["data"], "annotations": [annotation], "predictions": [7]})
    return exported


@pytest.mark.usefixtures("no_variables")
def test_the_commands_of_the_page_bring_corrected_labels_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = over_one_index(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    export, dry, back = commands("label-studio.md")
    done(["label", "red", "green", "--min-score", "0.5"], kept)
    capsys.readouterr()

    done(export, kept)
    tasks = json.loads(Path("to-label/tasks.json").read_text(encoding="utf-8"))
    for task in tasks:
        place = task["data"]["image"].removeprefix("/data/local-files/?d=")
        assert (Path("to-label") / place).is_file()
    config = ElementTree.fromstring(Path("to-label/labels.xml").read_text())  # noqa: S314 - our own
    assert {label.get("value") for label in config.iter("Label")} >= {"red", "green"}
    corrected = submitted(tasks, {"red": "scarlet"})
    Path("corrected.json").write_text(json.dumps(corrected), encoding="utf-8")
    capsys.readouterr()
    done(dry, kept)
    assert "would change the labels of 1 segment: 1 label added, 0 removed" in capsys.readouterr().out
    done(back, kept)
    assert "changed the labels of 1 segment: 1 label added, 0 removed" in capsys.readouterr().out
    done(["label", "--list", "--json"], kept)
    assert json.loads(capsys.readouterr().out)["counts"] == {"green": 1, "red": 1, "scarlet": 1}


@pytest.mark.usefixtures("no_variables")
def test_the_commands_of_the_page_on_imports_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = over_one_index(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    export, label_studio, coco = commands("import.md")

    done(export, kept)
    Path("to-label/tasks.json").rename("corrected.json")
    done(label_studio, kept)
    done(["export", "--all", "--format", "coco", "--out", "to-coco"], kept)
    Path("to-coco/annotations.json").replace("corrected.json")
    done(coco, kept)
