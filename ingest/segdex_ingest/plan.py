"""Plan an ingest from the ledger and the versions of files, before any file is read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from segdex_core.errors import ImageError, NotAnImageError
from segdex_core.ports.source import FileVersion, Source
from segdex_core.wording import count_of, duration_of
from segdex_ingest.ledger import Ledger

FileState = Literal["unchanged", "outdated", "not_an_image", "to_read"]

FindOther = Callable[[str, FileVersion], NotAnImageError | None]
"""Returns the error of reading a file, if it is known to be no image; otherwise None."""


def _unknown(_: str, __: FileVersion) -> None:
    return


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file and its state in the ledger.

    Attributes:
        uri: Canonical URI.
        state: ``unchanged`` since the current recipe ingested it; ``outdated`` if unchanged but ingested by
            another recipe; ``not_an_image`` if known to be none; ``to_read`` if new, changed, moved, not
            readable or not written completely.
        version: Version from the source; None if the source could not return it.
        image_id: Id of the image that the ledger has at the file; None for the other states.
        error: Error of reading the file, for ``not_an_image``.
    """

    uri: str
    state: FileState
    version: FileVersion | None = None
    image_id: UUID | None = None
    error: NotAnImageError | None = None


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """The files of an ingest in order, with their states in the ledger.

    Attributes:
        recipe: ``Recipe.fingerprint`` of the current recipe.
        files: Planned files, each once.
    """

    recipe: str
    files: tuple[PlannedFile, ...]

    @property
    def outdated(self) -> int:
        """Number of images that another recipe made and that have to be segmented again."""
        return len({file.image_id for file in self.files if file.state == "outdated"})

    def describe_outdated(self, image_s: float | None) -> str:
        """Return a message about the outdated images and the time to segment them again.

        Args:
            image_s: Wall seconds per image; None if unknown.
        """
        pictures = f"{count_of(self.outdated, 'picture')} {'was' if self.outdated == 1 else 'were'}"
        long = "how long is not known yet"
        if image_s is not None:
            long = f"about {duration_of(self.outdated * image_s)}"
        return f"{pictures} made with other models or settings and would be segmented again ({long})"

    @property
    def to_read(self) -> int:
        """Number of files in the state ``to_read``."""
        return sum(file.state == "to_read" for file in self.files)


def plan_ingest(
    uris: Iterable[str],
    *,
    source: Source,
    ledger: Ledger,
    recipe: str,
    find_other: FindOther = _unknown,
) -> IngestPlan:
    """Compare files with the ledger. This reads no file, loads no model and changes nothing.

    Args:
        uris: Canonical URIs, each once.
        source: Source of the files.
        ledger: Images of the index.
        recipe: ``Recipe.fingerprint`` of the current recipe.
        find_other: Finds files that are known to be no images.
    """
    return IngestPlan(recipe, tuple(_planned(uri, source, ledger, recipe, find_other) for uri in uris))


def _planned(uri: str, source: Source, ledger: Ledger, recipe: str, find_other: FindOther) -> PlannedFile:
    try:
        version = source.version(uri)
    except ImageError:
        return PlannedFile(uri, "to_read")  # reading the file will give the reason
    known = ledger.find(uri, version)
    if not ledger.at(uri) and (error := find_other(uri, version)) is not None:
        return PlannedFile(uri, "not_an_image", version, error=error)
    if known is None or not known.is_made_by(known.recipe):
        return PlannedFile(uri, "to_read", version)
    return PlannedFile(uri, "unchanged" if known.recipe == recipe else "outdated", version, known.image_id)
