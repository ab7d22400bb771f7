"""The report of an ingest: the outcome of every file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from segdex_core.media.uris import display_path
from segdex_core.wire.images import (
    ANALYSED,
    FAILED,
    IngestedFile,
    IngestReportOut,
    Outcome,
    SkippedFolder,
    report_files,
)

__all__ = ["ANALYSED", "FAILED", "FileOutcome", "IngestReport", "Outcome"]


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """The outcome of one file.

    Attributes:
        uri: ``file:`` URI of the file.
        outcome: What the ingest did with the file.
        detail: One line that explains the outcome; empty if there is nothing to explain.
        segments: Number of segments that this run stored for the file.
        image_id: Id of the image in the file; None if the file holds no image.
        kind: What the file is, if it is no image: ``json``, ``mp4``, ``heic``.
    """

    uri: str
    outcome: Outcome
    detail: str = ""
    segments: int = 0
    image_id: UUID | None = None
    kind: str | None = None

    def to_document(self) -> IngestedFile:
        """Return the outcome as a JSON model."""
        return IngestedFile(
            uri=self.uri,
            path=display_path(self.uri),
            outcome=self.outcome.value,
            detail=self.detail,
            image_id=self.image_id,
            segments=self.segments,
            kind=self.kind,
        )


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The result of one ingest.

    Attributes:
        files: Outcome of each processed file, in the order of the listing.
        skipped_folders: URI and reason for each folder that could not be listed.
        elapsed_s: Wall seconds of the whole run.
        interrupted: Whether the user stopped the run before the last file.
        notes: Lines about what was not ingested on purpose, or matched nothing.
    """

    files: Sequence[FileOutcome]
    skipped_folders: Sequence[tuple[str, str]]
    elapsed_s: float
    interrupted: bool = False
    notes: Sequence[str] = ()

    @property
    def counts(self) -> dict[Outcome, int]:
        """Number of files by outcome; every outcome is a key."""
        found = Counter(file.outcome for file in self.files)
        return {outcome: found[outcome] for outcome in Outcome}

    @property
    def segments(self) -> int:
        """Number of segments that this run stored."""
        return sum(file.segments for file in self.files)

    def to_document(self) -> IngestReportOut:
        """Return the report as a JSON model."""
        return report_files(
            [file.to_document() for file in self.files],
            skipped_folders=[
                SkippedFolder(path=display_path(uri), uri=uri, reason=reason)
                for uri, reason in self.skipped_folders
            ],
            elapsed_s=self.elapsed_s,
            interrupted=self.interrupted,
            notes=self.notes,
        )
