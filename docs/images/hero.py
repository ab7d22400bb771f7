"""Draw ``docs/images/hero.png``: ``segdex demo --profile offline``, then ``python -m docs.images.hero``."""

from pathlib import Path

import segdex
from segdex.render.drawing import SheetRow, Tile, contact_sheet
from segdex_core.masks import MaskRLE

EXPECTED = {
    "a cat": "chelsea.png",
    "a cup of coffee": "coffee.png",
    "a motorcycle": "motorcycle_left.png",
    "a temple": "china.jpg",
    "a space rocket": "rocket.jpg",
    "a space shuttle": "astronaut.png",
    "a helmet": "astronaut.png",
    "a flag": "astronaut.png",
}
"""Each text, and the photograph with its object. A test compares them with the best hits."""

INDEX = "edge:demo/index-offline"
TITLE = "the best hit of each of eight texts in eight photographs, offline profile"


def main() -> None:
    """Ask the index of the demo for each text, and draw the best hit, whatever it is."""
    tiles = []
    with segdex.open(INDEX) as library:
        for text in EXPECTED:
            (hit,) = library.search(text, limit=1, per_image=1).hits
            mask = MaskRLE(hit.rle.size, hit.rle.counts)
            name = hit.image.path.rpartition("/")[2]
            tiles.append(Tile(library.pixels(hit.image.id), mask, f"{text}\n{hit.score:.3f}  {name}"))
    sheet = contact_sheet([SheetRow(TITLE, tiles)], title="", columns=4)
    sheet.quantize(256).save(Path(__file__).with_name("hero.png"), optimize=True)


if __name__ == "__main__":
    main()
