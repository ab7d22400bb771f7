"""What lies beside the pictures: files that nobody takes for one are counted, and not opened again."""

from dataclasses import dataclass

from segdex_core.errors import ImageError, NotAnImageError
from segdex_core.media.not_pictures import Scan
from segdex_core.media.uris import uri_to_path
from segdex_core.outcomes import outcome_of
from segdex_core.ports.source import FileVersion
from segdex_ingest.report import FileOutcome, Outcome


@dataclass(frozen=True, slots=True)
class Beside:
    """Tells files beside pictures from pictures that fail.

    Attributes:
        named: URIs of the files that a person named, who expects an image in each.
        scan: Remembers which files are no images; None remembers nothing.
    """

    named: frozenset[str] = frozenset()
    scan: Scan | None = None

    def find(self, uri: str, version: FileVersion) -> NotAnImageError | None:
        """Return the error of reading a file, if it is known to be no image; otherwise None."""
        return None if self.scan is None or uri in self.named else self.scan.refusal(uri, version)

    def outcome(
        self, uri: str, error: ImageError, version: FileVersion | None, *, was_image: bool
    ) -> FileOutcome:
        """Return the outcome of a file that cannot be ingested; remember one that is beside the pictures.

        Args:
            uri: URI of the file.
            error: What reading or decoding it raised.
            version: Version of the file that was read; None if that is not known.
            was_image: Whether the index has an image at the file.
        """
        outcome, kind = outcome_of(error, uri_to_path(uri).name, is_asked_for=uri in self.named or was_image)
        if outcome is Outcome.NOT_AN_IMAGE and self.scan is not None and version is not None:
            self.scan.note(uri, version, error.kind if isinstance(error, NotAnImageError) else None)
        return FileOutcome(uri, outcome, str(error), kind=kind)

    def save(self) -> None:
        """Store what is remembered."""
        if self.scan is not None:
            self.scan.save()


NOTHING_BESIDE = Beside()
"""For files that were found, where nothing is remembered."""
