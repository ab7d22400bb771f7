"""Words without quotes are one text where a command takes one, and one label each in ``label``."""

from typing import Annotated

import pytest
import typer
from tests.api.one_index import Ask, asking
from tests.environment import no_variables
from typer.testing import CliRunner

from segdex.cli.query_command import TextOptionCommand

__all__ = ["asking", "no_variables"]


def _app() -> typer.Typer:
    app = typer.Typer()

    @app.command(cls=TextOptionCommand)
    def command(
        file: str,
        text: Annotated[str | None, typer.Option("--text")] = None,
        box: Annotated[str | None, typer.Option("--box")] = None,
        as_json: Annotated[bool, typer.Option("--json")] = False,
    ) -> None:
        typer.echo("|".join((file, text or "", box or "", str(as_json))))

    return app


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("a.jpg --text red cup", "a.jpg|red cup||False"),
        ("a.jpg --text red cup --box 1,2,3,4", "a.jpg|red cup|1,2,3,4|False"),
        ("--text red cup --box 1,2,3,4 a.jpg", "a.jpg|red cup|1,2,3,4|False"),
        ("--box 1,2,3,4 --text red cup a.jpg", "a.jpg|red cup|1,2,3,4|False"),
        ("--json --text cup a.jpg", "a.jpg|cup||True"),
        ("--json a.jpg --text cup --json", "a.jpg|cup||True"),
        ("a.jpg", "a.jpg|||False"),
        ("a.jpg --text=cup", "a.jpg|cup||False"),
    ],
)
def test_words_after_text_are_one_text(line: str, printed: str) -> None:
    result = CliRunner().invoke(_app(), line.split())

    assert result.output.strip() == printed


@pytest.mark.parametrize("line", ["a.jpg --text", "--text cup", "--text", "a.jpg b.jpg --text cup"])
def test_what_is_missing_or_too_much_is_an_error(line: str) -> None:
    assert CliRunner().invoke(_app(), line.split()).exit_code == 2


def test_words_of_a_search_are_one_text_and_those_of_label_one_label_each(ask: Ask) -> None:
    assert ask("search", "a", "red", "box")["hits"] == ask("search", "a red box")["hits"]
    assert set(ask("label", "red", "green", "--dry-run", "--min-score", "0.01")["counts"]) <= {"red", "green"}
    [hit] = ask("search", "red", "--limit", "1", "--per-image", "1")["hits"]
    marked = ask("concept", "mark", "c", "--text", "red", "box", "--right", hit["segments"][0]["id"])
    assert marked["text"] == "red box"
