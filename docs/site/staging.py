"""The pages as Sphinx takes them: those of the repository, the generated ones, and the order of both."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from docs.site.flowcharts import flowchart_as_text
from docs.site.reference_cli import cli_page
from docs.site.reference_http import http_page
from docs.site.reference_python import python_page
from docs.site.reference_settings import settings_page

ROOT = Path(__file__).parents[2]
INDEX = "docs/index.md"
OPENAPI = "tests/api/http/openapi.json"
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
"""A link or picture of Markdown that leads to a file."""

CLI, PYTHON, HTTP, SETTINGS = (f"docs/reference/{name}.md" for name in ("cli", "python", "http", "settings"))
REFERENCE = {CLI: "Command line", PYTHON: "Python", HTTP: "HTTP", SETTINGS: "Settings"}
"""Titles of pages that no file of the repository holds; they come first in the section of this name."""


@dataclass(frozen=True)
class Section:
    """A part of the navigation, as a heading of ``docs/index.md`` names it.

    Attributes:
        title: The heading.
        pages: Short titles of pages by their paths from the root of the repository, in order.
    """

    title: str
    pages: Mapping[str, str]


def stage(folder: Path) -> None:
    """Write all pages and the files that they show into an empty folder.

    Raises:
        FileNotFoundError: A page is listed or a file is linked that does not exist.
    """
    index = (ROOT / INDEX).read_text(encoding="utf-8")
    sections = navigation(index)
    titles = {page: title for section in sections for page, title in section.pages.items()}
    pages = list(titles)
    for page in pages:
        _put(folder / page, _for_the_site(page, titles))
    for page, text in generated_pages().items():
        _put(folder / page, text)
    for name in linked_files([INDEX, *pages]) - {INDEX, *pages}:
        if name.endswith(".md"):  # a table of measurements: it is linked, and not in the navigation
            _put(folder / name, f"---\norphan: true\n---\n\n{_for_the_site(name, titles)}")
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    _put(folder / INDEX, index + "\n".join(_toctrees(sections)))


def navigation(index: str) -> list[Section]:
    r"""Return the sections of the text of ``docs/index.md``: its headings, and the pages that each one lists.

    Example:
        >>> navigation("# A\n## Start\n- [Install](install.md): how\n")
        [Section(title='Start', pages={'docs/install.md': 'Install'})]
    """
    return [
        Section(
            title.strip(),
            {
                _from_root(INDEX, target): name
                for name, target in re.findall(r"^- \[([^]]+)\]\(([^)#]+\.md)\)", body, re.M)
            },
        )
        for title, body in re.findall(r"^## (.*)\n((?:(?!## ).*\n?)*)", index, re.M)
    ]


def generated_pages() -> Mapping[str, str]:
    """Return the text of each page of ``REFERENCE`` by its path."""
    document = json.loads((ROOT / OPENAPI).read_text(encoding="utf-8"))
    return {CLI: cli_page(), PYTHON: python_page(), HTTP: http_page(document), SETTINGS: settings_page()}


def read_page(page: str) -> str:
    """Return the text of a page, by its path from the root of the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def linked_files(pages: list[str]) -> set[str]:
    """Return the files that pages link, and those that linked pages outside of ``pages`` link in turn."""
    found: set[str] = set()
    waiting = list(pages)
    while waiting:
        page = waiting.pop()
        targets = {_from_root(page, target) for target, _ in LINK.findall(_without_code(read_page(page)))}
        targets -= {*REFERENCE, *found}
        for target in sorted(targets):
            if not (ROOT / target).is_file():
                raise FileNotFoundError(f"{page} links {target}, which is no file of the repository")
        found |= targets
        waiting += [target for target in targets if target.endswith(".md") and target not in pages]
    return found


def _from_root(page: str, target: str) -> str:
    return (ROOT / page).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()


def _for_the_site(page: str, titles: Mapping[str, str]) -> str:
    """Return a page for Sphinx: links show titles in place of file names, and diagrams are text."""

    def titled(link: re.Match[str]) -> str:
        title = titles.get(_from_root(page, link[2]))
        return link[0] if title is None else f"[{title}]({link[2]}{link[3] or ''})"

    text = re.sub(r"\[([\w./-]+\.md)\]\(([\w./-]+\.md)(#[\w-]+)?\)", titled, read_page(page))
    return re.sub(
        r"^```mermaid\n(.*?)^```$",
        lambda found: f"```text\n{flowchart_as_text(found[1])}\n```",
        text,
        flags=re.M | re.S,
    )


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def _toctrees(sections: list[Section]) -> Iterator[str]:
    for section in sections:
        generated = REFERENCE if section.title == "Reference" else {}
        titles = {**generated, **section.pages}
        names = [f"{title} </{page.removesuffix('.md')}>" for page, title in titles.items()]
        yield from ("", "```{toctree}", ":hidden:", f":caption: {section.title}", "", *names, "```", "")


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
