"""The ledger in memory during an ingest: the known images and their files."""

from collections.abc import Iterable
from uuid import UUID

from segdex_core.ports.source import FileVersion
from segdex_core.records import ImageFile, ImageRecord


class Ledger:
    """The images of an index by id and by file. An ingest updates it after each write to the index."""

    def __init__(self, records: Iterable[ImageRecord]) -> None:
        self._by_id: dict[UUID, ImageRecord] = {}
        self._mtimes_ns: dict[str, dict[UUID, int]] = {}
        for record in records:
            self.put(record)

    def get(self, image_id: UUID) -> ImageRecord | None:
        """Return the image with an id, or None."""
        return self._by_id.get(image_id)

    def at(self, uri: str) -> list[ImageRecord]:
        """Return the images last seen at a file; several if a crash interrupted a replacement."""
        records = (self._by_id.get(image_id) for image_id in sorted(self._mtimes_ns.get(uri, ())))
        # reader threads look up files while the main thread changes the ledger
        return [record for record in records if record is not None]

    def holds(self, image_id: UUID, file: ImageFile) -> bool:
        """Return whether an image is known to be in a file, with this time."""
        return self._mtimes_ns.get(file.uri, {}).get(image_id) == file.mtime_ns

    def find(self, uri: str, version: FileVersion) -> ImageRecord | None:
        """Return the image at a file whose version has not changed, or None."""
        file = ImageFile(uri, version.mtime_ns)
        for record in self.at(uri):
            if record.size_bytes == version.size_bytes and self.holds(record.image_id, file):
                return record
        return None

    def put(self, record: ImageRecord) -> None:
        """Add or replace an image."""
        self.remove(record.image_id)
        self._by_id[record.image_id] = record
        for file in record.files:
            self._mtimes_ns.setdefault(file.uri, {})[record.image_id] = file.mtime_ns

    def remove(self, image_id: UUID) -> None:
        """Remove an image; unknown ids are ignored."""
        record = self._by_id.pop(image_id, None)
        for file in record.files if record else ():
            self._mtimes_ns[file.uri].pop(image_id, None)
