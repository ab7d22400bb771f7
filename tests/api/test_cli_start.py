"""What the command line says of itself, and what it imports for that: nothing that works on pictures."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command, get_group
from typer.testing import CliRunner

from segdex import cli
from segdex.cli.commands import COMMANDS
from segdex.cli.help import DEFAULTS
from segdex.cli.main import build_app, run
from segdex_backends.models.catalog import CATALOG
from segdex_core.locations import index_location
from segdex_core.settings import Settings

HEAVY = (
    "PIL",
    "fastapi",
    "numpy",
    "onnxruntime",
    "pydantic_settings",
    "qdrant_client",
    "qdrant_edge",
    "scipy",
    "segdex.http",
    "segdex.wiring",
    "torch",
    "transformers",
)
NOT_FOR_HELP = (*HEAVY, "httpx", "pydantic", "rich")
PROGRAM = "from segdex.cli.main import main; main()"


def _paths(command: typer.core.TyperGroup, *before: str) -> Iterator[tuple[str, ...]]:
    for name, each in command.commands.items():
        yield (*before, name)
        if isinstance(each, typer.core.TyperGroup):
            yield from _paths(each, *before, name)


def _registered(module: str) -> typer.core.TyperGroup:
    app = typer.Typer()
    import_module(module).register(app)
    return get_group(app)


MODULES = sorted({listed.module for listed in COMMANDS.values()})
PATHS = [path for module in MODULES for path in _paths(_registered(module))]


def _imported(
    code: str, *arguments: str, names: tuple[str, ...], variables: Mapping[str, str] | None = None
) -> tuple[list[str], str]:
    """Return which modules a program has imported at its end, and what it printed before."""
    reports = "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules))))"
    done = subprocess.run(
        [sys.executable, "-c", f"{reports}\n{code}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **(variables or {})},
    )
    *printed, modules = done.stdout.splitlines()
    return sorted({*json.loads(modules)} & {*names}), "\n".join(printed)


def _help(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(build_app(), [*path, "--help"])
    assert result.exit_code == 0
    return " ".join(result.output.split())


def test_the_table_names_every_command_of_every_module() -> None:
    modules = {
        f"segdex.cli.{path.stem}"
        for path in Path(cli.__path__[0]).glob("*.py")
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "register"
            for node in ast.parse(path.read_text()).body
        )
    }

    assert set(MODULES) == modules
    assert {name: COMMANDS[name].module for name in COMMANDS} == {
        name: module for module in MODULES for name in _registered(module).commands
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_the_table_is_the_first_line_of_the_commands_own(name: str) -> None:
    own = _registered(COMMANDS[name].module).commands[name].help

    assert own is not None
    assert own.splitlines()[0] == COMMANDS[name].help


def test_the_help_lists_every_command_with_its_line_whole() -> None:
    shown = _help(())

    for name, listed in COMMANDS.items():
        assert f"{name} {listed.help}" in shown


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_the_help_of_a_command_shows_all_of_its_text(path: tuple[str, ...]) -> None:
    command: object = get_group(_app_of(path[0]))
    for name in path:
        assert isinstance(command, typer.core.TyperGroup)
        command = command.commands[name]
    assert isinstance(command, typer.core.TyperCommand | typer.core.TyperGroup)
    shown = _help(path)

    assert " ".join((command.help or "").split()) in shown
    assert "<bool>" not in shown
    assert "..." not in shown.partition("Commands:")[2]
    for param in command.params:
        text = getattr(param, "help", None)
        assert text, f"{path} {param.name}"
        assert " ".join(text.split()) in shown


def _app_of(name: str) -> typer.Typer:
    app = typer.Typer()
    import_module(COMMANDS[name].module).register(app)
    return app


OPTIONS_WITHOUT_DEFAULT = {
    *(
        "box",
        "compare",
        "explain",
        "from_file",
        "images",
        "limit",
        "mask",
        "max_area",
        "min_area",
        "min_score",
    ),
    *("out", "save", "since", "source", "text", "until", "url_prefix"),
}
"""Options with one value that do nothing without it; any other option says what happens without it."""


def _options(path: tuple[str, ...]) -> list[typer.core.TyperOption]:
    command = get_command(build_app())
    context: Any = typer.Context(command)
    for name in path:
        assert isinstance(command, typer.core.TyperGroup)
        _, found, _ = command.resolve_command(context, [name])
        assert isinstance(found, typer.core.TyperCommand | typer.core.TyperGroup)
        command = found
    return [each for each in command.params if isinstance(each, typer.core.TyperOption)]


@pytest.mark.parametrize("path", [(), *PATHS], ids=" ".join)
def test_every_option_shows_its_variable_and_its_default(path: tuple[str, ...]) -> None:
    shown = _help(path)
    for option in _options(path):
        if option.name in Settings.model_fields:
            default = DEFAULTS[option.name]
            note = f"[env: SEGDEX_{option.name.upper()}{f'; default: {default}' if default else ''}]"
        elif option.required:
            note = "[required]"
        elif option.show_default and not isinstance(option.show_default, bool):
            note = f"[default: {option.show_default}]"
        elif option.default is not None and not option.is_flag:
            note = f"[default: {option.default}]"
        elif option.secondary_opts:
            note = f"[default: {(option.opts if option.default else option.secondary_opts)[0].strip('-')}]"
        else:
            assert option.is_flag or option.multiple or option.name in OPTIONS_WITHOUT_DEFAULT, option.name
            note = ""
        assert f"{' '.join((option.help or '').split())} {note}".strip() in shown, option.name


def test_the_defaults_in_the_help_are_those_of_the_settings() -> None:
    of_options = {one.name for path in [(), *PATHS] for one in _options(path)} & {*Settings.model_fields}
    by_the_index = {"embedder", "profile", "segmenter"}  # in words

    assert {*DEFAULTS} == of_options
    for name, default in DEFAULTS.items():
        real = Settings.model_fields[name].default
        if name in by_the_index:
            assert real is None
            assert default is not None
        elif name == "index":
            assert index_location(str(default)) == real
        else:
            assert default == (None if real is None else str(real))


@pytest.mark.parametrize("columns", [20, 40, 59, 80, 200])
def test_no_line_of_a_help_is_wider_than_the_terminal_and_no_note_is_broken(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for path in [(), *PATHS]:
        text = CliRunner().invoke(build_app(), [*path, "--help"]).output
        names = [line for line in text.splitlines() if line.lstrip().startswith("-")]
        assert max(len(line) for line in text.splitlines() if line not in names) <= max(min(columns, 80), 32)
        assert max(map(len, names), default=0) <= 80
        assert not re.search(r"env:$", text, re.MULTILINE)
        assert "\N{NO-BREAK SPACE}" not in text


@pytest.mark.parametrize(
    ("option", "values"),
    [
        (("ingest", "--profile"), "default|offline"),
        (("ingest", "--device"), "auto|cpu|cuda"),
        (("ingest", "--quality"), "fast|balanced|best"),
        (("ingest", "--select"), "ranked|meta"),
        (("ingest", "--views"), "crops|pooled"),
        (("search", "--level"), "any|whole|part"),
        (("keys", "--role"), "read|write|admin"),
    ],
)
def test_options_with_fixed_values_name_and_complete_them(option: tuple[str, str], values: str) -> None:
    _, completed = _completed("segdex", *option, "")

    assert f"{option[1]} <{values}>" in _help(option[:1])
    assert completed.split() == values.split("|")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ingest", "--segmenter", ""), [one.name for one in CATALOG if one.role == "segmenter"]),
        (("search", "--embedder", "conse"), ["conse-efficientnet-lite2-minilm"]),
        (("models", "pull", "--refiner", ""), [one.name for one in CATALOG if one.role == "refiner"]),
        (("--profile", ""), ["default", "offline"]),
        (("--profile", "off"), ["offline"]),
        (("search", "--color", "bl"), ["black", "blue"]),
        (("search", "--min-score", ""), ["auto"]),
        (("search", "--view", "c"), ["crop="]),
        (("label", "--author", ""), ["model", "concept", "person"]),
        (("export", "--format", "par"), ["parquet"]),
        (("set", ""), ["list", "show", "create", "add", "remove", "rename", "delete"]),
    ],
)
def test_names_and_values_are_completed_without_anything_heavy(
    words: tuple[str, ...], offered: list[str]
) -> None:
    heavy, answer = _completed("segdex", *words)

    assert heavy == []
    assert answer.split() == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script_that_segdex_shows(tmp_path: Path) -> None:
    (tmp_path / "segdex").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m segdex.cli.main "$@"\n')
    (tmp_path / "segdex").chmod(0o755)
    script = """
