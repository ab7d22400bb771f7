"""Lines of text in every script, from fonts that are part of the package: no character becomes a box."""

import json
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import ImageDraw, ImageFont, features

from segdex.render.bidi import drawn_backwards, levels_of, visual_order
from segdex_core.wording import printable

FONTS = Path(__file__).with_name("fonts")
_MAX_CLUSTERS = 400  # a longer text is shortened before it is fitted, which would be slow
_ASCENT = 1.07  # of Noto Sans, in units of the size
_PLAIN = frozenset(
    {
        "NotoSans.ttf",
        "NotoSansArmenian.ttf",
        "NotoSansGeorgian.ttf",
        "DroidSansHan.ttf",
        "DroidSansHangul.ttf",
    }
)
"""Fonts of characters side by side. Raqm places these between pixels, where small text looks uneven."""
_JOINER = "\N{ZERO WIDTH JOINER}"


@dataclass(frozen=True, slots=True)
class Run:
    """Characters of a line that are drawn with one font in one direction.

    Attributes:
        text: Characters in the order in which they are read.
        font: File of the font.
        is_rtl: Whether they run from right to left.
    """

    text: str
    font: str
    is_rtl: bool


class Typesetter:
    """Measures and draws lines.

    Args:
        shapes: Whether Pillow joins and orders letters itself, with Raqm and FriBiDi; without them Arabic and
            Hebrew are joined and ordered here, and scripts of India are drawn letter by letter. None for what
            is installed.
    """

    def __init__(self, *, shapes: bool | None = None) -> None:
        self._shapes = bool(features.check("raqm")) if shapes is None else shapes

    def width_px(self, text: str, size_px: int, *, is_ltr: bool = False) -> float:
        """Return the width of a line."""
        given = (self.how(run, size_px) for run in self.runs(text, is_ltr=is_ltr))
        return sum(font.getlength(shown, direction=direction) for shown, font, direction in given)

    def draw(
        self,
        pen: ImageDraw.ImageDraw,
        text: str,
        *,
        xy: tuple[float, float],
        size_px: int,
        fill: tuple[int, int, int],
        is_ltr: bool = False,
    ) -> None:
        """Draw a line; ``xy`` is its left upper corner."""
        x, y = xy[0], xy[1] + round(_ASCENT * size_px)
        for run in self.runs(text, is_ltr=is_ltr):
            shown, font, direction = self.how(run, size_px)
            pen.text((x, y), shown, fill=fill, anchor="ls", font=font, direction=direction)
            x += font.getlength(shown, direction=direction)

    def fitted(self, text: str, *, size_px: int, width_px: int, is_ltr: bool = False) -> str:
        """Return a line that fits: a longer one loses its middle, so that the end of a name is seen."""
        clusters = list(clusters_of(text))
        if len(clusters) <= _MAX_CLUSTERS and self.width_px(text, size_px, is_ltr=is_ltr) <= width_px:
            return text
        low, high = 0, min(len(clusters), _MAX_CLUSTERS) - 1
        while low < high:  # the largest number of clusters that fits
            kept = (low + high + 1) // 2
            if self.width_px(_shortened(clusters, kept), size_px, is_ltr=is_ltr) <= width_px:
                low = kept
            else:
                high = kept - 1
        return _shortened(clusters, low)

    def runs(self, text: str, *, is_ltr: bool = False) -> list[Run]:
        """Return the runs of a line from left to right.

        Args:
            text: One line.
            is_ltr: Whether the line runs from left to right whatever its first letter is.
        """
        shown = "".join(c for c in readable(text) if not _is_skin(c))  # the font of emoji has one colour
        fonts, levels = _fonts_of(shown), levels_of(shown, is_ltr=is_ltr)
        runs: list[Run] = []
        at: list[int] = []
        for position in visual_order(levels):
            if at and (levels[position], fonts[position]) != (levels[at[-1]], fonts[at[-1]]):
                runs.append(_run(shown, at, fonts[at[0]], levels[at[0]]))
                at = []
            at.append(position)
        return [*runs, _run(shown, at, fonts[at[0]], levels[at[0]])] if at else runs

    def how(self, run: Run, size_px: int) -> tuple[str, ImageFont.FreeTypeFont, Literal["rtl", "ltr"] | None]:
        """Return what Pillow gets of a run: its text, the font, and the direction if Pillow orders it."""
        is_plain = run.font in _PLAIN and not run.is_rtl and not any(map(_belongs, run.text))
        if self._shapes and not is_plain:
            return run.text, _font(run.font, size_px, shapes=True), "rtl" if run.is_rtl else "ltr"
        shown = drawn_backwards(run.text) if run.is_rtl else run.text
        return "".join(c for c in shown if not _is_ignorable(c)), _font(run.font, size_px, shapes=False), None


