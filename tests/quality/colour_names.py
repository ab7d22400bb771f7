"""How many named colours does the table of colours call by their name, and what does measuring cost?

    python -m tests.quality.colour_names              # the names of CSS, and CPU times
    python -m tests.quality.colour_names rgb.txt      # names of the survey of xkcd.com too

``rgb.txt`` is https://xkcd.com/color/rgb.txt (CC0): a name and a hexadecimal colour in each line.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import ImageColor

from segdex_core.colours import COLOUR_NAMES, COLOUR_SYNONYMS, ColourName
from segdex_ingest.colours import colour_cells, colour_shares, shares_of

RGB = tuple[int, int, int]


def css_colours() -> Iterator[tuple[str, RGB, ColourName]]:
    """Yield the colours of CSS whose name contains one basic term, such as ``darkred``."""
    words: dict[str, ColourName] = dict(COLOUR_SYNONYMS)
    words |= {name: name for name in COLOUR_NAMES}
    for text in ImageColor.colormap:
        terms = {name for word, name in words.items() if word in text}
        if len(terms) == 1:
            red, green, blue = ImageColor.getrgb(text)[:3]
            yield text, (red, green, blue), terms.pop()


def survey_colours(lines: Iterator[str]) -> Iterator[tuple[str, RGB, ColourName]]:
    """Yield the colours of a survey whose name has one basic term, as its last word."""
    for line in lines:
        text, _, code = line.strip().partition("\t")
        words = text.replace("gray", "grey").replace("violet", "purple").split()
        terms = [name for name in COLOUR_NAMES if name in words]
        if len(terms) == 1 and words[-1] == terms[0]:
            red, green, blue = ImageColor.getrgb(code.strip())[:3]
            yield text, (red, green, blue), terms[0]


def named_right(colours: Mapping[str, tuple[RGB, ColourName]]) -> dict[str, bool]:
    """Return for each colour whether its term has the largest share."""
    shares = shares_of(np.array([rgb for rgb, _ in colours.values()], float))
    return {
        text: COLOUR_NAMES[row.argmax()] == term
        for (text, (_, term)), row in zip(colours.items(), shares, strict=True)
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("survey", type=Path, nargs="?")
    given = parser.parse_args()
    sets = {"CSS": list(css_colours())}
    if given.survey is not None:
        with given.survey.open() as lines:
            sets["survey"] = list(survey_colours(lines))
    for kind, colours in sets.items():
        right = named_right({text: (rgb, term) for text, rgb, term in colours})
        print(f"{kind}: {sum(right.values())} of {len(right)}, {np.mean(list(right.values())):.3f}")
    for height, width in ((480, 640), (3000, 4000)):
        cells = colour_cells(np.zeros((height, width, 3), np.uint8))
        for share in (0.1, 0.5, 1.0):
            mask = np.zeros((height, width), bool)
            mask[: round(height * share), : round(width * share)] = True
            colour_shares(cells, mask)
            start = time.process_time()
            for _ in range(5):
                colour_shares(cells, mask)
            spent_ms = (time.process_time() - start) * 200
            print(f"{width} x {height}, a box of {share:g} of each side: {spent_ms:.1f} CPU ms")


if __name__ == "__main__":
    main()
