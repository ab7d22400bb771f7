"""Types of options with fixed values. The module imports only ``typing``, so that commands start fast."""

from typing import Literal

ProfileName = Literal["default", "offline"]
Device = Literal["auto", "cpu", "cuda"]
Quality = Literal["fast", "balanced", "best"]
Selection = Literal["ranked", "meta"]
"""Which masks of an image are kept: the best up to a budget, or all above Meta's fixed thresholds."""

ExportFormat = Literal[
    "parquet", "coco", "coco-polygons", "yolo", "label-studio", "cvat", "fiftyone", "csv", "zip"
]
"""Formats of ``segdex export``: a backup, and those for other tools."""

ViewMode = Literal["crops", "pooled"]
