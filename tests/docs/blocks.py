"""The pages of the documentation and their blocks of code."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.needs import ROOT

PAGES = sorted(
    path.relative_to(ROOT)
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").glob("*.md")]
)

_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- not run: (?P<reason>\S[^\n]*?) -->\n\s*)?"
    r"```(?P<language>[^\n]*)\n(?P<text>.*?)^ *```$",
    re.M | re.S,
)
_COMMENT = re.compile(r"\s+#\s.*$|^#.*$", re.M)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: Path from the root of the repository.
        line: Number of its first line.
        language: What stands after the backticks; empty for messages and other output.
        text: Its lines.
        reason: Why nothing runs it, from a comment directly above; None where something does.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each command of a shell, without comments, redirections and ``export``."""
        text = _COMMENT.sub("", self.text.replace("\\\n", " "))
        for line in filter(None, map(str.strip, text.splitlines())):
            for command in re.split(r" && | \| ", line):
                words = shlex.split(command)
                yield words[1:] if words[0] == "export" else words


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, from top to bottom."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("language")) + 1,
            found["language"].strip(),
            re.sub(f"^{found['indent']}", "", found["text"], flags=re.M),
            found["reason"],
        )
        for found in _BLOCK.finditer(text)
    ]


def commands_in_text(page: Path) -> list[str]:
    """Return what stands in backticks outside of blocks and begins with ``segdex``."""
    text = _BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return re.findall(r"`(segdex [^`]+)`", text)


def variables_and_words(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables at the start of a command, and the command."""
    count = next((n for n, word in enumerate(words) if not _VARIABLE.match(word)), len(words))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]
