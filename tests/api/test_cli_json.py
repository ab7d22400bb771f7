"""``--json`` prints the record that the service answers, and ``--json-lines`` a record a line."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from rich.console import Console
from rich.progress import Progress
from tests.api.one_index import Ask, asking
from tests.api.test_cli_start import PATHS, _options
from tests.conftest import Tried
from tests.environment import no_variables
from tests.fakes.dataset import png

from segdex.cli.lines import print_line
from segdex.cli.main import run
from segdex_core.wire.concepts import ConceptDetails, ConceptOut, ConceptsOut
from segdex_core.wire.doctor import Examined
from segdex_core.wire.export import Exported
from segdex_core.wire.images import BackedUp, Deleted, ImageOut, IngestedFile, IngestReportOut, Stats, Synced
from segdex_core.wire.imports import ImportReport
from segdex_core.wire.labels import LabelCounts, LabelReport, LabelsCleared
from segdex_core.wire.search import RefinementOut, RefinementsOut, SearchResponse
from segdex_core.wire.segments import MasksOut, SegmentOut
from segdex_core.wire.sets import SetChanged, SetDetails, SetOut, SetsOut

__all__ = ["asking", "no_variables"]

ELSEWHERE = {
    "calibrate": "figures of an evaluation, which no service makes",
    "eval masks": "figures of an evaluation",
    "eval prompts": "figures of an evaluation",
    "eval refine": "figures of an evaluation",
    "eval search": "figures of an evaluation",
    "jobs add": "tests/client/test_cli_server.py has a service",
    "jobs list": "tests/client/test_cli_server.py has a service",
    "jobs stop": "tests/client/test_cli_server.py has a service",
    "jobs watch": "tests/client/test_cli_server.py has a service",
    "models list": "the catalog of this machine, which no service answers",
    "reembed": "tests/api/test_cli_reembed.py has an index on disk",
    "restore": "tests/api/test_cli_backup.py has an index on disk",
}
"""Commands with --json that this file does not run."""


def _is(model: type[BaseModel], document: object) -> bool:
    """Return whether a document is a record of the wire: nothing is missing, and nothing added."""
    return model.model_validate(document).model_dump(mode="json") == document


@pytest.mark.promise("Search", "--json prints the very record that the HTTP API answers.")
def test_the_json_of_every_verb_is_the_record_of_the_service(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Tried
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.png").write_bytes(png("red"))
    with_json = {" ".join(path) for path in PATHS if any(one.name == "as_json" for one in _options(path))}
    [hit] = ask("search", "red", "--limit", "1", "--per-image", "1")["hits"]
    segment, image = hit["segments"][0]["id"], hit["image"]["id"]
    verbs: list[tuple[type[BaseModel], list[str]]] = [
        (SearchResponse, ["search", "red"]),
        (SearchResponse, ["search", "nothing of it", "--color", "pink"]),
        (Stats, ["stats"]),
        (MasksOut, ["segment", "p.png", "--point", "40,40"]),
        (LabelReport, ["label", "red", "green"]),
        (LabelCounts, ["label", "--list"]),
        (LabelsCleared, ["label", "--clear"]),
        (SetOut, ["set", "create", "other"]),
        (SetChanged, ["set", "add", "mine", segment, image]),
        (SetsOut, ["set", "list"]),
        (SetDetails, ["set", "show", "mine"]),
        (SetChanged, ["set", "remove", "mine", segment]),
        (SetOut, ["set", "rename", "mine", "yours"]),
        (SetOut, ["set", "delete", "yours"]),
        (ConceptOut, ["concept", "mark", "c", "--text", "red", "--right", segment]),
        (ConceptsOut, ["concept", "list"]),
        (ConceptDetails, ["concept", "show", "c"]),
        (ConceptOut, ["concept", "rename", "c", "d"]),
        (ConceptOut, ["concept", "delete", "d"]),
        (Examined, ["doctor"]),
        (IngestReportOut, ["ingest", "p.png", "--dry-run"]),
        (IngestReportOut, ["ingest", "p.png"]),
        (BackedUp, ["export", "--out", "backup"]),
        (Exported, ["export", "--all", "--format", "coco", "--out", "coco.json"]),
        (ImportReport, ["import", "coco.json", "--format", "coco"]),
        (Synced, ["sync", "--dry-run"]),
        (Deleted, ["delete", image]),
    ]
    asked = {"show"}
    shown = ask("show", segment, "--out", "files")
    assert set(shown) == {"segment", "image", "files", "file_uris"}
    assert _is(SegmentOut, shown["segment"])
    assert _is(ImageOut, shown["image"])

    for model, arguments in verbs:
        assert _is(model, ask(*arguments)), arguments
        asked.add(next(path for path in sorted(with_json) if " ".join(arguments).startswith(path)))

    assert with_json - asked == {*ELSEWHERE}
    tried(len(verbs) + 1, "verbs")


def test_a_refined_search_has_the_records_of_both_routes(ask: Ask) -> None:
    found = ask("search", "red", "--refine", "2")
    refinements = found.pop("refinements")

    assert _is(SearchResponse, found)
    assert _is(RefinementsOut, {"schema_version": 1, "refinements": refinements})
    assert len(refinements) == 2


def _lines(ask: Ask, *arguments: str) -> list[Any]:
    return [json.loads(line) for line in ask(*arguments, "--json-lines", text=True).splitlines()]


def test_a_refined_search_streams_its_answer_and_then_each_mask(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer, *refinements = _lines(ask, "search", "red", "--refine", "2")

    assert _is(SearchResponse, answer)
    assert [_is(RefinementOut, one) for one in refinements] == [True, True]
    [answer] = _lines(ask, "search", "red", "--save", "hits.png")
    assert _is(SearchResponse, answer)


def test_an_ingest_streams_each_file_and_ends_with_its_report(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a.png", "夏\N{LINE SEPARATOR}b.png"]
    for name in names:
        Path(name).write_bytes(png("orange" if name == "a.png" else "red"))
    *files, report = _lines(ask, "ingest", *names)

    assert [_is(IngestedFile, one) for one in files] == [True, True]
    assert _is(IngestReportOut, report)
    assert sorted(one["path"] for one in files) == sorted(one["path"] for one in report["files"])
    assert sum(report["outcomes"].values()) == 2


@pytest.mark.parametrize("arguments", [["search", "red"], ["ingest", "."], ["jobs", "watch", "x"]])
def test_there_is_one_form_of_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*arguments, "--json", "--json-lines"]) == 2
    assert "--json and --json-lines cannot go together" in capsys.readouterr().err


def test_a_line_goes_to_standard_output_while_a_bar_is_shown_at_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal = io.StringIO()
    with Progress(console=Console(file=terminal, force_terminal=True)) as bar:
        bar.add_task("files", total=2)
        assert hasattr(sys.stdout, "rich_proxied_file")
        print_line(
            IngestedFile(uri="file:///a", path="/a", outcome="added", detail="", image_id=None, segments=0)
        )

    assert json.loads(capsys.readouterr().out)["uri"] == "file:///a"
    assert "file:///a" not in terminal.getvalue()
