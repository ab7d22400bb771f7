"""The command line on one index of two pictures of coloured boxes, for tests of its verbs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.parts import parts

from segdex.cli.main import run
from segdex.parts import Parts
from segdex_backends.index.memory import MemoryIndex
from segdex_core.settings import Settings

Ask = Callable[..., Any]


@pytest.fixture(name="ask")
def asking(tmp_path: Path, no_variables: None, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs a command on the one index, and returns its JSON, or with ``text`` its lines.

    With the code of a failure, it returns the one line of the error.
    """
    fakes = parts(tmp_path / "set")
    index = fakes.open_index(Settings(), create=True)
    kept: Parts = replace(fakes, open_index=lambda *_, **__: index)

    def ask(*arguments: str, text: bool = False, code: int = 0) -> Any:
        assert run([*arguments, *([] if text else ["--json"])], parts=kept) == code
        printed = capsys.readouterr()
        if code:
            [line] = printed.err.splitlines()
            return line
        return printed.out if text else json.loads(printed.out)

    assert isinstance(index, MemoryIndex)  # closing it has no effect
    return ask
