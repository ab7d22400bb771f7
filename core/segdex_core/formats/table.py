"""A table of segments for spreadsheets and data frames: CSV (RFC 4180) in UTF-8, without the masks."""

import csv
from collections.abc import Iterator
from io import StringIO

from segdex_core.formats.annotations import AnnotatedImage, Annotation
from segdex_core.formats.export import Dataset, FormatOptions, LossMeter, OutFile
from segdex_core.wire.document import utc_text

IMAGE_COLUMNS = ("file_name", "image_id", "image_width", "image_height", "captured_at")
SEGMENT_COLUMNS = (
    "segment_id",
    "category",
    "labels",
    "score",
    "x1",
    "y1",
    "x2",
    "y2",
    "area_px",
    "area_fraction",
    "predicted_iou",
    "object_score",
)
COLUMNS = (*IMAGE_COLUMNS, *SEGMENT_COLUMNS, "uri", "sha256")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_DECIMALS = 6


def write_csv(dataset: Dataset, options: FormatOptions, loss: LossMeter) -> Iterator[OutFile]:
    """Yield ``segments.csv``: a header, and one line for each segment."""
    del options, loss
    yield OutFile("segments.csv", _table(dataset))


def csv_line(cells: tuple[object, ...]) -> bytes:
    r"""Return a line of a table.

    A text that spreadsheets would take for a formula has an apostrophe before it.

    Example:
        >>> csv_line(("=1+1", -0.5, "a, b", None))
        b'\'=1+1,-0.5,"a, b",\r\n'
    """
    line = StringIO()
    csv.writer(line).writerow([_cell(cell) for cell in cells])
    return line.getvalue().encode("utf-8", "backslashreplace")


def row_of(image: AnnotatedImage, one: Annotation) -> tuple[object, ...]:
    """Return the cells of a segment, in the order of ``COLUMNS``."""
    return (
        image.file_name,
        image.image_id,
        image.width,
        image.height,
        utc_text(image.captured_s),
        one.segment_id,
        one.category,
        "; ".join(one.labels),
        None if one.score is None else round(one.score, _DECIMALS),
        *one.box,
        one.area_px,
        round(one.area_px / (image.width * image.height), _DECIMALS),
        round(one.predicted_iou, _DECIMALS),
        round(one.object_score, _DECIMALS),
        image.uri,
        image.sha256,
    )


def _table(dataset: Dataset) -> Iterator[bytes]:
    yield csv_line(COLUMNS)
    for image in dataset.images:
        for one in image.annotations:
            yield csv_line(row_of(image, one))


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
