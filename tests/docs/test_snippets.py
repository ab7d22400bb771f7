"""Every command and program of the documentation is run, or says why not.

A block is run with fakes in place of the models: programs as they stand, commands through the real command
line. Commands of ``PARSED`` are not carried out: the real parser takes their words. A block that nothing can
run here has a comment directly above it: ``<!-- not run: REASON -->``.
"""

import configparser
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from tests.docs.blocks import PAGES, Block, blocks_of, commands_in_text, variables_and_words
from tests.docs.desk import Desk
from tests.environment import no_variables
from tests.loopback import Serve, serve_here
from tests.needs import ROOT
from typer.core import TyperCommand
from typer.main import get_group

from segdex.cli.commands import COMMANDS, load_command
from segdex.cli.main import build_app, run
from segdex_core.settings import Settings

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

OUTPUT = ("", "text", "mermaid")
"""Languages of blocks that nobody runs: messages, output, formulas and diagrams."""

WHAT_TO_DO = (
    "{block}: no test runs a block in {language!r}: add a way to run it to tests/docs/test_snippets.py, "
    "or say why not in a comment directly above it: <!-- not run: REASON -->"
)

VARIABLES = {f"SEGDEX_{name.upper()}" for name in Settings.model_fields} | {"SEGDEX_LOG"}
OF_OTHERS = re.compile(r"OTEL_|HF_HOME|SEGDEX_SHARED")


@pytest.fixture(name="desk")
def _desk(tmp_path: Path, serve: Serve, no_variables: None, monkeypatch: pytest.MonkeyPatch) -> Desk:
    here = tmp_path / "desk"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
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
def test_every_option_of_a_command_in_the_text_exists(page: Path) -> None:
    unknown = {
        f"{text}: {option}"
        for text in commands_in_text(page)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)
        if " ... " not in text and option not in options_of(text)
    }

    assert unknown == set()


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


def options_of(text: str) -> set[str]:
    """Return the options that the command of a text has, with those of all commands."""
    app = get_group(build_app())
    context: Any = app.context_class(app, info_name="segdex")
    found: Any = app
    parameters = list(app.get_params(context))
    for word in text.split()[1:]:
        name = word.strip(",")
        if found is app and name in COMMANDS:
            found = load_command(name, context)
        elif name in getattr(found, "commands", {}) and found is not app:
            found = found.commands[name]
        else:
            continue
        parameters += found.get_params(context)
        parameters += [
            each for member in getattr(found, "commands", {}).values() for each in member.get_params(context)
        ]
    return {name for each in parameters for name in (*each.opts, *each.secondary_opts)}


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


def _ini(text: str) -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(text)


READ: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "yaml": yaml.safe_load,
    "toml": tomllib.loads,
    "ini": _ini,
}
"""Languages that are read by a parser alone."""
