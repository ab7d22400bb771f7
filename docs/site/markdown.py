"""Markdown of generated pages: tables and texts in which nothing is markup by accident."""

import re
from collections.abc import Iterable, Sequence


def escaped(text: str) -> str:
    r"""Return text as one line of Markdown; what is in backticks stays as it is.

    Example:
        >>> escaped("a|b <c> `*`")
        'a\\|b &lt;c> `*`'
    """
    parts = re.split(r"(``.*?``|`[^`]*`)", " ".join(text.split()))
    plain = [re.sub(r"([*_\[\]\\$])", r"\\\1", part.replace("<", "&lt;")) for part in parts[::2]]
    code = parts[1::2]
    mixed = [
        piece for pair in zip(plain, [*code, ""], strict=True) for piece in pair
    ]  # text and code by turns
    return "".join(mixed).replace("|", "\\|")


def code(text: str) -> str:
    """Return text as inline code of a table cell; empty text stays empty."""
    return f"`{text}`".replace("|", "\\|") if text else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, whose cells are Markdown already, and an empty line."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    return [*lines, ""]
