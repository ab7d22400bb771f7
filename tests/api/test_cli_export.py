"""``segdex export`` for other tools: what is exported, under which names, and what is refused."""

import csv
import errno
import json
import os
import shutil
import zipfile
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from tests.api.one_index import Ask, asking
from tests.conftest import Tried
from tests.environment import no_variables
from tests.fakes.dataset import png
from tests.fakes.parts import parts

from segdex.cli.main import run
from segdex.parts import Parts
from segdex_backends.index.memory import MemoryIndex
from segdex_core.formats.outlines import drawn
from segdex_core.masks import decode_mask
from segdex_core.media.decode import decode_image
from segdex_core.wire.limits import ExportFormatName

__all__ = ["asking", "no_variables"]

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools
]

Capture = pytest.CaptureFixture[str]


def coco_of(path: Path) -> COCO:
    """Return a file as pycocotools reads it, without what its constructor prints."""
    data = COCO()
    data.dataset = json.loads(path.read_text())
    with redirect_stdout(StringIO()):
        data.createIndex()
    return data


def masks_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return the RLE of each segment of a COCO document."""
    return {one["attributes"]["segment_id"]: one["segmentation"] for one in document["annotations"]}


def test_hits_are_exported_with_their_masks_scores_and_the_query_as_category(
    ask: Ask, tmp_path: Path
) -> None:
    out = tmp_path / "red.json"
    hits = [
        (one, group["image"]["path"])
        for group in ask("search", "red", "--limit", "1")["hits"]
        for one in group["segments"]
    ]

    done = ask("export", "red", "--limit", "1", "--format", "coco", "--out", str(out))
    data = coco_of(out)

    assert (done["segments"], done["images"], done["categories"]) == (len(hits), 1, {"red": len(hits)})
    assert masks_of(data.dataset) == {one["id"]: one["rle"] for one, _ in hits}
    scores = {one["attributes"]["segment_id"]: one["attributes"]["score"] for one in data.anns.values()}
    assert scores == {one["id"]: pytest.approx(one["score"], abs=1e-6) for one, _ in hits}
    assert [Path(done["root"], one["file_name"]) for one in data.imgs.values()] == [Path(hits[0][1])]


def test_all_is_every_segment_and_a_set_is_its_members(ask: Ask, tmp_path: Path) -> None:
    red = ask("search", "red", "--limit", "1")["hits"][0]["segments"][0]
    green = ask("search", "green", "--limit", "1")["hits"][0]["image"]["id"]
    ask("set", "add", "kept", red["id"], green)
    total = ask("stats")["segments"]

    everything = ask("export", "--all", "--format", "coco", "--out", str(tmp_path / "all.json"))
    ask("export", "--set", "kept", "--format", "coco", "--out", str(tmp_path / "kept.json"))
    members = coco_of(tmp_path / "kept.json").dataset["annotations"]

    assert (everything["images"], everything["segments"]) == (2, total)
    assert everything["categories"] == {"object": total}
    of_red = [one for one in members if one["attributes"]["segment_id"] == red["id"]]
    assert len(of_red) == 1
    of_green = ask("search", "green", "--set", "kept", "--limit", "5", "--per-image", "100", "--no-nms")
    shown = {one["id"] for group in of_green["hits"] for one in group["segments"]}
    assert {one["attributes"]["segment_id"] for one in members} == shown


def test_a_label_of_a_person_is_the_category_before_that_of_a_model(ask: Ask, tmp_path: Path) -> None:
    red = ask("search", "red", "--limit", "1")["hits"][0]["segments"][0]["id"]
    ask("label", "red", "blue", "--min-score", "0.2")
    ask("label", "my thing", "--segment", red)

    ask("export", "--all", "--format", "coco", "--out", str(tmp_path / "all.json"))
    ask("export", "--all", "--label", "red", "--format", "coco", "--out", str(tmp_path / "red.json"))
    given = ask("export", "--all", "--format", "coco", "--category", "x", "--out", str(tmp_path / "x.json"))
    data, only_red = coco_of(tmp_path / "all.json"), coco_of(tmp_path / "red.json")

    names = {
        one["attributes"]["segment_id"]: (
            data.cats[one["category_id"]]["name"],
            one["attributes"]["labels"],
        )
        for one in data.anns.values()
    }
    assert names[red] == ("my thing", ["my thing", "red"])
    assert "blue" in {category for category, _ in names.values()}
    assert [one["name"] for one in only_red.dataset["categories"]] == ["red"]  # that was asked for
    assert list(given["categories"]) == ["x"]


def test_a_concept_is_the_category_of_what_it_finds(ask: Ask, tmp_path: Path) -> None:
    red = ask("search", "red", "--limit", "1")["hits"][0]["segments"][0]["id"]
    ask("concept", "mark", "warm", "--text", "red", "--right", red)

    done = ask("export", "concept:warm", "--format", "csv", "--out", str(tmp_path / "a.csv"))
    weighed = ask("export", "red", "-blue", "--format", "csv", "--out", str(tmp_path / "b.csv"))

    assert list(done["categories"]) == ["warm"]
    assert list(weighed["categories"]) == ["red"]


@pytest.mark.parametrize("format_name", get_args(ExportFormatName))
def test_two_exports_of_one_index_are_equal_byte_for_byte(ask: Ask, tmp_path: Path, format_name: str) -> None:
    for name in ("a", "b"):
        ask("export", "--all", "--format", format_name, "--out", str(tmp_path / f"{name}.zip"))

    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_folder_and_an_archive_hold_the_same(ask: Ask, tmp_path: Path) -> None:
    done = ask("export", "--all", "--format", "yolo", "--out", str(tmp_path / "a"))
    ask("export", "--all", "--format", "yolo", "--out", str(tmp_path / "a.zip"))

    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert {
        str(path.relative_to(tmp_path / "a")): path.read_bytes()
        for path in (tmp_path / "a").rglob("*")
        if path.is_file()
    } == held
    assert {"data.yaml", "images/a.png", "images/b.png", "labels/a.txt", "labels/b.txt"} < set(held)
    assert {**json.loads(held["segdex-export.json"]), "path": done["path"]} == done
    assert held["images/a.png"] == (tmp_path / "set" / "images" / "a.png").read_bytes()


def test_cut_outs_are_those_of_show_with_a_table(ask: Ask, tmp_path: Path) -> None:
    ask("export", "red", "--limit", "1", "--per-image", "1", "--format", "zip", "--out", str(tmp_path / "z"))
    with zipfile.ZipFile(tmp_path / "z") as archive:
        [row] = csv.DictReader(StringIO(archive.read("cutouts.csv").decode(), newline=""))
        cutout = archive.read(row["cutout"])
    ask("show", row["segment_id"], "--out", str(tmp_path / "shown"))

    [shown] = (tmp_path / "shown").glob("*cutout.png")
    with Image.open(shown) as expected, Image.open(BytesIO(cutout)) as picture:
        assert picture.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))
    assert (row["category"], row["file_name"]) == ("red", "a.png")


def test_what_polygons_lose_is_said(ask: Ask, tmp_path: Path) -> None:
    options = ("export", "--all", "--format", "yolo", "--pictures", "none", "--out")
    done = ask(*options, str(tmp_path / "a"))
    printed = ask(*options, str(tmp_path / "b"), "--tolerance", "2", text=True)

    assert done["loss"]["segments"] == done["segments"]
    assert done["loss"]["lowest_iou"] > 0.9
    assert "polygons: mean IoU with the masks " in printed


@pytest.fixture(name="run_on")
def _run_on(tmp_path: Path, no_variables: None, capsys: Capture) -> Any:
    """Fills an index with files, and runs commands on it: exit code, JSON, and lines on standard error."""
    from dataclasses import replace

    index = MemoryIndex()
    kept: Parts = replace(parts(tmp_path / "unused"), open_index=lambda *_, **__: index)

    def command(*arguments: str) -> tuple[int, Any, str]:
        code = run([*arguments, "--json"], parts=kept)
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else None, printed.err

    return command


ODD_NAMES = [
    "a:b?.png",
    "CON.png",
    "dot. ",
    "x/../x/same.png",
    "sub/same.png",
    "Same.PNG",
    "same.png",
    "same.jpg",
    "größe 図.png",
    os.fsdecode(b"not\xffutf8.png"),
    "=cmd.png",
    "quote\"'\n.png",
    "n" * 200 + ".png",
    "images/images/in.png",
]


@pytest.mark.promise(
    "Pictures",
    "An export copies pictures of any name under names that every file system takes, and maps them.",
)
def test_pictures_of_any_name_are_copied_under_names_of_their_own(
    run_on: Any, tmp_path: Path, tried: Tried
) -> None:
    folder = tmp_path / "pictures"
    for number, name in enumerate(ODD_NAMES):
        path = folder / os.path.normpath(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((60, 80, 3), 90, np.uint8)
        pixels[10:40, 10 : 30 + number] = (220, 30, 30)
        kind = "JPEG" if name.endswith("jpg") else "PNG"
        Image.fromarray(pixels).save(path, kind)
    code, report, _ = run_on("ingest", str(folder), "--quality", "fast")
    assert code == 0
    added = report["outcomes"]["added"]
    assert added >= len(ODD_NAMES) - 2  # `dot. ` has no suffix of a picture

    for format_name, place in (("yolo", "images"), ("fiftyone", "data")):
        code, done, err = run_on(
            "export", "--all", "--format", format_name, "--out", str(tmp_path / format_name)
        )
        assert code == 0, err
        assert done["missing"] == []
        below = (tmp_path / format_name / place).rglob("*")
        copied = [path for path in below if path.is_file() and path.suffix != ".txt"]
        assert len(copied) == done["pictures"] == added
        for path in copied:
            name = str(path.relative_to(tmp_path / format_name))
            assert not set(name) & set('<>:"|?*\\\n')
            assert name.isprintable()
            assert len(path.name.encode()) <= 143
        stems = [str(path.with_suffix("")).casefold() for path in copied]
        assert len(set(stems)) == len(stems)
        assert set(done["renamed"].values()) <= {
            str(path.relative_to(tmp_path / format_name / place)) for path in copied
        }
    labels = [path for path in (tmp_path / "yolo").rglob("*.txt") if path.stat().st_size]
    assert len(labels) == added
    tried(added, "pictures with odd names")


def test_pictures_without_segments_are_background_where_nothing_is_filtered(
    run_on: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "thing.png").write_bytes(png("red"))
    Image.new("RGB", (80, 60), (90, 90, 90)).save(folder / "nothing.png")
    _, report, _ = run_on("ingest", str(folder))
    assert report["outcomes"]["no_segments"] == 1

    _, every, _ = run_on("export", "--all", "--format", "yolo", "--out", str(tmp_path / "all"))
    _, large, _ = run_on(
        "export", "--all", "--min-area", "0.01", "--format", "yolo", "--out", str(tmp_path / "large")
    )

    assert (every["images"], large["images"]) == (2, 1)
    assert (tmp_path / "all" / "labels" / "nothing.txt").read_bytes() == b""
    assert (tmp_path / "all" / "images" / "nothing.png").exists()


def test_two_folders_with_equal_names_keep_their_sub_folders(run_on: Any, tmp_path: Path) -> None:
    for folder, colour in (("one", "red"), ("two", "blue")):
        (tmp_path / "both" / folder).mkdir(parents=True)
        (tmp_path / "both" / folder / "same.png").write_bytes(png(colour))
    run_on("ingest", str(tmp_path / "both" / "one"), str(tmp_path / "both" / "two"))

    _, done, _ = run_on("export", "--all", "--format", "coco", "--out", str(tmp_path / "a.json"))
    names = [one["file_name"] for one in coco_of(tmp_path / "a.json").imgs.values()]

    assert names == ["one/same.png", "two/same.png"]
    assert all(Path(done["root"], name).exists() for name in names)
    assert done["renamed"] == {}


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_picture_on_its_side_is_copied_upright_and_others_byte_for_byte(
    run_on: Any, tmp_path: Path, orientation: int
) -> None:
    pixels = np.full((60, 90, 3), 90, np.uint8)
    pixels[5:25, 10:60] = (220, 30, 30)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, options in (
        ("a.jpg", {"quality": 98, "subsampling": 0}),
        ("b.png", {}),
        ("c.webp", {"lossless": True}),
    ):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels if name != "b.png" else pixels[::-1]).save(folder / name, exif=exif, **options)
    Image.fromarray(pixels[:, ::-1]).save(folder / "upright.jpg")
    run_on("ingest", str(folder), "--quality", "fast")

    _, done, _ = run_on(
        "export", "--all", "--format", "coco", "--pictures", "copy", "--out", str(tmp_path / "o")
    )
    data = coco_of(tmp_path / "o" / "annotations.json")

    assert done["pictures"] == 4
    for image in data.imgs.values():
        name = image["file_name"]
        upright = decode_image((folder / name).read_bytes(), name=name, max_pixels=10_000).pixels
        with Image.open(tmp_path / "o" / "images" / name) as copy:
            assert copy.format == {"jpg": "JPEG", "png": "PNG", "ebp": "WEBP"}[name[-3:]]
            assert copy.getexif().get(0x0112, 1) == 1
            assert copy.size == (image["width"], image["height"])
            copied = np.asarray(copy.convert("RGB")).astype(int)
        assert np.abs(copied - upright).max() <= (24 if name == "a.jpg" else 0)
    same = (tmp_path / "o" / "images" / "upright.jpg").read_bytes()
    assert same == (folder / "upright.jpg").read_bytes()


def test_a_picture_that_is_gone_or_changed_is_named_and_the_rest_is_exported(
    run_on: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "green"), ("c.png", "blue")):
        (folder / name).write_bytes(png(colour))
    run_on("ingest", str(folder))
    (folder / "a.png").unlink()
    (folder / "b.png").write_bytes(png("orange"))

    code, done, _ = run_on("export", "--all", "--format", "yolo", "--out", str(tmp_path / "o"))
    zip_code, cut, _ = run_on("export", "--all", "--format", "zip", "--out", str(tmp_path / "z"))
    without, _, _ = run_on("export", "--all", "--format", "coco", "--out", str(tmp_path / "c.json"))
    refined, _, _ = run_on(
        "export", "red", "--refine", "5", "--format", "coco", "--out", str(tmp_path / "r.json")
    )

    assert (code, zip_code, without, refined) == (1, 1, 0, 1)
    assert [Path(one["path"]).name for one in done["missing"]] == ["a.png", "b.png"]
    assert ["gone" in one["reason"] for one in done["missing"]] == [True, False]
    assert [path.name for path in (tmp_path / "o" / "images").iterdir()] == ["c.png"]
    assert {path.name for path in (tmp_path / "o" / "labels").iterdir()} == {"a.txt", "b.txt", "c.txt"}
    assert all(path.stat().st_size for path in (tmp_path / "o" / "labels").iterdir())
    with zipfile.ZipFile(tmp_path / "z") as archive:
        rows = list(csv.DictReader(StringIO(archive.read("cutouts.csv").decode(), newline="")))
        assert {bool(row["cutout"]) for row in rows if row["file_name"] != "c.png"} == {False}
        assert {row["cutout"] for row in rows if row["cutout"]} == set(archive.namelist()) - {
            "cutouts.csv",
            "segdex-export.json",
        }
    assert len(cut["missing"]) == 2


def test_nothing_is_written_over_and_what_does_not_go_together_is_one_line(
    ask: Ask, tmp_path: Path, capsys: Capture, no_variables: None
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "mine.json").write_text("mine")
    (tmp_path / "empty").mkdir()
    fakes = parts(tmp_path / "set")

    def refused(*arguments: str) -> str:
        code = run(["export", *arguments], parts=fakes)
        err = capsys.readouterr().err
        assert code == 2, err
        return err.splitlines()[-1]

    coco = ("--all", "--format", "coco", "--out")
    assert "is not empty" in refused(*coco, str(tmp_path / "full"))
    assert "exists" in refused(*coco, str(tmp_path / "mine.json"))
    assert "is a folder" in refused("--all", "--format", "yolo", "--out", str(tmp_path / "a.json"))
    assert "--limit needs a query" in refused(*coco, str(tmp_path / "a"), "--limit", "3")
    assert "needs a query, --all, or --set" in refused("--format", "coco", "--out", str(tmp_path / "a"))
    assert "--all cannot go with a query" in refused("red", *coco, str(tmp_path / "a"))
    assert "a query cannot go with a backup" in refused("red", "--out", str(tmp_path / "a"))
    assert "--label cannot go with a backup" in refused("--label", "x", "--out", str(tmp_path / "a"))
    assert "--tolerance must be between" in refused(*coco, str(tmp_path / "a"), "--tolerance", "-1")
    assert "nothing to export" in refused(*coco, str(tmp_path / "a"), "--tag", "none")
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "mine.json").read_text() == "mine"
    assert ask("export", *coco, str(tmp_path / "empty"))["images"] == 2
    shutil.rmtree(tmp_path / "full")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    from segdex.saving import Target, save
    from segdex_core.errors import StorageError
    from segdex_core.formats.export import OutFile

    def half() -> Any:
        yield b"half"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for target in (Target(tmp_path / "o"), Target(tmp_path / "o.zip", is_archive=True)):
        with pytest.raises(StorageError, match="No space left on device; make room") as caught:
            save(iter([OutFile("a/b.txt", half())]), target)
        assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.iterdir() if path.name.startswith((".", "o"))] == []


@pytest.mark.parametrize("name", ["../a.txt", "/a.txt", "a//b", "a/../../b", ""])
def test_a_service_cannot_write_outside_of_the_export(tmp_path: Path, name: str) -> None:
    from segdex.saving import Target, save
    from segdex_core.errors import StorageError
    from segdex_core.formats.export import OutFile

    with pytest.raises(StorageError, match="outside"):
        save(iter([OutFile(name, [b"x"])]), Target(tmp_path / "o"))
    assert list(tmp_path.iterdir()) == []


def known_shapes(folder: Path) -> dict[str, Any]:
    """Write a ring, a wire, a box at the edge and a ladder; return the mask of each."""
    width, height = 240, 160
    grid_y, grid_x = np.mgrid[0:height, 0:width]
    radius = np.hypot(grid_x - 120, grid_y - 80)
    ladder = (abs(grid_x - 100) < 5) | (abs(grid_x - 140) < 5)
    ladder |= (grid_y % 32 < 8) & (grid_x > 95) & (grid_x < 145)
    shapes = {
        "ring": (radius < 60) & (radius >= 25),
        "wire": abs(grid_x * 0.6 - grid_y) < 5,
        "edge": (grid_x >= 190) & (grid_y < 60),
        "ladder": ladder,
    }
    folder.mkdir()
    for name, mask in shapes.items():
        pixels = np.where(mask[..., None], (220, 30, 30), (90, 90, 90)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return shapes


def test_every_form_of_a_mask_is_of_the_same_pixels(run_on: Any, tmp_path: Path) -> None:
    shapes = known_shapes(tmp_path / "pictures")
    run_on("ingest", str(tmp_path / "pictures"))
    forms = {"coco": "c.json", "coco-polygons": "p.json", "yolo": "y", "zip": "z.zip"}
    for name, out in forms.items():
        assert run_on("export", "--all", "--format", name, "--out", str(tmp_path / out))[0] == 0

    exact, polygons = coco_of(tmp_path / "c.json"), coco_of(tmp_path / "p.json")
    best: dict[str, float] = {}
    with zipfile.ZipFile(tmp_path / "z.zip") as archive:
        for image_id, image in exact.imgs.items():
            name = Path(image["file_name"]).stem
            lines = (tmp_path / "y" / "labels" / f"{name}.txt").read_text().splitlines()
            for one, other, line in zip(
                exact.imgToAnns[image_id], polygons.imgToAnns[image_id], lines, strict=True
            ):
                mask = exact.annToMask(one)
                key = one["attributes"]["segment_id"]
                x, y, width, height = one["bbox"]
                corners = np.array(line.split()[1:], float).reshape(-1, 2)
                size_hw = (image["height"], image["width"])
                outline = decode_mask(drawn(corners * size_hw[::-1], size_hw))
                np.testing.assert_array_equal(mask, polygons.annToMask(other))
                assert (mask & outline).sum() / (mask | outline).sum() > 0.9
                with Image.open(BytesIO(archive.read(f"cutouts/{name}/{key}.png"))) as cutout:
                    alpha = np.asarray(cutout)[..., 3] > 0
                np.testing.assert_array_equal(mask[y : y + height, x : x + width] > 0, alpha)
                run_on("show", key, "--out", str(tmp_path / "shown"))
                with Image.open(tmp_path / "shown" / f"{key}-mask.png") as shown:
                    np.testing.assert_array_equal(mask > 0, np.asarray(shown.convert("L")) > 0)
                truth = shapes[name]
                iou = (mask.astype(bool) & truth).sum() / (mask.astype(bool) | truth).sum()
                best[name] = max(best.get(name, 0), iou)
    assert set(best) == set(shapes)
    assert min(best["ring"], best["edge"]) > 0.9
