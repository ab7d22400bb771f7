"""Whole files of every format, which the fuzzer damages: made by Pillow, and those of ``shared/data/odd``."""

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

_MAX_BYTES = 100_000
"""Larger files of other makers are left out: a mutation would seldom hit what is read."""


def made_files() -> list[tuple[str, bytes]]:
    """Return a name and the bytes of small files in every format, mode and compression that Pillow writes."""
    return list(_made())


def found_files() -> list[tuple[str, bytes]]:
    """Return the name and bytes of the small files of ``shared/data/odd``; none where that is not there."""
    folder = Path(os.environ.get("SEGDEX_SHARED", "../shared")) / "data" / "odd"
    paths = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.suffix not in {".jsonl", ".md"}
    )
    return [
        (str(path.relative_to(folder)), path.read_bytes())
        for path in paths
        if path.stat().st_size <= _MAX_BYTES
    ]


def _made() -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(1)
    rgb = Image.fromarray(rng.integers(0, 255, (40, 56, 3), np.uint8)).resize((112, 80))
    grey, rgba = rgb.convert("L"), rgb.convert("RGBA")
    rgba.putalpha(grey)
    deep = Image.fromarray(rng.integers(0, 65535, (80, 112)).astype(np.uint16))
    floats = Image.fromarray(rng.random((80, 112)).astype(np.float32))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "2020:02:03 04:05:06"
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0), 3: "E", 4: (4.0, 5.0, 6.0)})
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b" * 500, zip=True)
    text.add_itxt("c", "d" * 500, zip=True)

    def frames() -> list[Image.Image]:  # new ones, as a format leaves its options in an image
        return [rgb.rotate(10 * number) for number in range(1, 4)]

    def of(name: str, image: Image.Image, kind: str, **options: object) -> tuple[str, bytes]:
        buffer = BytesIO()
        image.copy().save(buffer, kind, **options)
        return name, buffer.getvalue()

    yield of("baseline.jpg", rgb, "JPEG", exif=exif, icc_profile=b"p" * 300, xmp=b"<x/>" * 50)
    yield of("progressive.jpg", rgb, "JPEG", progressive=True, restart_marker_rows=1)
    yield of("grey.jpg", grey, "JPEG", quality=20)
    yield of("cmyk.jpg", rgb.convert("CMYK"), "JPEG")
    yield of("several.mpo", rgb, "MPO", save_all=True, append_images=frames())
    for name, image in (
        ("rgb", rgb),
        ("rgba", rgba),
        ("grey", grey),
        ("alpha", rgba.convert("LA")),
        ("palette", rgb.quantize(17)),
        ("two", grey.convert("1")),
        ("deep", deep),
    ):
        yield of(f"{name}.png", image, "PNG", pnginfo=text, exif=exif)
    yield of("animated.png", rgb, "PNG", save_all=True, append_images=frames())
    yield of("one.gif", rgb.quantize(30), "GIF", transparency=3)
    yield of("animated.gif", rgb, "GIF", save_all=True, append_images=frames(), comment=b"c" * 300)
    yield of("lossy.webp", rgb, "WEBP", exif=exif)
    yield of("lossless.webp", rgba, "WEBP", lossless=True)
    yield of("animated.webp", rgb, "WEBP", save_all=True, append_images=frames())
    yield of("one.avif", rgb, "AVIF", speed=10, exif=exif)
    yield of("alpha.avif", rgba, "AVIF", speed=10)
    yield of("animated.avif", rgb, "AVIF", speed=10, save_all=True, append_images=frames())
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"):
        yield of(f"{compression}.tif", rgb, "TIFF", compression=compression)
    yield of("group4.tif", grey.convert("1"), "TIFF", compression="group4")
    yield of("deep.tif", deep, "TIFF", compression="tiff_lzw")
    yield of("floats.tif", floats, "TIFF")
    yield of("lab.tif", rgb.convert("LAB"), "TIFF")
    yield of("big.tif", rgb, "TIFF", big_tiff=True)
    yield of("pages.tif", rgb, "TIFF", save_all=True, append_images=frames())
    yield of("one.bmp", rgb, "BMP")
    yield of("palette.bmp", rgb.quantize(17), "BMP")
    yield of("rgb.ppm", rgb, "PPM")
    yield of("grey.pgm", grey, "PPM")
    yield of("floats.pfm", floats, "PPM")
    yield of("one.jp2", rgb, "JPEG2000")
    yield of("tiled.j2k", rgba, "JPEG2000", tile_size=(64, 64), no_jp2=True)
    yield of("one.ico", rgba, "ICO", sizes=[(16, 16), (32, 32)])
    yield of("bmp.ico", rgba, "ICO", sizes=[(16, 16), (32, 32)], bitmap_format="bmp")
