# mypy: ignore-errors
"""What a reader saves of an annotation: picture, category, mask and attributes."""

import json

import numpy as np


def save(out, found, **measured):
    """Save (file name, category, (H, W) bool mask, attributes) of each annotation, and what was measured."""
    told = [{"image": image, "category": name, "attributes": values} for image, name, _, values in found]
    masks = {f"mask{number}": np.asarray(mask, bool) for number, (_, _, mask, _) in enumerate(found)}
    np.savez_compressed(out, told=json.dumps([told, measured], default=str), **masks)
