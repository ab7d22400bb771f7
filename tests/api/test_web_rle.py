"""The page's own decoder of masks gives the masks that Python gives."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
from tests.needs import in_ci, missing

from segdex_core.masks import encode_mask

MODULE = Path(__file__).parents[2] / "api/segdex/web/rle.js"
SCRIPT = """
import { maskOf } from "MODULE";
let text = "";
for await (const part of process.stdin) text += part;
const masks = JSON.parse(text).map(({ rle, width, height }) => Array.from(maskOf(rle, width, height)));
console.log(JSON.stringify(masks));
"""


def decoded(masks: list[np.ndarray], sizes_wh: list[tuple[int, int]]) -> list[np.ndarray]:
    """Return what the page makes of the run-length codes of masks, at other sizes."""
    node = shutil.which("node")
    if node is None:
        missing("node, which comes with npm", required=in_ci())
        raise AssertionError("unreachable")
    asked = [
        {"rle": encode_mask(mask).to_coco(), "width": width, "height": height}
        for mask, (width, height) in zip(masks, sizes_wh, strict=True)
    ]
    script = SCRIPT.replace("MODULE", MODULE.as_uri())
    done = subprocess.run(
        [node, "--input-type=module", "-e", script],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        np.array(flat, bool).reshape(height, width)
        for flat, (width, height) in zip(json.loads(done.stdout), sizes_wh, strict=True)
    ]


def test_masks_at_their_own_size_are_equal() -> None:
    rng = np.random.default_rng(0)
    masks = [np.zeros((7, 5), bool), np.ones((7, 5), bool), np.eye(40, 90, dtype=bool)]
    masks += [
        rng.random(size) < share for size in ((1, 1), (1, 60), (60, 1), (120, 77)) for share in (0.1, 0.9)
    ]

    for mask, found in zip(masks, decoded(masks, [mask.shape[::-1] for mask in masks]), strict=True):
        np.testing.assert_array_equal(found, mask)


def test_masks_at_another_size_show_the_pixels_at_the_centres() -> None:
    rng = np.random.default_rng(1)
    mask = rng.random((90, 130)) < 0.5
    sizes_wh = [(50, 40), (200, 170), (130, 30)]

    for (width, height), found in zip(sizes_wh, decoded([mask] * 3, sizes_wh), strict=True):
        rows = ((np.arange(height) + 0.5) * 90 / height).astype(int)
        columns = ((np.arange(width) + 0.5) * 130 / width).astype(int)
        np.testing.assert_array_equal(found, mask[np.ix_(rows, columns)])
