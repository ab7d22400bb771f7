"""Backups as Parquet files.

::

    PATH/index.json        format, versions, models, sizes and checksums; written last
    PATH/images.parquet    the ledger of images with whole-image vectors
    PATH/segments.parquet  segments with masks, labels and a vector of each view, image by image
    PATH/sets.parquet      named sets
    PATH/members.parquet   members of the sets
    PATH/concepts.parquet  saved concepts
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from segdex_backends.backup import columns
from segdex_backends.models.checksums import file_sha256
from segdex_core.dump import DumpCounts, DumpedImages, IndexDump
from segdex_core.errors import BackupInvalidError, BackupStorageError, UsageError
from segdex_core.files import make_folder, sync, sync_folder
from segdex_core.records import (
    SCHEMA_VERSION,
    EmbeddedSegments,
    ImageRecord,
    IndexCounts,
    IndexFingerprint,
    MaskRecipe,
    SegmentRecord,
)

FORMAT = "segdex-backup"
FORMAT_VERSION = 1

_MANIFEST = "index.json"
_TABLES = ("images", "segments", "sets", "members", "concepts")
_COMPRESSION = "zstd"
_IMAGES_AT_ONCE = 32
_ROWS_AT_ONCE = 512

T = TypeVar("T")
_Make = Callable[[Mapping[str, Any]], T]


class ParquetFormat:
    """The ``BackupFormat`` of this module."""

    def write(self, dump: IndexDump, path: Path) -> DumpCounts:
        """See ``BackupFormat``. ``path`` becomes a folder."""
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} exists; give --out a new name")
        part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
        try:
            make_folder(path.parent)
            part.mkdir()
            counts = _write(dump, part)
            for file in part.iterdir():
                sync(file)
            sync_folder(part)
            part.rename(path)
            sync_folder(path.parent)
        except OSError as error:
            raise BackupStorageError(
                f"the backup {path} cannot be written: {error.strerror or error}; make room, or choose "
                "another --out"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return counts

    def open(self, path: Path) -> "ParquetBackup":
        """See ``BackupFormat``."""
        return ParquetBackup(path)


class ParquetBackup:
    """A backup that was opened and verified.

    Args:
        path: Folder that ``ParquetFormat.write`` wrote.

    Raises:
        BackupInvalidError: If the folder is no backup, a file of it is damaged or missing, or a newer segdex
            wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._manifest = _verified(path)
        try:
            self.fingerprint = _fingerprint(self._manifest["fingerprint"])
            self.counts = DumpCounts(
                IndexCounts(self._rows("images"), self._rows("segments")),
                self._rows("sets"),
                self._rows("concepts"),
            )
            self._recipes = {recipe: MaskRecipe(**made) for recipe, made in self._manifest["recipes"].items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(path / _MANIFEST, error) from error

    def records(self) -> Iterator[ImageRecord]:
        """Yield the images."""
        for batch in self._batches("images"):
            yield from self._made(columns.image_from_row, batch, "images")

    def dump(self) -> IndexDump:
        """Return the content."""
        return IndexDump(
            fingerprint=self.fingerprint,
            recipes=self._recipes,
            images=self._images(),
            sets=self._all(columns.set_from_row, "sets"),
            members=self._all(columns.member_from_row, "members"),
            concepts=self._all(columns.concept_from_row, "concepts"),
        )

    def _images(self) -> Iterator[DumpedImages]:
        views = self.fingerprint.views
        segments = _Segments(self._batches("segments"), views, self.fingerprint.dim, self._segments_of)
        for batch in self._batches("images"):
            records = self._made(columns.image_from_row, batch, "images")
            some = segments.take(sum(record.segment_count for record in records))
            ids = {record.image_id for record in records}
            if any(one.image_id not in ids for one in some.records):
                raise _damaged(
                    self._path / "segments.parquet", "segments and pictures do not belong together"
                )
            yield DumpedImages(records, columns.vectors_of(batch, columns.VECTOR), some)
        if segments.left():
            raise _damaged(self._path / "segments.parquet", "segments without a picture")

    def _segments_of(self, batch: pa.RecordBatch) -> list[SegmentRecord]:
        return self._made(columns.segment_from_row, batch, "segments")

    def _all(self, make: _Make[T], table: str) -> list[T]:
        return [one for batch in self._batches(table) for one in self._made(make, batch, table)]

    def _made(self, make: _Make[T], batch: pa.RecordBatch, table: str) -> list[T]:
        try:
            return [make(row) for row in columns.rows_of(batch)]
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(self._path / f"{table}.parquet", error) from error

    def _batches(self, table: str) -> Iterator[pa.RecordBatch]:
        file = self._path / f"{table}.parquet"
        try:
            # Arrow opens no path that is not UTF-8
            with file.open("rb") as content, parquet.ParquetFile(content) as opened:
                yield from opened.iter_batches(
                    batch_size=_IMAGES_AT_ONCE if table == "images" else _ROWS_AT_ONCE
                )
        except (OSError, pa.ArrowException) as error:
            raise _damaged(file, error) from error

    def _rows(self, table: str) -> int:
        return int(self._manifest["files"][f"{table}.parquet"]["rows"])


class _Segments:
    """Segments of a file, taken in any numbers.

    Args:
        batches: Batches of the file.
        views: Views that have a vector.
        dim: Length of a vector.
        make: Returns the segments of a batch.
    """

    def __init__(
        self,
        batches: Iterator[pa.RecordBatch],
        views: Sequence[str],
        dim: int,
        make: Callable[[pa.RecordBatch], list[SegmentRecord]],
    ) -> None:
        self._batches, self._views, self._dim, self._make = batches, views, dim, make
        self._records: list[SegmentRecord] = []
        self._vectors = {view: np.zeros((0, dim), np.float32) for view in views}

    def take(self, count: int) -> EmbeddedSegments:
        """Return the next segments, fewer than ``count`` at the end."""
        while len(self._records) < count and self._read():
            pass
        taken = EmbeddedSegments(
            self._records[:count], {view: rows[:count] for view, rows in self._vectors.items()}
        )
        self._records = self._records[count:]
        self._vectors = {view: rows[count:] for view, rows in self._vectors.items()}
        return taken

    def left(self) -> bool:
        """Return whether there are further segments."""
        return bool(self._records) or self._read()

    def _read(self) -> bool:
        batch = next(self._batches, None)
        if batch is None:
            return False
        self._records += self._make(batch)
        for view in self._views:
            rows = columns.vectors_of(batch, f"{columns.VECTOR}_{view}")
            self._vectors[view] = np.concatenate([self._vectors[view], rows])
        return True


def _write(dump: IndexDump, folder: Path) -> DumpCounts:
    views, dim = dump.fingerprint.views, dump.fingerprint.dim
    images = segments = 0
    with (
        _writer(folder, "images", columns.image_schema(dim)) as image_file,
        _writer(folder, "segments", columns.segment_schema(dim, views)) as segment_file,
    ):
        for batch in dump.images:
            image_file.write_table(columns.images_to_table(batch.records, batch.vectors))
            if batch.segments.records:
                segment_file.write_table(columns.segments_to_table(batch.segments, views))
            images += len(batch.records)
            segments += len(batch.segments.records)
    small = {
        "sets": columns.sets_to_table(dump.sets),
        "members": columns.members_to_table(dump.members),
        "concepts": columns.concepts_to_table(dump.concepts),
    }
    for name, table in small.items():
        with _writer(folder, name, table.schema) as file:
            file.write_table(table)
    rows = {"images": images, "segments": segments, **{name: len(table) for name, table in small.items()}}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "schema_version": SCHEMA_VERSION,
        "segdex": version("segdex"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": asdict(dump.fingerprint),
        "recipes": {recipe: asdict(made) for recipe, made in dump.recipes.items()},
        "files": {
            f"{name}.parquet": {"rows": rows[name], "sha256": file_sha256(folder / f"{name}.parquet")}
            for name in _TABLES
        },
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2))
    return DumpCounts(IndexCounts(images, segments), len(dump.sets), len(dump.concepts))


