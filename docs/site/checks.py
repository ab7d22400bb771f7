"""What a built site must hold: links that lead somewhere, and nothing that another host serves."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""Elements for which a browser fetches something without a click, and the attribute that says what."""

_NOT_FETCHED = {"canonical", "search", "index", "next", "prev", "up", "author"}
"""Kinds of ``link`` that name a page and load nothing."""


class _Page(HTMLParser):
    """The anchors, links and fetched files of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if LOADING.get(tag) in values and values.get("rel") not in _NOT_FETCHED:
            self.loaded.append(values[LOADING[tag]])


def broken_links(site: Path) -> list[str]:
    """Return each link of a site to a page, file or anchor of its own that is not there."""
    pages = _pages(site)
    return sorted(
        f"{path.relative_to(site)}: {link}"
        for path, page in pages.items()
        for link in [*page.links, *page.loaded]
        if not urlsplit(link).scheme and not _leads_somewhere(link, path, pages)
    )


def external_links(site: Path) -> list[str]:
    """Return the addresses of other hosts that a reader may follow; nobody fetches them here."""
    return sorted({link for page in _pages(site).values() for link in page.links if urlsplit(link).scheme})


def foreign_files(site: Path) -> list[str]:
    """Return what pages and style sheets of a site load from other hosts."""
    in_pages = (
        f"{path.relative_to(site)}: {link}"
        for path, page in _pages(site).items()
        for link in page.loaded
        if urlsplit(link).netloc
    )
    return sorted([*in_pages, *_foreign_in_sheets(site)])


def _foreign_in_sheets(site: Path) -> Iterator[str]:
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        for rule in ("url(http", "url(//", 'url("http', "url('http", "@import 'http", '@import "http'):
            if rule in text:
                yield f"{sheet.relative_to(site)}: {rule}"


def _pages(site: Path) -> dict[Path, _Page]:
    """Return the pages of a site; below ``_static`` a theme keeps templates, which nobody is led to."""
    paths = (path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts)
    return {path: _Page(path.read_text(encoding="utf-8")) for path in paths}


def _leads_somewhere(link: str, path: Path, pages: dict[Path, _Page]) -> bool:
    parts = urlsplit(link)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return False
    anchor = unquote(parts.fragment)
    return not anchor or target not in pages or anchor in pages[target].anchors
