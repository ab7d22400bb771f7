"""The pictures and cut-outs of an export."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from segdex.answers import rgba_image
from segdex.render.drawing import png_of
from segdex_core.errors import ImageError
from segdex_core.formats.annotations import AnnotatedImage, Annotation
from segdex_core.formats.export import OutFile
from segdex_core.formats.table import COLUMNS, csv_line, row_of
from segdex_core.masks import decode_mask
from segdex_core.media.exif import orientation_of
from segdex_core.media.pillow import PILLOW_ERRORS
from segdex_core.media.uris import display_path
from segdex_core.ports.decoder import Decode
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord, RGBImage
from segdex_core.wire.images import MissingPicture
from segdex_ingest.again import bytes_again, read_again, require_unchanged

T = TypeVar("T")

_SAVED: dict[str, dict[str, Any]] = {
    "JPEG": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "MPO": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "PNG": {"format": "PNG"},
    "TIFF": {"format": "TIFF", "compression": "tiff_deflate"},
    "WEBP": {"format": "WEBP", "lossless": True},
}
"""How a picture is saved that lies on its side, by its format; others turn their pictures themselves."""


@dataclass(slots=True)
class PictureFiles:
    """Reads the files of pictures, and notes those that cannot be read.

    Attributes:
        source: Source of the files.
        decode: Decodes them.
        max_pixels: Images with more pixels are not decoded.
        missing: Pictures that could not be read, in the order of the export.
    """

    source: Source
    decode: Decode
    max_pixels: int
    missing: list[MissingPicture] = field(default_factory=list)

    def upright(self, record: ImageRecord) -> bytes | None:
        """Return the content of a file, made anew to turn its picture upright; None if it is missing."""
        return self._noted(record, lambda: self._upright(record))

    def pixels(self, record: ImageRecord) -> RGBImage | None:
        """Return the upright pixels of a picture; None if it is missing."""
        return self._noted(
            record,
            lambda: read_again(record, source=self.source, max_pixels=self.max_pixels, decode=self.decode),
        )

    def is_there(self, record: ImageRecord) -> bool:
        """Return whether a file of a picture still has the ingested bytes."""

        def check() -> bool:
            require_unchanged(record, source=self.source)
            return True

        return self._noted(record, check) or False

    def _upright(self, record: ImageRecord) -> bytes:
        data = bytes_again(record, source=self.source)
        options = _turned(data)
        if options is None:
            return data
        pixels = self.decode(data, name=display_path(record.files[0].uri), max_pixels=self.max_pixels).pixels
        made = BytesIO()
        Image.fromarray(pixels).save(made, **options)
        return made.getvalue()

    def _noted(self, record: ImageRecord, read: Callable[[], T]) -> T | None:
        try:
            found = read()
        except ImageError as error:
            path = display_path(record.files[0].uri)
            reason = str(error).removeprefix(f"{path}: ")
            if all(one.id != record.image_id for one in self.missing):
                self.missing.append(MissingPicture(id=record.image_id, path=path, reason=reason))
            return None
        return found


def _turned(data: bytes) -> dict[str, Any] | None:
    """Return how to save a picture that does not lie upright in its file; None for one that does."""
    try:
        with Image.open(BytesIO(data)) as image:
            options = _SAVED.get(image.format or "")
            if options is None:
                return None
            if image.format == "PNG":
                image.load()  # its metadata may come last
            return options if orientation_of(image) != 1 else None
    except PILLOW_ERRORS:  # a format that only the decoder knows
        return None


def cut_outs(image: AnnotatedImage, pixels: RGBImage) -> Iterator[OutFile]:
    """Yield a PNG of each annotation, cropped to its box and transparent outside the mask."""
    for one in image.annotations:
        box = one.box
        mask = decode_mask(one.mask)[box.y1 : box.y2, box.x1 : box.x2]
        part = np.ascontiguousarray(pixels[box.y1 : box.y2, box.x1 : box.x2])
        yield OutFile(cut_out_name(image, one), [png_of(rgba_image(part, mask))])


def cut_out_name(image: AnnotatedImage, one: Annotation) -> str:
    """Return the name of the PNG of an annotation: below a folder with the name of its image."""
    return f"cutouts/{PurePosixPath(image.file_name).with_suffix('')}/{one.segment_id}.png"


def cut_out_table(images: Iterator[AnnotatedImage], without: frozenset[str]) -> Iterator[bytes]:
    """Yield the table of the cut-outs: that of the format ``csv`` with the name of each PNG.

    Args:
        images: Images of the export.
        without: Ids of images that could not be read, whose segments have no PNG.
    """
    yield csv_line(("cutout", *COLUMNS))
    for image in images:
        for one in image.annotations:
            name = None if str(image.image_id) in without else cut_out_name(image, one)
            yield csv_line((name, *row_of(image, one)))
