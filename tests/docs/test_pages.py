"""The pages on a code host: all are listed, links lead somewhere, and what is generated is up to date."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from docs.images.hero import EXPECTED
from docs.site import costs
from docs.site.reference_cli import cli_page
from docs.site.staging import (
    CLI,
    HTTP,
    INDEX,
    OPENAPI,
    PYTHON,
    REFERENCE,
    SETTINGS,
    generated_pages,
    navigation,
    read_page,
)
from tests.docs.blocks import PAGES
from tests.needs import ROOT

from segdex.cli.commands import COMMANDS
from segdex_core.settings import Settings

LONGEST_README = 119
ALL = [*PAGES, Path("CONTRIBUTING.md"), Path("CHANGELOG.md")]

_CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]*`", re.M | re.S)
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.M)


def test_every_page_is_in_the_navigation_once() -> None:
    """A new page needs a line in docs/index.md, below the heading of its section."""
    listed = Counter(page for section in navigation(read_page(INDEX)) for page in section.pages)
    written = {page.as_posix() for page in PAGES if page.parts[0] in ("docs", "deploy")} - {INDEX}

    assert written - set(listed) == set()
    assert [page for page, count in listed.items() if count > 1 or not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("page", ALL, ids=str)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """To a file, or to a heading by the name that a code host gives it."""
    broken = []
    for link in _LINK.findall(_CODE.sub("", read_page(str(page)))):
        target, _, anchor = link.partition("#")
        path = (ROOT / page).parent / target if target else ROOT / page
        if not path.is_file() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(link)

    assert broken == []


def test_every_command_has_a_line_in_the_list_of_commands() -> None:
    page = read_page("docs/commands.md")

    assert [name for name in COMMANDS if not re.search(rf"^\|.*`segdex {name}\b", page, re.M)] == []


def test_every_setting_and_every_path_in_the_text_exists() -> None:
    settings = {f"SEGDEX_{name.upper()}" for name in Settings.model_fields} | {"SEGDEX_LOG"}
    document = json.loads(read_page(OPENAPI))
    paths = {without_names(path) for path in document["paths"]} | {"/v1/openapi.json"}
    texts = {page: read_page(str(page)) for page in PAGES}

    assert [
        (str(page), name)
        for page, text in texts.items()
        for name in re.findall(r"SEGDEX_[A-Z_]*[A-Z]", text)
        if name not in settings
    ] == []
    assert [
        (str(page), path)
        for page, text in texts.items()
        for path in re.findall(r"(?<![\w.])/v1/[\w/{}.-]*[\w}]", text)
        if without_names(path) not in paths
    ] == []


def test_the_readme_is_short_and_shows_the_best_hits() -> None:
    readme = read_page("README.md")

    assert len(readme.splitlines()) <= LONGEST_README
    assert "](docs/images/hero.png)" in readme
    assert (
        f"these {['no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight'][len(EXPECTED)]} texts"
        in readme
    )


def test_the_tables_of_the_costs_are_those_of_the_data() -> None:
    """``python -m docs.site.costs`` writes them."""
    page = read_page("docs/costs.md")

    assert costs.with_tables(page) == page
    assert (
        "| offline profile | `balanced` | 12.5 | 190 | 350 | 17 |" in page
    )  # 12.54 s x 100,000 / 3600 x 0.05


def test_the_generated_pages_have_all_and_are_the_same_each_time() -> None:
    pages = generated_pages()

    assert set(pages) == set(REFERENCE)
    assert pages == generated_pages()
    assert [name for name in COMMANDS if f"## segdex {name}\n" not in pages[CLI]] == []
    settings = pages[SETTINGS]
    assert [name for name in Settings.model_fields if f"`SEGDEX_{name.upper()}`" not in settings] == []
    assert "### `POST /v1/search`" in pages[HTTP]
    paths = json.loads(read_page(OPENAPI))["paths"]
    assert pages[HTTP].count("\n### `") == sum(len(methods) for methods in paths.values())
    assert ".. autoclass:: segdex.Library" in pages[PYTHON]


def test_the_reference_of_the_command_line_has_variables_and_defaults() -> None:
    lines = cli_page().splitlines()

    assert any("`--limit <int>`" in line and "Default: `10`" in line for line in lines)
    assert any("`--index LOCATION`" in line and "Variable: `SEGDEX_INDEX`" in line for line in lines)


def without_names(path: str) -> str:
    """Return a path of the API without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a page, as code hosts make them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(
        re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    ):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return found
