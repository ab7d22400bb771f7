# mypy: ignore-errors
"""Reads YOLO labels, and converts COCO, by Ultralytics' rules: ``read_ultralytics.py yolo|coco FOLDER OUT``.

Its masks are drawn as its training draws them, at the full size of the picture.
"""

import sys
from pathlib import Path

import numpy as np
from saved import save
from ultralytics.data.converter import convert_coco
from ultralytics.data.dataset import img2label_paths
from ultralytics.data.utils import check_det_dataset, polygon2mask, verify_image_label

kind, folder, out = sys.argv[1], Path(sys.argv[2]).resolve(), sys.argv[3]
names = {}
if kind == "yolo":
    names = check_det_dataset(str(folder / "data.yaml"), autodownload=False)["names"]
    images = sorted(str(path) for path in (folder / "images").rglob("*.png"))
    pairs = list(zip(images, img2label_paths(images), strict=True))
else:
    converted = Path(out).with_suffix("")
    convert_coco(str(folder), str(converted), use_segments=True, cls91to80=False)
    labels = sorted((converted / "labels").rglob("*.txt"))
    images = [next((folder / "images").rglob(f"{path.stem}.png")) for path in labels]
    pairs = [(str(image), str(label)) for image, label in zip(images, labels, strict=True)]
found = []
for image, label in pairs:
    read = verify_image_label((image, label, "", False, 10_000, 0, 0, False))
    _, rows, shape, segments, _, missing, _, _, corrupt, message = read
    assert not corrupt, message
    assert not missing, image
    height, width = shape
    for row, outline in zip(rows, segments, strict=True):
        mask = polygon2mask((height, width), [(outline * (width, height)).ravel()])
        name = names.get(int(row[0]), str(int(row[0])))
        found.append((str(Path(image).relative_to(folder / "images")), name, np.asarray(mask), {}))
save(out, found)
