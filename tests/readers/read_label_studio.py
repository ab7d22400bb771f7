# mypy: ignore-errors
"""Reads tasks with Label Studio's SDK, and measures its brush code: ``read_label_studio.py FOLDER OUT``."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from label_studio_sdk.label_interface import LabelInterface
from saved import save

folder, out = Path(sys.argv[1]), sys.argv[2]
tasks = json.loads((folder / "tasks.json").read_text())
interface = LabelInterface((folder / "labels.xml").read_text())
interface.validate()
found = []
encode_s = decode_s = 0.0
for task in tasks:
    [prediction] = task["predictions"]
    assert interface.validate_prediction(prediction), prediction
    for region in prediction["result"]:
        code, size_hw = region["value"]["rle"], (region["original_height"], region["original_width"])
        started = time.process_time()
        mask = np.reshape(decode_rle(code), [*size_hw, 4])[:, :, 3]
        between = time.process_time()
        is_equal = mask2rle(mask) == code
        encode_s += time.process_time() - between
        decode_s += between - started
        names = region["value"]["brushlabels"]
        values = {**region["meta"], "is_equal": is_equal, "names": names}
        found.append((task["data"]["file_name"], region["meta"]["category"], mask > 0, values))
save(out, found, encode_s=encode_s, decode_s=decode_s)
