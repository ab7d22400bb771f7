"""What became of every file of an ingest."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from segdex_core.media.uris import display_path


class Outcome(StrEnum):
    """Each file ends in exactly one of these."""

    ADDED = "added"
    UNCHANGED = "unchanged"
    RENAMED = "renamed"
    REPLACED = "replaced"
    NO_SEGMENTS = "no segments"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too large"
    NOT_AN_IMAGE = "not an image"


FAILED = frozenset({Outcome.UNREADABLE, Outcome.TOO_LARGE, Outcome.NOT_AN_IMAGE})
"""Outcomes that make the exit code 1."""

ANALYSED = frozenset({Outcome.ADDED, Outcome.REPLACED, Outcome.NO_SEGMENTS})
"""Outcomes of pictures that were segmented; ``--limit`` counts them."""


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file.

    Attributes:
        uri: ``file:`` URI of the file.
        outcome: The one thing that happened.
        detail: One line that explains it; empty where the outcome says all.
        segments: Segments stored for the file by this run.
        elapsed_s: Wall seconds that the main thread spent on the file.
    """

    uri: str
    outcome: Outcome
    detail: str = ""
    segments: int = 0
    elapsed_s: float = 0.0


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

    @property
    def exit_code(self) -> int:
        """0 when every file was usable, 1 when some were not, 130 when the user stopped the run."""
        if self.interrupted:
            return 130
        return 1 if self.skipped_folders or any(file.outcome in FAILED for file in self.files) else 0

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON values."""
        return {
            "counts": {outcome.value: count for outcome, count in self.counts.items()},
            "segments": self.segments,
            "elapsed_s": round(self.elapsed_s, 3),
            "interrupted": self.interrupted,
            "skipped_folders": [{"path": path, "reason": reason} for path, reason in self.skipped_folders],
            "files": [
                {
                    "uri": file.uri,
                    "path": display_path(file.uri),
                    "outcome": file.outcome.value,
                    "detail": file.detail,
                    "segments": file.segments,
                    "elapsed_s": round(file.elapsed_s, 3),
                }
                for file in self.files
            ],
        }
