"""The figures of ``segdex eval prompts`` for Meta's own ``SAM2ImagePredictor`` with the same weights.

    python -m tests.reference.eval_meta_prompts ../shared/data/coco --folder ../shared/models/sam2-hiera-tiny

Points are answered by the best of three masks, boxes by the single mask, as ``segment_thing`` does.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sam2.sam2_image_predictor import SAM2ImagePredictor
from tests.reference.meta_sam2 import build_meta_sam2

from segdex.evaluation.dataset import choose_source, sample_images
from segdex.evaluation.load import load_dataset
from segdex.evaluation.prompts import KINDS, PromptsReport, true_prompts
from segdex_core.masks import decode_mask
from segdex_core.media.decode import read_image_file


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="weights in the hub's format")
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    predictor = SAM2ImagePredictor(build_meta_sam2(arguments.folder))
    images = sample_images(choose_source(load_dataset(arguments.data), None).images, arguments.limit)
    areas: list[int] = []
    ious: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for image in images:
        predictor.set_image(read_image_file(image.path).pixels)
        for instance in image.instances:
            truth = decode_mask(instance.mask)
            areas.append(instance.area_px)
            for kind, prompt in true_prompts(truth).items():
                masks, scores, _ = predictor.predict(
                    point_coords=np.array(prompt.points_xy) if prompt.points_xy else None,
                    point_labels=np.array(prompt.labels) if prompt.labels else None,
                    box=None if prompt.box_xyxy is None else np.array(prompt.box_xyxy),
                    multimask_output=prompt.is_ambiguous,
                )
                mask = masks[int(scores.argmax())] > 0
                ious[kind].append(float((mask & truth).sum() / max(int((mask | truth).sum()), 1)))
        print(image.name, len(areas), flush=True)
    report = PromptsReport(
        len(images),
        np.asarray(areas, np.float64),
        {kind: np.asarray(values) for kind, values in ious.items()},
    )
    print(json.dumps(report.to_json(), indent=1))


if __name__ == "__main__":
    main()