set -e
eval "$(segdex --show-completion)"
COMP_WORDS=(segdex ingest --quality "") COMP_CWORD=3
_segdex_completion segdex
printf '%s\\n' "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.split() == ["fast", "balanced", "best"], done.stderr


def _completed(*words: str) -> tuple[list[str], str]:
    """Return the heavy modules of the completion of the last word, and its answer."""
    return _imported(
        PROGRAM,
        names=NOT_FOR_HELP,
        variables={
            "_SEGDEX_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        },
    )


@pytest.mark.parametrize("argument", ["--help", "-h", "--version", "-V"])
def test_help_and_version_import_nothing_heavy(argument: str) -> None:
    assert _imported(PROGRAM, argument, names=NOT_FOR_HELP)[0] == []


def test_the_help_of_a_command_imports_nothing_heavy() -> None:
    every = f"from segdex.cli.main import run\nfor path in {PATHS!r}: assert run([*path, '--help']) == 0"

    assert _imported(every, names=NOT_FOR_HELP)[0] == []


def test_the_completion_of_a_command_imports_none_but_that_command() -> None:
    heavy, answer = _completed("segdex", "se")

    assert heavy == []
    assert answer.split() == [name for name in COMMANDS if name.startswith("se")]
    assert _imported(PROGRAM, "--help", names=tuple(MODULES))[0] == []
    assert _imported(PROGRAM, "keys", "--help", names=tuple(MODULES))[0] == [COMMANDS["keys"].module]


def test_the_completion_of_an_option_imports_nothing_heavy() -> None:
    every = f"""
import os
from segdex.cli.main import main
os.environ["_SEGDEX_COMPLETE"] = "complete_bash"
for path in {PATHS!r}:
    os.environ["COMP_WORDS"] = " ".join(["segdex", *path, "--"])
    os.environ["COMP_CWORD"] = str(len(path) + 1)
    try:
        main()
    except SystemExit:
        pass
"""
    heavy, answers = _imported(every, names=NOT_FOR_HELP)

    assert heavy == []
    assert answers.split().count("--help") == len(PATHS)


@pytest.mark.parametrize(
    ("module", "not_imported"), [("segdex", NOT_FOR_HELP), ("segdex.client", (*HEAVY, "httpx", "rich"))]
)
def test_importing_a_package_imports_nothing_that_it_does_not_need_yet(
    module: str, not_imported: tuple[str, ...]
) -> None:
    assert _imported(f"import {module}", names=not_imported)[0] == []


@pytest.mark.parametrize(
    "arguments", [["--version"], ["-V"], ["--profile", "offline", "--version"], ["-V", "stats"]]
)
def test_the_version_needs_no_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0

    assert re.fullmatch(r"segdex \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("path", [(), ("jobs",), ("models",), ("eval",)])
def test_a_missing_command_gets_the_help_and_one_line(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(path) == 2
    captured = capsys.readouterr()

    assert " ".join(captured.out.split()) == _help(path)
    assert captured.err == f"segdex: say what to do: {' '.join(('segdex', *path))} --help\n"


def test_the_list_of_models_in_json_has_no_key_that_is_never_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list", "--json"]) == 0

    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [entry.name for entry in CATALOG]
    assert {key for row in rows for key in row} == {
        key for row in rows for key, value in row.items() if value is not None
    }


@pytest.mark.parametrize("columns", [80, 40])
def test_the_list_of_models_is_never_cut(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))

    assert run(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = set(" ".join(lines).replace(";", " ").split())
    for entry in CATALOG:
        assert {entry.name, entry.role, *(source.licence for source in entry.sources)} <= words
        assert f"  {entry.title}" in lines
    assert max(map(len, lines)) <= 80
