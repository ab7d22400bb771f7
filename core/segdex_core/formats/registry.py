"""The formats of ``segdex export`` by name: the one place where a new one is added."""

from collections.abc import Mapping
from types import MappingProxyType

from segdex_core.formats.coco import write_coco, write_coco_polygons, write_fiftyone
from segdex_core.formats.cvat import DOCUMENT, write_cvat
from segdex_core.formats.export import ExportFormat
from segdex_core.formats.label_studio import write_label_studio
from segdex_core.formats.table import write_csv
from segdex_core.formats.yolo import write_yolo

FORMATS: Mapping[str, ExportFormat] = MappingProxyType(
    {
        "coco": ExportFormat(write_coco, document="annotations.json"),
        "coco-polygons": ExportFormat(write_coco_polygons, document="annotations.json", has_polygons=True),
        "yolo": ExportFormat(write_yolo, copies_pictures=True, has_polygons=True, has_safe_names=True),
        "label-studio": ExportFormat(write_label_studio),
        "cvat": ExportFormat(write_cvat, document=DOCUMENT),
        "fiftyone": ExportFormat(write_fiftyone, pictures="data", copies_pictures=True),
        "csv": ExportFormat(write_csv, document="segments.csv"),
    }
)
"""Formats of annotations; ``parquet`` (a backup) and ``zip`` (cut-outs) are not made of annotations alone."""
