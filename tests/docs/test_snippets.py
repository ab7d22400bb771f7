"""Every command and program of the documentation is run, or says why not.

A block is run with fakes in place of the models: programs as they stand, commands through the real command
line. Commands of ``PARSED`` are not carried out: the real parser takes their words. A block that nothing can
run here has a comment directly above it: ``<!-- not run: REASON -->``.
"""

import ast
import configparser
import errno
import json
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from pydantic import BaseModel
from tests.docs.blocks import PAGES, Block, blocks_of, commands_in_text, variables_and_words
from tests.docs.desk import Desk
from tests.environment import no_variables
from tests.loopback import Serve, serve_here
from tests.needs import ROOT
from typer.core import TyperCommand
from typer.exceptions import TyperException

from segdex.cli.commands import COMMANDS
from segdex.cli.common import Session
from segdex.cli.main import build_app, run, with_refine_default
from segdex_core.errors import SegdexError
from segdex_core.settings import Settings
from segdex_core.wire.images import Stats
from segdex_core.wire.search import RefinementsOut, SearchResponse
from segdex_core.wire.segments import MasksOut

__all__ = ["no_variables", "serve_here"]

ELSEWHERE = {
    Path("docs/recipes.md"): "tests/e2e/test_recipes.py runs the programs on photographs",
}
"""Pages whose programs another test runs."""

PARSED = {
    "serve": "it serves until it is stopped",
    "worker": "it works until it is stopped",
    "demo": "it loads real models",
    "models": "it downloads models",
    "reembed": "it loads another embedder",
    "eval": "it needs labeled pictures and real models",
    "calibrate": "it needs labeled pictures",
    "doctor": "it needs an index on a disk",
}
"""Commands that are not carried out, and why; their options are still those of the real parser."""

VALUE = "\0"
"""What stands for a value in a text of the code."""

OUTPUT = ("", "text", "mermaid")
"""Languages of blocks that nobody runs: messages, output, formulas and diagrams."""

WHAT_TO_DO = (
    "{block}: no test runs a block in {language!r}: add a way to run it to tests/docs/test_snippets.py, "
    "or say why not in a comment directly above it: <!-- not run: REASON -->"
)

VARIABLES = {f"SEGDEX_{name.upper()}" for name in Settings.model_fields} | {"SEGDEX_LOG"}
OF_OTHERS = re.compile(r"OTEL_|HF_HOME|SEGDEX_SHARED")


