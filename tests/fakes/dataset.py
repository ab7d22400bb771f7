"""Pictures of coloured boxes on grey, and a small annotated set of them whose classes are the colours."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from tests.fakes.embedder import COLOURS_RGB

from segdex_core.geometry import BoxXYXY
from segdex_core.masks import encode_mask

SIZE_HW = (120, 160)

Things = Sequence[tuple[str, BoxXYXY]]


def write_colour_set(
    folder: Path,
    pictures: Mapping[str, Things],
    *,
    source: str = "colours",
    size_hw: tuple[int, int] = SIZE_HW,
) -> Path:
    """Write the pictures, ``segments.jsonl`` and ``class_queries.jsonl``; return the folder."""
    segments, queries = [], []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, things in pictures.items():
        pixels = np.full((*size_hw, 3), COLOURS_RGB["grey"], np.uint8)
        by_colour: dict[str, list[str]] = {}
        for number, (colour, box) in enumerate(things):
            pixels[box.y1 : box.y2, box.x1 : box.x2] = COLOURS_RGB[colour]
            by_colour.setdefault(colour, []).append(str(number))
            segments.append(
                {
                    "image": f"images/{name}",
                    "height": size_hw[0],
                    "width": size_hw[1],
                    "instance_id": str(number),
                    "category": colour,
                    "source": source,
                    "rle": box_rle(box, size_hw),
                }
            )
        queries += [
            {"image": f"images/{name}", "text": colour, "instance_ids": ids, "unique": len(ids) == 1}
            for colour, ids in by_colour.items()
        ]
        Image.fromarray(pixels).save(folder / "images" / name)
    write_lines(folder / "segments.jsonl", segments)
    write_lines(folder / "class_queries.jsonl", queries)
    return folder


def box_rle(box: BoxXYXY, size_hw: tuple[int, int] = SIZE_HW) -> dict[str, object]:
    """Return the COCO run-length code of a filled box."""
    mask = np.zeros(size_hw, dtype=bool)
    mask[box.y1 : box.y2, box.x1 : box.x2] = True
    return encode_mask(mask).to_coco()


def write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def png(colour: str = "orange", size: tuple[int, int] = (120, 90)) -> bytes:
    """Return a picture of a coloured box on grey."""
    buffer = BytesIO()
    picture = Image.new("RGB", size, COLOURS_RGB["grey"])
    picture.paste(COLOURS_RGB[colour], (20, 20, 80, 70))
    picture.save(buffer, "PNG")
    return buffer.getvalue()
