"""The examples in the docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest
from tests.needs import ROOT

MODELS = Path("segdex_backends", "models")
EXAMPLES = [
    pytest.param(path, id=str(path), marks=pytest.mark.models if path.is_relative_to(MODELS) else ())
    for path in sorted(
        path.relative_to(ROOT if folder == "docs" else ROOT / folder)
        for folder in ("core", "backends", "ingest", "search", "api", "docs")
        for path in (ROOT / folder).rglob("*.py")
        if ">>> " in path.read_text()
    )
]


@pytest.mark.parametrize("path", EXAMPLES)
def test_the_examples_of_a_module_give_what_they_say(path: Path) -> None:
    module = importlib.import_module(".".join(path.with_suffix("").parts))

    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)

    assert result.attempted > 0
    assert result.failed == 0
