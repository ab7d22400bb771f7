"""The way to FiftyOne and back, as docs/fiftyone.md has it."""

import json
from pathlib import Path

import pytest
from tests.api.pages import commands, done, over_one_index, programs
from tests.environment import no_variables
from tests.readers.environments import FIFTYONE, run_in
from tests.readers.mongod import running_mongod

__all__ = ["no_variables"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_variables")
def test_the_programs_of_the_page_bring_corrected_labels_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = over_one_index(tmp_path / "set")
    desk = tmp_path / "desk"
    desk.mkdir()
    monkeypatch.chdir(desk)
    export, back = commands("fiftyone.md")
    done(["label", "red", "green", "--min-score", "0.5"], kept)

    done(export, kept)
    with running_mongod(tmp_path / "db") as address:
        for number, program in enumerate(programs("fiftyone.md")):
            script = tmp_path / f"program{number}.py"
            script.write_text(program, encoding="utf-8")
            printed = run_in(FIFTYONE, script, home=desk, FIFTYONE_DATABASE_URI=address)
            assert number or ("red" in printed and "green" in printed)
    capsys.readouterr()
    done([*back, "--overrule", "--json"], kept)
    report = json.loads(capsys.readouterr().out)
    assert report["matched"] == report["matched_by_id"] == report["annotations"]
    assert (report["segments_changed"], report["labels_added"], report["labels_removed"]) == (1, 1, 1)
    done(["label", "--list", "--json"], kept)
    assert json.loads(capsys.readouterr().out)["counts"] == {"green": 1, "scarlet": 1}
