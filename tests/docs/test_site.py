"""The site builds without a network, and holds all that its pages load."""

import subprocess
import sys
from pathlib import Path

import pytest
from docs.site.checks import broken_links, external_links, foreign_files
from docs.site.staging import REFERENCE
from tests.needs import ROOT

WITHOUT_NETWORK = """
import sys

def refuse(event, _):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise OSError(f"no network: {event}")

sys.addaudithook(refuse)
from docs.site.build import main

sys.exit(main(sys.argv[1:]))
"""


def page(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"<html><body>{body}</body></html>")


def test_a_broken_link_a_missing_anchor_and_a_foreign_file_are_found(tmp_path: Path) -> None:
    page(tmp_path, "a.html", '<a href="b.html#there">1</a><a href="b.html#gone">2</a><a href="c.html">3</a>')
    page(tmp_path, "b.html", '<h1 id="there">b</h1><script src="https://cdn.example/x.js"></script>')
    (tmp_path / "style.css").write_text("@font-face { src: url(https://fonts.example/a.woff2) }")

    assert broken_links(tmp_path) == ["a.html: b.html#gone", "a.html: c.html"]
    assert foreign_files(tmp_path) == ["b.html: https://cdn.example/x.js", "style.css: url(http"]


def test_a_link_of_another_site_is_listed_and_not_followed(tmp_path: Path) -> None:
    page(tmp_path, "a.html", '<a href="https://elsewhere.example/">there</a>')

    assert broken_links(tmp_path) == foreign_files(tmp_path) == []
    assert external_links(tmp_path) == ["https://elsewhere.example/"]


@pytest.mark.slow
def test_the_site_builds_without_a_network_a_warning_or_a_broken_link(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "searchindex.js").is_file()
    written = {path.relative_to(tmp_path).with_suffix(".md").as_posix() for path in tmp_path.rglob("*.html")}
    assert {"docs/index.md", "deploy/README.md", *REFERENCE} <= written
    python = (tmp_path / "docs" / "reference" / "python.html").read_text()
    assert "Bring the index up to date with files" in python
