"""The 253 damaged and unusual files of ``shared/data/odd``, decoded by a process with a memory limit."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests import needs

from segdex_core.media.decode import read_image_file

MEMORY_BYTES = 4 << 30

DECODE_ALL = """
import json, os, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from segdex_core.errors import ImageError
from segdex_core.media.decode import read_image_file
for line in sys.stdin:
    try:
        outcome = "x".join(map(str, read_image_file(Path(line.rstrip("\\n"))).pixels.shape))
    except ImageError as error:
        outcome = type(error).__name__
    sys.stdout.write(outcome + "\\n")
# not ru_maxrss: that is inherited from the process that started this one
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
sys.stdout.write(status["VmHWM"].split()[0] + "\\n")
"""

# The manifest calls these "ok" because it loaded them a second time after Pillow had refused their damaged
# compressed pixels; the second load returns what is there, half a picture.
DAMAGED_THOUGH_OK = {
    "imagetestsuite/c-d3ffec5786387c590721e674d705f16e.png",
    "imagetestsuite/c-m1-559dcf17d281e285b7f09f943b9706de.png",
    "imagetestsuite/c-m1-6593e140dba21ccb8c8724f8fe88fdb6.png",
    "imagetestsuite/c-m2-272ae9468b7883e5cf61873a17271fb4.png",
    "imagetestsuite/m1-814fcedc62fe4e43923c042ff1d6747f.png",
    "pillow/broken_data_stream.png",
}


# Pillow's loader wants the end marker of this one. Its pixels are all there, and every viewer shows it.
WHOLE_THOUGH_REFUSED = {"pillow/truncated_jpeg.jpg"}


@dataclass(frozen=True)
class Odd:
    folder: Path
    manifest: dict[str, str]  # file to the manifest's outcome
    outcomes: dict[str, str]  # file to HxWx3 or the name of the error
    standard_error: str
    peak_bytes: int


@pytest.fixture(scope="module")
def odd() -> Odd:
    folder = needs.shared("data", "odd")
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]
    manifest = {line["file"]: line["outcome"] for line in lines}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", DECODE_ALL, str(MEMORY_BYTES)],
        input="".join(f"{folder / file}\n" for file in manifest),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    *outcomes, peak_kib = run.stdout.splitlines()
    return Odd(folder, manifest, dict(zip(manifest, outcomes, strict=True)), run.stderr, int(peak_kib) * 1024)


def test_every_odd_file_ends_in_exactly_one_outcome(odd: Odd) -> None:
    kinds = Counter(outcome if outcome.endswith("Error") else "decoded" for outcome in odd.outcomes.values())

    assert kinds == {
        "decoded": 189,
        "ImageUnreadableError": 53,
        "NotAnImageError": 9,
        "ImageTooLargeError": 2,
    }
    assert odd.standard_error == ""
    assert odd.peak_bytes < 1 << 30


def test_a_file_decodes_where_pillow_decodes_it_at_once(odd: Odd) -> None:
    decoded = {file for file, outcome in odd.outcomes.items() if not outcome.endswith("Error")}
    ok = {file for file, outcome in odd.manifest.items() if outcome == "ok"}

    assert decoded == ok - DAMAGED_THOUGH_OK | WHOLE_THOUGH_REFUSED


@pytest.mark.parametrize(
    ("file", "outcome"),
    [
        ("truncated_10pct.jpg", "ImageUnreadableError"),
        ("truncated_90pct.jpg", "ImageUnreadableError"),
        ("truncated.png", "ImageUnreadableError"),
        ("png_bad_crc.png", "ImageUnreadableError"),
        ("empty.jpg", "NotAnImageError"),
        ("text.jpg", "NotAnImageError"),
        ("html.png", "NotAnImageError"),
        ("bomb_14000x14000_gray.png", "ImageTooLargeError"),
        ("forged_dims_65500.jpg", "ImageTooLargeError"),
        ("big_10000x10000_gray.png", "10000x10000x3"),
        ("jpeg_named.png", "320x480x3"),
        ("png_named.jpg", "320x480x3"),
        ("1x1.png", "1x1x3"),
        ("3000x1.png", "1x3000x3"),
        ("1x3000.jpg", "3000x1x3"),
        ("multipage.tiff", "320x480x3"),
    ],
)
def test_a_derived_file_does_what_its_maker_expected(odd: Odd, file: str, outcome: str) -> None:
    assert odd.outcomes[f"derived/{file}"] == outcome


# Those with a difference were encoded anew: noise of the codec, and of the palette for GIF.
@pytest.mark.parametrize(
    ("file", "mean_difference"),
    [
        *((f"orientation_{n}.jpg", 3) for n in range(2, 9)),
        ("garbage_tail.jpg", 0),
        ("name with space & ünïcødé 猫.jpg", 0),
        ("progressive.jpg", 6),
        ("cmyk.jpg", 6),
        ("animated.apng.png", 6),
        ("animated.gif", 12),
        ("animated.webp", 6),
        ("multipage.tiff", 6),
    ],
)
def test_a_derived_picture_looks_like_the_plain_one(odd: Odd, file: str, mean_difference: float) -> None:
    plain = read_image_file(odd.folder / "derived" / "plain.jpg").pixels
    other = read_image_file(odd.folder / "derived" / file).pixels

    assert other.shape == plain.shape
    assert np.abs(other.astype(int) - plain).mean() <= mean_difference


def test_grey_versions_of_the_plain_picture_keep_its_brightness(odd: Odd) -> None:
    plain = read_image_file(odd.folder / "derived" / "plain.jpg").pixels.astype(float)
    luminance = plain @ [0.299, 0.587, 0.114]

    for file in ("gray.jpg", "gray16.png"):
        other = read_image_file(odd.folder / "derived" / file).pixels[:, :, 0]
        assert np.abs(other - luminance).mean() < 6


def test_time_and_place_are_read_from_real_cameras(odd: Odd) -> None:
    nikon = read_image_file(odd.folder / "exif-samples" / "DSCN0010.jpg")

    assert nikon.captured_s == 1224692919  # 2008-10-22 16:28:39
    assert nikon.place_lat_lon == pytest.approx((43.467448, 11.885127), abs=1e-6)