@contextmanager
def _writer(folder: Path, name: str, schema: pa.Schema) -> Iterator[parquet.ParquetWriter]:
    # Arrow opens no path that is not UTF-8
    with (
        (folder / f"{name}.parquet").open("wb") as file,
        parquet.ParquetWriter(file, schema, compression=_COMPRESSION) as writer,
    ):
        yield writer


def _verified(path: Path) -> Mapping[str, Any]:
    """Return the manifest of a backup whose files all have the checksums that it says."""
    manifest = path / _MANIFEST
    try:
        found = json.loads(manifest.read_bytes())
    except OSError as error:
        raise BackupInvalidError(
            f"{path} is no backup of segdex ({manifest.name}: {error.strerror}); name the folder that "
            "`segdex export --format parquet --out FOLDER` wrote"
        ) from error
    except ValueError as error:
        raise _damaged(manifest, "it is not JSON") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BackupInvalidError(f"{manifest} is not the description of a backup of segdex")
    if found.get("format_version") != FORMAT_VERSION or found.get("schema_version") != SCHEMA_VERSION:
        raise BackupInvalidError(
            f"{path} has format {found.get('format_version')} and schema {found.get('schema_version')}, but "
            f"this segdex reads format {FORMAT_VERSION} and schema {SCHEMA_VERSION}; restore it with segdex "
            f"{found.get('segdex')}"
        )
    for name in _TABLES:
        file = path / f"{name}.parquet"
        try:
            wanted = str(found["files"][file.name]["sha256"])
            actual = file_sha256(file)
        except OSError as error:
            raise _damaged(file, str(error.strerror)) from error
        except (KeyError, TypeError) as error:
            raise _damaged(manifest, error) from error
        if actual != wanted:
            raise _damaged(file, "its checksum is another one than was written")
    return found


def _fingerprint(stored: Mapping[str, Any]) -> IndexFingerprint:
    return IndexFingerprint(**{**stored, "views": tuple(stored["views"])})


def _damaged(file: Path, reason: object) -> BackupInvalidError:
    return BackupInvalidError(f"the backup is damaged: {file}: {reason}; restore another backup")
