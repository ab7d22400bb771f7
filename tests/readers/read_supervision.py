# mypy: ignore-errors
"""Reads COCO and YOLO with supervision: ``read_supervision.py coco|yolo FOLDER OUT``."""

import sys
from pathlib import Path

import supervision as sv
from saved import save

kind, folder, out = sys.argv[1], Path(sys.argv[2]).resolve(), sys.argv[3]
if kind == "coco":
    read = sv.DetectionDataset.from_coco(
        images_directory_path=str(folder / "images"),
        annotations_path=str(folder / "annotations.json"),
        force_masks=True,
    )
else:
    read = sv.DetectionDataset.from_yolo(
        images_directory_path=str(folder / "images"),
        annotations_directory_path=str(folder / "labels"),
        data_yaml_path=str(folder / "data.yaml"),
        force_masks=True,
    )
found = [
    (str(Path(path).relative_to(folder / "images")), read.classes[int(number)], mask, {})
    for path, _, detections in read
    for number, mask in zip(detections.class_id, detections.mask if len(detections) else [], strict=True)
]
save(out, found)
