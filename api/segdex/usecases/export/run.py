"""One export: its images are chosen first, and its files are made while they are written."""

import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO
from uuid import UUID

from segdex.arguments import IngestProgress
from segdex.saving import copies_pictures, format_of
from segdex.usecases.export.choose import Choice, annotated, named
from segdex.usecases.export.pictures import PictureFiles, cut_out_table, cut_outs
from segdex_core.errors import UsageError
from segdex_core.formats.annotations import AnnotatedImage
from segdex_core.formats.export import Dataset, ExportFormat, FormatOptions, LossMeter, OutFile
from segdex_core.formats.outlines import DEFAULT_TOLERANCE_PX
from segdex_core.media.uris import display_path
from segdex_core.ports.index import SegmentIndex
from segdex_core.records import ImageRecord
from segdex_core.wire.export import RECORD_FILE, Exported, ExportLoss, ExportOptions
from segdex_core.wire.images import IngestedFile
from segdex_core.wording import printable

_IN_MEMORY_BYTES = 16 << 20


class Export:
    """The files of an export, made while they are iterated.

    Everything that can be wrong with the request is found when the object is made: afterwards only pictures
    can be missing. ``close`` removes the temporary file that holds the annotations.

    Args:
        index: Index to export from.
        choice: What to export.
        options: How to export it.
        pictures: Reads the pictures.
        progress: Callbacks that report the progress.

    Raises:
        UsageError: If there is nothing to export.
    """

    def __init__(
        self,
        index: SegmentIndex,
        choice: Choice,
        options: ExportOptions,
        *,
        pictures: PictureFiles,
        progress: IngestProgress,
    ) -> None:
        self._options = options
        self._pictures = pictures
        self._progress = progress
        self._form = format_of(options.format)
        self._has_copies = copies_pictures(options)
        self._index = index
        self._loss = LossMeter()
        self._copied = 0
        if not choice.uris:
            raise UsageError("nothing to export: no segment matches; nothing was written")
        is_safe = self._has_copies or self._form is None or self._form.has_safe_names
        self._named = named(choice, safe=is_safe)
        self._renamed = _renamed(self._named.root, choice.uris, self._named.names)
        self._stored = _Stored()
        self._categories: Counter[str] = Counter()
        progress.on_start(len(self._named.names))
        try:
            for image, record in annotated(index, choice, self._named.names):
                self._stored.add(image, record)
                self._categories.update(one.category for one in image.annotations)
                self._tell(image)
            if not self._categories:
                raise UsageError("nothing to export: no segment matches; nothing was written")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the temporary file."""
        self._stored.close()

    def files(self) -> Iterator[OutFile]:
        """Yield the files in order; each must be read to its end before the next. The record comes last."""
        self._progress.on_note("writing the files")
        if self._form is None:
            yield from self._cut_outs()
        else:
            yield from self._annotations(self._form)
            if self._has_copies:
                yield from self._copies(self._form.pictures)
        self._progress.on_note("")
        yield OutFile(RECORD_FILE, self._record())

    def record(self) -> Exported:
        """Return what was exported; complete after the last of the files."""
        loss = self._loss.loss
        return Exported(
            format=self._options.format,
            root=printable(self._named.root),
            images=self._stored.images,
            segments=self._categories.total(),
            categories=dict(sorted(self._categories.items())),
            pictures=self._copied,
            missing=list(self._pictures.missing),
            renamed=self._renamed,
            loss=None if loss is None else ExportLoss(**asdict(loss)),
        )

    def _annotations(self, form: ExportFormat) -> Iterator[OutFile]:
        tolerance_px = self._options.tolerance_px
        options = FormatOptions(
            tolerance_px=DEFAULT_TOLERANCE_PX if tolerance_px is None else tolerance_px,
            url_prefix=self._options.url_prefix,
            has_pictures=self._has_copies,
        )
        yield from form.write(Dataset(self._stored, sorted(self._categories)), options, self._loss)

    def _copies(self, folder: str) -> Iterator[OutFile]:
        for image, record in self._stored.with_records():
            data = self._pictures.upright(record)
            if data is not None:
                self._copied += 1
                yield OutFile(f"{folder}/{image.file_name}", [data])

    def _cut_outs(self) -> Iterator[OutFile]:
        for image, record in self._stored.with_records():
            pixels = self._pictures.pixels(record)
            if pixels is not None:
                yield from cut_outs(image, pixels)
        without = frozenset(str(one.id) for one in self._pictures.missing)
        yield OutFile("cutouts.csv", cut_out_table(iter(self._stored), without))

    def _record(self) -> Iterator[bytes]:
        yield self.record().model_dump_json(indent=2).encode() + b"\n"

    def _tell(self, image: AnnotatedImage) -> None:
        self._progress.on_file(
            IngestedFile(
                uri=image.uri,
                path=display_path(image.uri),
                outcome="exported",
                detail="",
                image_id=image.image_id,
                segments=len(image.annotations),
            )
        )


class _Stored:
    """Annotated images in a temporary file, in their order, to be read several times."""

    def __init__(self) -> None:
        self._file: IO[bytes] = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by its owner
        self.images = 0

    def close(self) -> None:
        self._file.close()

    def add(self, image: AnnotatedImage, record: ImageRecord) -> None:
        pickle.dump((image, record), self._file, pickle.HIGHEST_PROTOCOL)
        self.images += 1

    def with_records(self) -> Iterator[tuple[AnnotatedImage, ImageRecord]]:
        place = 0
        for _ in range(self.images):
            self._file.seek(place)  # another iteration may be under way
            image, record = pickle.load(self._file)  # noqa: S301 - written by this process
            place = self._file.tell()
            yield image, record

    def __iter__(self) -> Iterator[AnnotatedImage]:
        return (image for image, _ in self.with_records())


def _renamed(root: str, uris: Mapping[UUID, str], names: Mapping[UUID, str]) -> dict[str, str]:
    """Return the names that are not the paths of their files below the root, by these paths."""
    paths = {image_id: display_path(uris[image_id]) for image_id in names}
    return {
        path: names[image_id]
        for image_id, path in paths.items()
        if path != printable(str(Path(root) / names[image_id]))
    }
