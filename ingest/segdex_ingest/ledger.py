"""The ledger in memory during an ingest: which files are known, and under which content."""

from collections.abc import Iterable
from uuid import UUID

from segdex_core.ports.source import FileVersion
from segdex_core.records import ImageFile, ImageRecord


class Ledger:
    """The pictures of an index by id and by file; changed only beside the same change of the index."""

    def __init__(self, records: Iterable[ImageRecord]) -> None:
        self._by_id: dict[UUID, ImageRecord] = {}
        self._ids_by_uri: dict[str, set[UUID]] = {}
        for record in records:
            self.put(record)

    def get(self, image_id: UUID) -> ImageRecord | None:
        """Return the picture with these bytes."""
        return self._by_id.get(image_id)

    def at(self, uri: str) -> list[ImageRecord]:
        """Return the pictures last seen at a file; more than one after a crash during a replacement."""
        records = (self._by_id.get(image_id) for image_id in sorted(self._ids_by_uri.get(uri, ())))
        # threads look files up while the main thread is in the middle of a change
        return [record for record in records if record is not None]

    def find(self, uri: str, version: FileVersion) -> ImageRecord | None:
        """Return the picture at a file whose version is still the same."""
        for record in self.at(uri):
            if record.size_bytes == version.size_bytes and ImageFile(uri, version.mtime_ns) in record.files:
                return record
        return None

    def put(self, record: ImageRecord) -> None:
        """Add or replace a picture."""
        self.remove(record.image_id)
        self._by_id[record.image_id] = record
        for file in record.files:
            self._ids_by_uri.setdefault(file.uri, set()).add(record.image_id)

    def remove(self, image_id: UUID) -> None:
        """Remove a picture; nothing happens if it is not known."""
        record = self._by_id.pop(image_id, None)
        for file in record.files if record else ():
            self._ids_by_uri[file.uri].discard(image_id)
