"""The files of one image during an ingest: what changed is gathered and written together.

An image may have thousands of files with equal bytes. Each file costs about the same then, because the others
are looked at once in a run, and because the record, which names all of them, is written when a quarter of it
has changed. A crash in between loses no more than places, which the next run finds again.
"""

from collections.abc import Callable
from dataclasses import replace

from segdex_core.errors import ImageError
from segdex_core.media.uris import canonical_uri, display_path
from segdex_core.ports.source import Source
from segdex_core.records import ImageFile, ImageRecord
from segdex_core.wire.images import Outcome

Exists = Callable[[str], bool]
"""Returns whether there is a file at a URI."""

_FILES_PER_CHANGE = 4


def may_exist(source: Source) -> Exists:
    """Return a function that says whether a file may exist: one that cannot be looked at may."""

    def exists(uri: str) -> bool:
        try:
            return source.exists(uri)
        except ImageError:
            return True

    return exists


class KnownFiles:
    """The files of an image, with changes that are not written yet.

    Args:
        record: Record of the image.
        exists: Returns whether there is a file at a URI.

    Attributes:
        added: Files that were noted and are to be written, by URI.
        gone: URIs to take off, as the record has them.
    """

    def __init__(self, record: ImageRecord, exists: Exists) -> None:
        self.added: dict[str, ImageFile] = {}
        self.gone: set[str] = set()
        self._recipe = record.recipe
        self._files = {file.uri: file for file in record.files}
        self._tags = frozenset(record.tags)
        self._new_tags: frozenset[str] = frozenset()
        self._exists = exists
        self._stored_as: dict[str, str] | None = None
        self._are_checked = False

    @property
    def recipe(self) -> str:
        """Recipe of the record."""
        return self._recipe

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.added or self.gone or self._new_tags)

    @property
    def is_due(self) -> bool:
        """Whether so much has changed that it is written now."""
        changes = len(self.added) + len(self.gone) + len(self._new_tags)
        return changes * _FILES_PER_CHANGE >= len(self._files)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether there are so many files that they are not looked at again after a write."""
        return len(self._files) > 2 * _FILES_PER_CHANGE

    def written(self, record: ImageRecord) -> "KnownFiles":
        """Return the files after they were written in a record, without changes."""
        files = KnownFiles(record, self._exists)
        files._stored_as, files._are_checked = self._stored_as, self._are_checked
        return files

    def note(self, file: ImageFile, tags: tuple[str, ...]) -> tuple[Outcome, str]:
        """Note a file that holds the image, and return its outcome with one line that explains it.

        The outcome is renamed if the file is new and all other files of the image are gone.
        """
        new_tags = frozenset(tags) - self._tags
        self._new_tags |= new_tags
        stored_as = self._find(file.uri)
        if stored_as is not None:
            if self._files[stored_as] != file or new_tags:
                self._remove(stored_as)
                self._add(file)
            return Outcome.UNCHANGED, ""
        missing = self._missing()
        for uri in missing:
            self._remove(uri)
        first = next(iter(self._files), None)
        self._add(file)
        if first is not None:
            return Outcome.UNCHANGED, f"same content as {display_path(first)}"
        return (Outcome.RENAMED, f"was {display_path(missing[0])}") if missing else (Outcome.UNCHANGED, "")

    def leave(self, uri: str) -> None:
        """Note that a file holds another image now."""
        if uri in self._files:
            self._remove(uri)

    def merged(self, current: ImageRecord) -> ImageRecord | None:
        """Return the record in the index with the changes; None if no file is left."""
        files = {file.uri: file for file in current.files if file.uri not in self.gone} | self.added
        if not files:
            return None
        tags = tuple(sorted({*current.tags, *self._new_tags}))
        return replace(current, files=tuple(files[uri] for uri in sorted(files)), tags=tags)

    def _find(self, uri: str) -> str | None:
        """Return the URI as it is stored, also where that is in a non-canonical form."""
        if uri in self._files:
            return uri
        if self._stored_as is None:
            self._stored_as = {canonical_uri(stored): stored for stored in self._files}
        stored = self._stored_as.get(uri)
        return stored if stored in self._files else None

    def _missing(self) -> list[str]:
        """Return the files that are gone; they are looked at once in a run."""
        if self._are_checked:
            return []
        self._are_checked = True
        return [uri for uri in self._files if not self._exists(uri)]

    def _add(self, file: ImageFile) -> None:
        self._files[file.uri] = self.added[file.uri] = file
        self.gone.discard(file.uri)

    def _remove(self, uri: str) -> None:
        del self._files[uri]
        self.added.pop(uri, None)
        self.gone.add(uri)
