# mypy: ignore-errors
"""Reads COCO and CVAT's XML with Datumaro: ``read_datumaro.py coco_instances|cvat FOLDER OUT``."""

import sys

import datumaro as dm
from datumaro.components.annotation import AnnotationType
from saved import save

kind, folder, out = sys.argv[1:4]
read = dm.Dataset.import_from(folder, kind)
names = read.categories()[AnnotationType.label]
found = [
    (item.id, names[one.label].name, one.image, dict(one.attributes))
    for item in read
    for one in item.annotations
    if one.type == AnnotationType.mask
]
save(out, found)
