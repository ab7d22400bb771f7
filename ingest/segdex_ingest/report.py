"""What became of every file of an ingest."""

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
    """What became of one file.

    Attributes:
        uri: ``file:`` URI of the file.
        outcome: The one thing that happened.
        detail: One line that explains it; empty where the outcome says all.
        segments: Segments stored for the file by this run.
        image_id: Of the picture that it holds; None where it holds none.
    """

    uri: str
    outcome: Outcome
    detail: str = ""
    segments: int = 0
    image_id: UUID | None = None

    def to_document(self) -> IngestedFile:
        """Return it as JSON has it."""
        return IngestedFile(
            uri=self.uri,
            path=display_path(self.uri),
            outcome=self.outcome.value,
            detail=self.detail,
            image_id=self.image_id,
            segments=self.segments,
        )


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The result of one ingest.

    Attributes:
        files: One entry for every file looked at, in the order of the scan.
        skipped_folders: Folders that could not be listed, with the reason.
        elapsed_s: Wall seconds of the whole run.
        interrupted: Whether the user stopped the run before the last file.
    """

    files: Sequence[FileOutcome]
    skipped_folders: Sequence[tuple[str, str]]
    elapsed_s: float
    interrupted: bool = False

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many files ended in each outcome; every outcome is a key."""
        found = Counter(file.outcome for file in self.files)
        return {outcome: found[outcome] for outcome in Outcome}

    @property
    def segments(self) -> int:
        """How many segments this run stored."""
        return sum(file.segments for file in self.files)

    def to_document(self) -> IngestReportOut:
        """Return the report as JSON has it."""
        return report_files(
            [file.to_document() for file in self.files],
            skipped_folders=[
                SkippedFolder(path=path, reason=reason) for path, reason in self.skipped_folders
            ],
            elapsed_s=self.elapsed_s,
            interrupted=self.interrupted,
        )
