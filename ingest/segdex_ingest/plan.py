"""What has to be done: decided by the ledger and the versions of files, before any file is read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from segdex_core.errors import ImageError
from segdex_core.ports.source import FileVersion, Source
from segdex_ingest.ledger import Ledger

FileState = Literal["unchanged", "outdated", "to_read"]


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file, and what the ledger knows of it.

    Attributes:
        uri: Canonical URI.
        state: ``unchanged`` since the same recipe ingested it; ``outdated``: unchanged since another recipe
            did; ``to_read``: new, changed, moved here or not readable, which its bytes will say.
        version: As the source gave it; None where it could not.
        image_id: Of the picture that the ledger has there; None in ``to_read``.
    """

    uri: str
    state: FileState
    version: FileVersion | None = None
    image_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """The files of an ingest in order, with what the ledger knows of them.

    Attributes:
        recipe: ``Recipe.fingerprint`` of what pictures are made with now.
        files: Each once.
    """

    recipe: str
    files: tuple[PlannedFile, ...]

    @property
    def outdated(self) -> int:
        """How many pictures another recipe made, which are to be segmented again."""
        return len({file.image_id for file in self.files if file.state == "outdated"})

    def describe_outdated(self, image_s: float | None) -> str:
        """Return in words what segmenting the outdated pictures again means.

        Args:
            image_s: Wall seconds that a picture takes; None where that is not known.
        """
        pictures = "1 picture was" if self.outdated == 1 else f"{self.outdated:,} pictures were"
        long = "how long is not known yet" if image_s is None else f"about {_span(self.outdated * image_s)}"
        return f"{pictures} made with other models or settings and would be segmented again ({long})"

    @property
    def to_read(self) -> int:
        """How many files have to be read."""
        return sum(file.state == "to_read" for file in self.files)


def plan_ingest(uris: Iterable[str], *, source: Source, ledger: Ledger, recipe: str) -> IngestPlan:
    """Compare files with the ledger; reads no file, loads no model, changes nothing.

    Args:
        uris: Canonical URIs, each once.
        source: Where they lie.
        ledger: The pictures of the index.
        recipe: ``Recipe.fingerprint``.
    """
    return IngestPlan(recipe, tuple(_planned(uri, source, ledger, recipe) for uri in uris))


def _planned(uri: str, source: Source, ledger: Ledger, recipe: str) -> PlannedFile:
    try:
        version = source.version(uri)
    except ImageError:
        return PlannedFile(uri, "to_read")  # reading it says why
    known = ledger.find(uri, version)
    if known is None:
        return PlannedFile(uri, "to_read", version)
    return PlannedFile(uri, "unchanged" if known.recipe == recipe else "outdated", version, known.image_id)


def _span(seconds: float) -> str:
    """Return a span of time in the unit that reads best.

    Example:
        >>> _span(40), _span(300), _span(86_400)
        ('1 min', '5 min', '24.0 h')
    """
    return f"{seconds / 3600:.1f} h" if seconds >= 2 * 3600 else f"{max(round(seconds / 60), 1)} min"