@pytest.fixture(name="here", autouse=True)
def _here(tmp_path: Path, no_variables: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the working folder and the home of the user: no snippet changes that of the tester."""
    here = tmp_path / "desk"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    return here


@pytest.fixture(name="desk")
def _desk(here: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(here, lambda: serve(job_roots=(here,)))
    desk.write_files()
    desk.replace_openings(monkeypatch)
    return desk


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=str)
def test_every_block_of_a_page_runs_or_says_why_not(
    page: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From top to bottom in one folder, as a reader would run them."""
    names: dict[str, Any] = {"__name__": "snippet"}
    for block in blocks_of(page):
        if block.reason is not None or block.language in OUTPUT:
            continue
        if block.language == "python":
            if page not in ELSEWHERE:
                run_program(block, desk, names)
        elif block.language in ("bash", "sh"):
            for words in block.commands():
                run_command(block, words, desk, monkeypatch)
                assert "Traceback" not in capsys.readouterr().err
        else:
            assert block.language in READ, WHAT_TO_DO.format(block=block, language=block.language)
            READ[block.language](block.text)


def test_a_reason_is_a_reason() -> None:
    given = [block for page in PAGES for block in blocks_of(page) if block.reason is not None]

    assert [str(block) for block in given if len((block.reason or "").split()) < 3] == []
    assert [str(block) for block in given if block.language in OUTPUT] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_in_the_text_is_one(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real parser takes it; a command that is only mentioned may lack its arguments."""
    monkeypatch.setattr(TyperCommand, "invoke", lambda *_: 0)
    commands = [
        text for text in commands_in_text(page) if not re.search(r"^segdex \.\.\.|-completion\b", text)
    ]
    refused = [f"{text}: {fault}" for text in commands if (fault := fault_of(text))]

    assert refused == []


def test_every_message_of_the_troubleshooting_is_one_of_the_code() -> None:
    """Three plain words that follow each other in a message follow each other in a text of the code."""
    known = {
        three
        for text in texts_of_the_code()
        for three in threes([word.strip(",;:.()") for word in text.split()])
    }
    gone = [
        f"{block}: {' '.join(words)}"
        for block in blocks_of(Path("docs/troubleshooting.md"))
        for line in block.text.splitlines()
        for words in threes(line.split())
        if all(word.isalpha() and word.islower() for word in words) and not known & spellings(words)
    ]

    assert gone == []


def run_program(block: Block, desk: Desk, names: dict[str, Any]) -> None:
    if "library" not in names and re.search(r"^(?!with).*\blibrary\.", block.text):
        names["library"] = desk.library()  # an excerpt, in which a library is open already
    try:
        desk.python(block.text, names)
    except Exception as error:
        raise AssertionError(f"{block}: the program failed: {type(error).__name__}: {error}") from error


def run_command(block: Block, words: list[str], desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, words = variables_and_words(words)
    for name, value in variables.items():
        assert name in VARIABLES or OF_OTHERS.match(name), f"{block}: there is no setting {name}"
        if words == []:  # later commands see it
            monkeypatch.setenv(name, desk.service.url if name == "SEGDEX_SERVER" else value)
    if not words:
        return
    program = words[0].rpartition("/")[2]
    if program == "segdex":
        done = parsed(words[1:], monkeypatch) if verb_of(words) in PARSED else desk.command(words[1:])
        assert done == 0, f"{block}: exit code {done}: {' '.join(words)}"
    else:
        assert program in PROGRAMS, WHAT_TO_DO.format(block=block, language=f"{block.language}: {program}")
        PROGRAMS[program](words[1:], desk)


def verb_of(words: list[str]) -> str:
    """Return the name of the command of segdex among words; empty for ``segdex --version``."""
    return next((word for word in words[1:] if word in COMMANDS), "")


def parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the exit code of a command whose words are parsed and that does nothing."""
    with monkeypatch.context() as nothing_done:
        nothing_done.setattr(TyperCommand, "invoke", lambda *_: 0)
        return run(words)


def fault_of(text: str) -> str | None:
    """Return what the parser refuses of a command in a text; None where it takes it, or where it is a form.

    ``NAME...`` and ``[NAME]`` are arguments, ``a|b`` is a choice, and a word in capitals stands for a value.
    """
    words = shlex.split(re.sub(r"\.\.\.|[\[\]]", "", text))[1:]
    chosen = [word.partition("|")[0] for word in words]
    try:
        build_app()(
            args=with_refine_default(chosen), prog_name="segdex", standalone_mode=False, obj=Session()
        )
    except (TyperException, SegdexError) as error:
        mentioned = re.search("Missing (argument|option|parameter)|requires an argument", str(error))
        stands_for_a_value = any(word.isupper() and len(word) > 2 for word in words)
        return None if mentioned or stands_for_a_value else str(error)
    return None


def threes(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield each three words that follow each other."""
    return zip(words, words[1:], words[2:], strict=False)


def spellings(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return three words as they stand, and with a mark in place of each one of them."""
    return {words} | {(*words[:n], VALUE, *words[n + 1 :]) for n in range(len(words))}


def texts_of_the_code() -> Iterator[str]:
    """Yield the texts of the packages, with a mark in place of each value, and those of system errors."""
    yield from map(os.strerror, errno.errorcode)
    for root in ("core", "backends", "ingest", "search", "api"):
        for path in sorted((ROOT / root).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    said = "".join(
                        str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values
                    )
                    yield " ".join(said.split())
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield " ".join(node.value.split())


def _pip(words: list[str], _: Desk) -> None:
    """The extras that it names exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in [word for word in words if "segdex" in word or word.startswith(".")]:
        wanted = Requirement(re.sub(r"^\.|^segdex-[^\[]*\.whl", "segdex", word))
        assert wanted.extras <= set(project["optional-dependencies"]), word
    assert words[0] == "install"


def _make(words: list[str], _: Desk) -> None:
    """The targets that it names exist."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))
    assert {word for word in words if "=" not in word} <= targets


def _curl(words: list[str], desk: Desk) -> None:
    answer = desk.curl(words)
    assert answer.is_success, answer.text


PROGRAMS: dict[str, Callable[[list[str], Desk], None]] = {"pip": _pip, "make": _make, "curl": _curl}


def _json(text: str) -> None:
    """An answer of segdex is one by its model; other documents are JSON."""
    value = json.loads(text)
    if isinstance(value, dict) and "schema_version" in value:
        model = next(model for name, model in ANSWERS.items() if name in value)
        model.model_validate(value)


ANSWERS: dict[str, type[BaseModel]] = {
    "hits": SearchResponse,
    "refinements": RefinementsOut,
    "masks": MasksOut,
    "index_schema_version": Stats,
}
"""Records of whole answers by a field that they alone have."""


def _ini(text: str) -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(text)


READ: dict[str, Callable[[str], object]] = {
    "json": _json,
    "jsonl": lambda text: [json.loads(line) for line in text.splitlines()],
    "yaml": yaml.safe_load,
    "toml": tomllib.loads,
    "ini": _ini,
}
"""Languages that are read by a parser alone."""