def readable(text: str) -> str:
    r"""Return a line in which each character has a glyph.

    A character that no font has is written as the letters that it stands for, if any, or as its number.

    Example:
        >>> readable("\U0001d41c\U0001d41at \U00012000")
        'cat \\U00012000'
    """
    return "".join(_drawable(character) for character in printable(text))


def clusters_of(text: str) -> Iterator[str]:
    """Yield the characters of a text with the marks and joined characters that belong to them."""
    cluster = ""
    for character in text:
        if cluster and not (_belongs(character) or cluster.endswith(_JOINER)):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def font_of(character: str) -> str | None:
    """Return the file of the first font that has a character; None if no font has it."""
    return next((name for name in coverage() if _has(name, character)), None)


def _drawable(character: str) -> str:
    if _is_ignorable(character) or font_of(character) is not None:
        return character
    plain = unicodedata.normalize("NFKD", character)
    if plain != character and all(font_of(one) is not None for one in plain):
        return plain
    return character.encode("ascii", "backslashreplace").decode()


def _fonts_of(text: str) -> list[str]:
    """Return a font for each character; marks have the font of their letter if it has them."""
    fonts: list[str] = []
    first = next(iter(coverage()))
    for character in text:
        before = fonts[-1] if fonts else first
        follows = _belongs(character) or _is_ignorable(character)
        fits = follows and (_is_ignorable(character) or _has(before, character))
        fonts.append(before if fits else font_of(character) or first)
    return fonts


def _belongs(character: str) -> bool:
    return (
        _is_skin(character) or character == _JOINER or unicodedata.category(character) in ("Mn", "Mc", "Me")
    )


def _is_skin(character: str) -> bool:
    return "\U0001f3fb" <= character <= "\U0001f3ff"


def _is_ignorable(character: str) -> bool:
    """Return whether a character has no glyph of its own, such as a joiner or the choice of a variant."""
    is_variant = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return is_variant or unicodedata.category(character) == "Cf"


def _shortened(clusters: list[str], kept: int) -> str:
    tail = kept * 2 // 5
    return (
        "".join(clusters[: kept - tail]).rstrip() + "…" + "".join(clusters[len(clusters) - tail :]).lstrip()
    )


def _run(text: str, at: list[int], font: str, level: int) -> Run:
    return Run("".join(text[position] for position in sorted(at)), font, level % 2 == 1)


@cache
def coverage() -> dict[str, tuple[list[int], list[int]]]:
    """Return the first and the last character of each range that each font has."""
    ranges: dict[str, list[list[int]]] = json.loads((FONTS / "coverage.json").read_bytes())
    return {name: ([first for first, _ in of], [last for _, last in of]) for name, of in ranges.items()}


def _has(name: str, character: str) -> bool:
    firsts, lasts = coverage()[name]
    at = bisect_right(firsts, ord(character)) - 1
    return at >= 0 and ord(character) <= lasts[at]


@cache
def _font(name: str, size_px: int, *, shapes: bool) -> ImageFont.FreeTypeFont:
    engine = ImageFont.Layout.RAQM if shapes else ImageFont.Layout.BASIC
    return ImageFont.truetype(FONTS / name, size_px, layout_engine=engine)
