"""What every export format writes: named files, made piece by piece, and what the format loses."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from segdex_core.formats.annotations import AnnotatedImage


@dataclass(frozen=True, slots=True)
class OutFile:
    """A file of an export.

    Attributes:
        name: Relative path with ``/`` in the folder or archive of the export.
        chunks: Content in pieces, made while it is written, so that memory stays small. It is read once, and
            to its end before the next file is asked for.
    """

    name: str
    chunks: Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Dataset:
    """The images and annotations of an export.

    Attributes:
        images: Images in the order of their file names. It may be iterated several times, and yields the same
            images each time; it is not held in memory.
        categories: Names of all categories of the annotations, sorted; see ``category_ids``.
    """

    images: Iterable[AnnotatedImage]
    categories: Sequence[str]


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """Options that some formats heed.

    Attributes:
        tolerance_px: Largest distance in pixels between an outline and its polygon; 0 keeps every corner.
        url_prefix: Text before the file name of an image where a format names images by address; None for the
            usual one of the tool.
        has_pictures: Whether the export holds copies of the pictures.
    """

    tolerance_px: float = 0.0
    url_prefix: str | None = None
    has_pictures: bool = False


@dataclass(frozen=True, slots=True)
class Loss:
    """What a format without masks loses.

    Attributes:
        segments: Number of segments that were compared.
        mean_iou: Mean IoU of the stored masks and the masks that a reader makes of the export; 1 for none.
        lowest_iou: Lowest of these IoUs.
        lowest_segment_id: Segment of the lowest IoU; None if there are no segments.
        lost_holes: Number of holes that are filled.
        joined_parts: Number of segments whose parts are joined to one outline.
        left_out: Number of segments that the format cannot hold at all.
    """

    segments: int = 0
    mean_iou: float = 1.0
    lowest_iou: float = 1.0
    lowest_segment_id: UUID | None = None
    lost_holes: int = 0
    joined_parts: int = 0
    left_out: int = 0


@dataclass(slots=True)
class LossMeter:
    """Adds up what a format loses while it writes. Formats that keep every mask add nothing."""

    _ious: float = field(default=0.0, init=False)
    _loss: Loss = field(default_factory=Loss, init=False)

    def add(
        self,
        segment_id: UUID,
        iou: float,
        *,
        lost_holes: int = 0,
        joined: bool = False,
        left_out: bool = False,
    ) -> None:
        """Note a segment.

        Args:
            segment_id: Id of the segment.
            iou: IoU of the stored mask and the mask that a reader makes of the export; 0 if it is left out.
            lost_holes: Number of its holes that are filled.
            joined: Whether several parts were joined to one outline.
            left_out: Whether the export does not have the segment.
        """
        before = self._loss
        self._ious += iou
        is_lowest = before.lowest_segment_id is None or iou < before.lowest_iou
        self._loss = Loss(
            segments=before.segments + 1,
            mean_iou=self._ious / (before.segments + 1),
            lowest_iou=iou if is_lowest else before.lowest_iou,
            lowest_segment_id=segment_id if is_lowest else before.lowest_segment_id,
            lost_holes=before.lost_holes + lost_holes,
            joined_parts=before.joined_parts + joined,
            left_out=before.left_out + left_out,
        )

    @property
    def loss(self) -> Loss | None:
        """What was lost so far; None if the format keeps every mask."""
        return self._loss if self._loss.segments else None


class WriteFiles(Protocol):
    """Writes a dataset in a format: a generator function, pure but for the ``LossMeter``."""

    def __call__(self, dataset: Dataset, options: FormatOptions, loss: LossMeter) -> Iterator[OutFile]:
        """Yield the files of the export, without the pictures.

        Equal datasets give equal bytes: no time, no random id, no order of a set or dictionary that varies.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A format of ``segdex export``.

    Attributes:
        write: Writes the annotations.
        document: Name of the one file that ``write`` yields, such as ``annotations.json``; empty if it yields
            several. An export of one document without pictures may be a file instead of a folder.
        pictures: Folder of the copied pictures in the export, below which their ``file_name`` is.
        copies_pictures: Whether pictures are copied by default, because the tool finds them by this folder.
        has_polygons: Whether masks become polygons, so that ``tolerance_px`` counts.
        has_safe_names: Whether file names are always those of copied pictures: unique without their suffixes,
            and possible on every file system.
    """

    write: WriteFiles
    document: str = ""
    pictures: str = "images"
    copies_pictures: bool = False
    has_polygons: bool = False
    has_safe_names: bool = False
