"""Make the fonts of captions anew: ``uv run --with fonttools deploy/fonts.py NOTO DROID EMOJI``.

NOTO is a folder with the ``NotoSans*-Regular.ttf`` of Debian's package ``fonts-noto-core``, DROID the file
``DroidSansFallback.ttf`` of its package ``fonts-droid-fallback``, and EMOJI the file ``NotoEmoji[wght].ttf``
of PyPI's package ``manimgx-fonts``. Each font keeps the characters of its script; hints, which need most
space and do little for text on pictures, are left out. ``coverage.json`` has the ranges of characters of each
file, in the order in which a character is looked for.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from fontTools.varLib.instancer import instantiateVariableFont

OUT = Path(__file__).parents[1] / "api" / "segdex" / "render" / "fonts"
NOTO = (
    "",  # Latin, Greek and Cyrillic
    *("Arabic", "Hebrew", "Armenian", "Georgian", "Ethiopic"),
    *("Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya"),
    *("Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala"),
    *("Thai", "Lao", "Khmer", "Myanmar"),
)
SYMBOLS = {  # arrows and operators; boxes, shapes and signs
    "Math": ((0x2190, 0x22FF), (0x27F0, 0x27FF)),
    "Symbols2": ((0x2300, 0x23FF), (0x2500, 0x27BF), (0x2900, 0x2BFF)),
}
CJK = {  # two files, of which none is large
    "Han": ((0x2E80, 0x33FF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFE30, 0xFFEF)),
    "Hangul": ((0xAC00, 0xD7A3),),
}


def main(noto: Path, droid: Path, emoji: Path) -> None:
    """Write the fonts and their coverage."""
    coverage = {}
    for script in NOTO:
        font = TTFont(noto / f"NotoSans{script}-Regular.ttf")
        coverage[f"NotoSans{script}.ttf"] = write(font, OUT / f"NotoSans{script}.ttf", font.getBestCmap())
    for script, ranges in CJK.items():
        font = TTFont(droid)
        coverage[f"DroidSans{script}.ttf"] = write(font, OUT / f"DroidSans{script}.ttf", within(font, ranges))
    font = instantiateVariableFont(TTFont(emoji), {"wght": 400})
    coverage["NotoEmoji.ttf"] = write(font, OUT / "NotoEmoji.ttf", font.getBestCmap())
    for name, ranges in SYMBOLS.items():
        font = TTFont(noto / f"NotoSans{name}-Regular.ttf")
        coverage[f"NotoSans{name}.ttf"] = write(font, OUT / f"NotoSans{name}.ttf", within(font, ranges))
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(ranges)}" for name, ranges in coverage.items())
    (OUT / "coverage.json").write_text(f"{{\n{lines}\n}}\n")


def within(font: TTFont, ranges: tuple[tuple[int, int], ...]) -> list[int]:
    """Return the characters of a font in some ranges."""
    return [one for one in font.getBestCmap() if any(first <= one <= last for first, last in ranges)]


def write(font: TTFont, path: Path, characters: Iterable[int]) -> list[list[int]]:
    """Write a font with some of its characters; return their ranges, first and last."""
    options = subset.Options(hinting=False, layout_features=["*"], name_IDs=[0, 1, 2, 5, 13, 14])
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=list(characters))
    subsetter.subset(font)
    font.save(path)
    ranges: list[list[int]] = []
    for one in sorted(font.getBestCmap()):
        if ranges and ranges[-1][1] == one - 1:
            ranges[-1][1] = one
        else:
            ranges.append([one, one])
    return ranges


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
