"""Prompts on one photograph, for which every adapter of SAM 2 gives the same masks."""

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from tests.needs import photo

from segdex_core.ports.prompts import Prompts
from segdex_core.records import RGBImage

MAX_LOGIT_DIFFERENCE, MAX_IOU_DIFFERENCE = 1e-3, 1e-4
"""Between two adapters with the same weights in float32; logits go up to 32."""

CASES = {
    "one point": ([[200, 150]], [1]),
    "three points": ([[200, 150], [60, 40], [300, 250]], [1, 0, 1]),
    "box": ([[100, 50], [330, 290]], [2, 3]),
    "box and point": ([[100, 50], [330, 290], [150, 100]], [2, 3, 1]),
}
"""Points on ``cat``, in pixels, and their labels, as the adapters take them."""


@cache
def cat() -> RGBImage:
    """Return chelsea.png, 451x300."""
    with Image.open(photo("chelsea.png")) as opened:
        return np.array(opened.convert("RGB"))


def prompts(case: str, mask: npt.NDArray[np.float32] | None) -> Prompts:
    """Return the prompt of a case, with a mask of an earlier answer."""
    points, labels = CASES[case]
    return Prompts(np.array([points], np.float32), np.array([labels]), mask)
