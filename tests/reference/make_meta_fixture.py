"""Write ``meta_masks.json``: what Meta's own mask generator finds in one photograph.

Run it from the root of the repository, with the ``reference`` and ``demo`` extras installed::

    python -m tests.reference.make_meta_fixture

It takes minutes on a CPU, which is why the test reads the file instead.
"""

import json
import platform
from importlib.metadata import version

import numpy as np
from PIL import Image
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from tests.needs import ROOT, photo, shared
from tests.reference.meta_sam2 import build_meta_sam2

FIXTURE = ROOT / "tests" / "reference" / "meta_masks.json"
PICTURE = "astronaut.png"
SETTINGS = {
    "points_per_side": 32,
    "pred_iou_thresh": 0.8,
    "stability_score_thresh": 0.95,
    "stability_score_offset": 1.0,
    "box_nms_thresh": 0.7,
    "crop_n_layers": 0,
    "min_mask_region_area": 0,
}
"""The defaults of the package, written out."""


def main() -> None:
    """Generate the masks and write the file."""
    pixels = np.asarray(Image.open(photo(PICTURE)).convert("RGB"))
    model = build_meta_sam2(shared("models", "sam2-hiera-tiny"))
    generator = SAM2AutomaticMaskGenerator(model, output_mode="coco_rle", **SETTINGS)
    found = generator.generate(pixels)
    fixture = {
        "picture": PICTURE,
        "size_hw": list(pixels.shape[:2]),
        "model": "facebook/sam2-hiera-tiny",
        "settings": SETTINGS,
        "versions": {name: version(name) for name in ("sam2", "torch", "torchvision", "scikit-image")},
        "python": platform.python_version(),
        "masks": [
            {
                "counts": mask["segmentation"]["counts"],
                "predicted_iou": round(mask["predicted_iou"], 6),
                "stability": round(mask["stability_score"], 6),
                "point_xy": [round(value, 3) for value in mask["point_coords"][0]],
            }
            for mask in found
        ],
    }
    FIXTURE.write_text(json.dumps(fixture, indent=1) + "\n")
    print(f"{len(found)} masks of {PICTURE} in {FIXTURE.name}, {FIXTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
