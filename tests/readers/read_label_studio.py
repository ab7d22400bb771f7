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
seconds = {"encode": 0.0, "decode": 0.0}
for task in tasks:
    [prediction] = task["predictions"]
    assert interface.validate_prediction(prediction), prediction
    for region in prediction["result"]:
        value, size_hw = region["value"], (region["original_height"], region["original_width"])
        started = time.process_time()
        mask = np.reshape(decode_rle(value["rle"]), [*size_hw, 4])[:, :, 3]
        between = time.process_time()
        again = mask2rle(mask)
        seconds["encode"] += time.process_time() - between
        seconds["decode"] += between - started
        found.append(
            (
                task["data"]["file_name"],
                value["brushlabels"][0],
                mask > 0,
                {**region["meta"], "is_equal": again == value["rle"], "names": value["brushlabels"]},
            )
        )
save(out, found)
print(json.dumps(seconds))
