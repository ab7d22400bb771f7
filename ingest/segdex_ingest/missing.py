"""Which files of an index are really gone, and which are merely out of reach.

A disk that is not mounted looks like files that were deleted. What was lost together with its folder is
therefore held back, and so is any loss of a large part of an index.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from segdex_core.errors import ImageError
from segdex_core.ports.source import Source
from segdex_core.records import ImageRecord

LOST_TOGETHER = 20
"""Number of files from which a loss is held back because of its share: fewer are no harm to ingest again."""

LOST_SHARE = 0.5
"""Share of all images from which a loss is held back, wherever it is."""


@dataclass(frozen=True, slots=True)
class HeldFolder:
    """A folder with missing files that are not forgotten.

    Attributes:
        uri: URI of the folder.
        images: Number of images with a missing file there.
        reason: Why it may be out of reach, in a few words.
    """

    uri: str
    images: int
    reason: str


@dataclass(frozen=True, slots=True)
class MissingFiles:
    """The files of an index that do not exist.

    Attributes:
        gone: URIs of the files to forget.
        held: Folders whose missing files are not forgotten.
        unreachable: URI of the first file, number of files and reason, for each reason why the source does
            not know whether files exist. They are not forgotten either.
        first: URI of the first missing file; None if no file is missing.
        is_everything: Whether no image has a file that exists.
    """

    gone: Collection[str]
    held: tuple[HeldFolder, ...]
    unreachable: tuple[tuple[str, int, str], ...]
    first: str | None
    is_everything: bool


def missing_files(records: Iterable[ImageRecord], *, source: Source, force: bool) -> MissingFiles:
    """Ask the source for every file.

    Args:
        records: Images of the index.
        source: Source of the files.
        force: Hold nothing back. Files that the source cannot look at are still not missing.
    """
    looked = _Look(source)
    lost: list[frozenset[str]] = []
    images = wholly_lost = 0
    for record in records:
        images += 1
        missing = frozenset(file.uri for file in record.files if looked.is_missing(file.uri))
        if missing:
            lost.append(missing)
            wholly_lost += len(missing) == len(record.files)
    every = {uri for missing in lost for uri in missing}
    held: dict[str, _Held] = {} if force else looked.held()
    if not force and wholly_lost >= max(LOST_TOGETHER, LOST_SHARE * images):
        reason = f"{wholly_lost:,} of {images:,} pictures are missing at once"
        above = _common_folder(every)
        held = {uri: held.get(uri, (above, reason)) for uri in every}
    counts = Counter(one for missing in lost for one in {held[uri] for uri in missing if uri in held})
    return MissingFiles(
        gone=every - held.keys(),
        held=tuple(HeldFolder(folder, count, why) for (folder, why), count in sorted(counts.items())),
        unreachable=looked.unreachable(),
        first=min(every, default=None),
        is_everything=images > 0 and wholly_lost == images,
    )


_Held = tuple[str, str]
"""URI of the folder with which a file may be out of reach, and the reason."""

_REASONS = {"missing": "the folder itself is not there", "empty": "the folder is empty"}


class _Look:
    """Asks the source for each file once, and remembers what there is in each folder."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._missing: defaultdict[str, list[str]] = defaultdict(list)
        self._there: Counter[str] = Counter()
        self._unknown: dict[str, tuple[str, int]] = {}

    def is_missing(self, uri: str) -> bool:
        """Return whether a file is not there; one that the source cannot look at is not missing."""
        folder = _folder(uri)
        try:
            is_there = self._source.exists(uri)
        except ImageError as error:
            reason = str(error).rpartition(": ")[2]
            first, count = self._unknown.get(reason, (uri, 0))
            self._unknown[reason] = (first, count + 1)
            is_there = True
        if is_there:
            self._there[folder] += 1
        else:
            self._missing[folder].append(uri)
        return not is_there

    def unreachable(self) -> tuple[tuple[str, int, str], ...]:
        """See ``MissingFiles``."""
        return tuple((first, count, reason) for reason, (first, count) in self._unknown.items())

    def held(self) -> dict[str, _Held]:
        """Return the missing files that may be out of reach, with the reason."""
        emptied = self._emptied()
        found: dict[str, _Held] = {}
        for folder, uris in self._missing.items():
            try:
                lost = self._source.lost_folder(uris[0])
            except ImageError as error:
                held: _Held | None = (folder, str(error).rpartition(": ")[2])
            else:
                held = emptied.get(folder) if lost is None else (lost.uri, _REASONS[lost.state])
            if held is not None:
                found |= dict.fromkeys(uris, held)
        return found

    def _emptied(self) -> dict[str, _Held]:
        """Return the topmost folder of which all of many files are missing, by the folder of the files."""
        missing: Counter[str] = Counter()
        there: Counter[str] = Counter()
        for counts, by_folder in (
            (missing, {folder: len(uris) for folder, uris in self._missing.items()}),
            (there, self._there),
        ):
            for folder, count in by_folder.items():
                for above in _upwards(folder):
                    counts[above] += count
        found: dict[str, _Held] = {}
        for folder in self._missing:
            for above in _upwards(folder):
                if missing[above] >= LOST_TOGETHER and not there[above]:
                    found[folder] = (
                        above,
                        f"all {missing[above]:,} files that were ingested there are missing",
                    )
        return found


def _folder(uri: str) -> str:
    """Return the URI of the folder of a file."""
    return uri.rpartition("/")[0]


def _upwards(folder: str) -> Iterable[str]:
    """Yield a folder and those above it, nearest first, without the root."""
    while folder.count("/") > 2:
        yield folder
        folder = _folder(folder)


def _common_folder(uris: Iterable[str]) -> str:
    return "file://" + os.path.commonpath([_folder(uri).removeprefix("file://") for uri in uris])
