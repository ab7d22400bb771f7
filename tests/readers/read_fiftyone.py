# mypy: ignore-errors
"""Reads an export with FiftyOne's COCO importer: ``read_fiftyone.py MONGODB_ADDRESS FOLDER OUT``."""

import os
import sys
from pathlib import Path

os.environ["FIFTYONE_DATABASE_URI"] = sys.argv[1]
os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"

import fiftyone as fo
import numpy as np
from saved import save

folder, out = Path(sys.argv[2]).resolve(), sys.argv[3]
dataset = fo.Dataset.from_dir(
    dataset_type=fo.types.COCODetectionDataset,
    data_path=str(folder / "data"),
    labels_path=str(folder / "labels.json"),
    label_types=["segmentations"],
    progress=False,
)
found = []
for sample in dataset.iter_samples():
    width, height = sample.metadata.width, sample.metadata.height
    shown = sample["ground_truth"]
    for one in shown.detections if shown is not None else []:
        x, y = round(one.bounding_box[0] * width), round(one.bounding_box[1] * height)
        mask = np.zeros((height, width), bool)
        rows, columns = one.mask.shape
        mask[y : y + rows, x : x + columns] = one.mask
        values = {name: one[name] for name in ("segment_id", "labels", "predicted_iou")}
        name = str(Path(sample.filepath).relative_to(folder / "data"))
        found.append((name, one.label, mask, values))
save(out, found)
dataset.delete()
