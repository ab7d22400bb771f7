"""Pictures and the index as they cross HTTP."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, get_args
from uuid import UUID

from pydantic import BaseModel, Field, computed_field

from segdex_core.media.others import unread_kinds
from segdex_core.wire.document import Document, UtcText, known_values, utc_text
from segdex_core.wire.limits import CapturedFrom
from segdex_core.wording import count_of


class Outcome(StrEnum):
    """What became of a file: each ends in exactly one of these.

    ``not_an_image`` is a file beside the pictures, which nobody expects to be one. A broken picture is
    ``unreadable``, and so is a file without a picture that was named itself, or has the name of a picture.
    """

    ADDED = "added"
    UNCHANGED = "unchanged"
    RENAMED = "renamed"
    REPLACED = "replaced"
    NO_SEGMENTS = "no_segments"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    NOT_AN_IMAGE = "not_an_image"
    FAILED = "failed"
    CRASHED = "crashed"


FAILED = frozenset({Outcome.UNREADABLE, Outcome.TOO_LARGE, Outcome.FAILED, Outcome.CRASHED})
"""Outcomes of files that could not be ingested."""

ANALYSED = frozenset({Outcome.ADDED, Outcome.REPLACED, Outcome.NO_SEGMENTS})
"""Outcomes of pictures that were segmented; the limit of an ingest counts them."""


class ImageOut(BaseModel):
    """A picture of the index."""

    id: UUID
    path: str
    uris: Annotated[list[str], Field(description="Every file that holds it.")]
    segment_count: int
    width: int
    height: int
    captured_s: float
    captured_from: Annotated[str | None, known_values(*get_args(CapturedFrom))] = None
    place_lat_lon: tuple[float, float] | None
    tags: list[str]

    @computed_field  # type: ignore[prop-decorator] # mypy knows no decorated properties
    @property
    def captured_at(self) -> UtcText | None:
        """``captured_s`` as ISO 8601, UTC."""
        return utc_text(self.captured_s)


class Ingested(BaseModel):
    """What became of an upload; one that waits as a job has the outcome `queued`."""

    outcome: Annotated[str, known_values(*Outcome, "queued")]
    detail: str
    image_id: UUID | None
    segments: int = 0
    job_id: str | None = None


class IngestedFile(BaseModel):
    """What became of a file."""

    uri: str
    path: str
    outcome: Annotated[str, known_values(*Outcome)]
    detail: str
    image_id: Annotated[UUID | None, Field(description="Of its picture; none where there is none.")]
    segments: Annotated[int, Field(description="That were stored for it now.")]
    kind: Annotated[
        str | None, Field(description="What a file is that is no picture: json, mp4, heic; none of others.")
    ] = None


class SkippedFolder(BaseModel):
    """A folder that could not be listed."""

    path: str
    uri: Annotated[str, Field(description="The same as a URI, exactly.")] = ""
    reason: str


class IngestReportOut(Document):
    """What became of every file of an ingest, in the order in which they were found."""

    outcomes: Annotated[
        dict[str, int], Field(description="How many files ended in each; the sum is the number of files.")
    ]
    kinds: Annotated[
        dict[str, int], Field(description="How many files of each kind are `not_an_image`, most first.")
    ] = {}
    segments: int
    elapsed_s: float
    interrupted: bool
    files: list[IngestedFile]
    skipped_folders: list[SkippedFolder]
    notes: Annotated[
        list[str], Field(description="What was left out on purpose, and patterns that matched nothing.")
    ] = []

    @property
    def has_failures(self) -> bool:
        """Whether some files or folders could not be read."""
        return bool(self.skipped_folders) or any(self.outcomes.get(outcome) for outcome in FAILED)

    @property
    def analysed(self) -> int:
        """How many pictures were segmented."""
        return sum(self.outcomes.get(outcome, 0) for outcome in ANALYSED)


def report_files(
    files: Sequence[IngestedFile],
    *,
    skipped_folders: Sequence[SkippedFolder],
    elapsed_s: float,
    interrupted: bool,
    notes: Sequence[str] = (),
) -> IngestReportOut:
    """Return the report of an ingest; every outcome is counted, also those of no file."""
    counts = Counter(file.outcome for file in files)
    kinds = count_kinds(files)
    return IngestReportOut(
        outcomes={outcome.value: counts[outcome] for outcome in Outcome},
        kinds=kinds,
        segments=sum(file.segments for file in files),
        elapsed_s=round(elapsed_s, 3),
        interrupted=interrupted,
        files=list(files),
        skipped_folders=list(skipped_folders),
        notes=[*notes, *_unread_note(kinds)],
    )


def _unread_note(kinds: Mapping[str, int]) -> list[str]:
    unread = unread_kinds(kinds)
    if not unread:
        return []
    files = count_of(sum(unread.values()), "file")
    words = kinds_in_words(unread)
    return [f"{files} left, in formats of pictures and videos that segdex does not read yet: {words}"]


def kinds_in_words(kinds: Mapping[str, int]) -> str:
    """Return counts of kinds as words, and the last of many as one count.

    Example:
        >>> kinds_in_words({"json": 1200, "xmp": 3})
        '1,200 json, 3 xmp'
    """
    shown = [f"{count:,} {kind}" for kind, count in list(kinds.items())[:_SHOWN_KINDS]]
    rest = list(kinds.values())[_SHOWN_KINDS:]
    return ", ".join([*shown, f"{sum(rest):,} of other kinds"] if rest else shown)


_SHOWN_KINDS = 12


def count_kinds(files: Iterable[IngestedFile]) -> dict[str, int]:
    """Return how many files of each kind are beside the pictures, most first."""
    counts = Counter(file.kind or "other" for file in files if file.outcome == Outcome.NOT_AN_IMAGE)
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


class KeptPicture(BaseModel):
    """A picture that lost some of its files, and stays because of another one."""

    id: UUID
    path: Annotated[str, Field(description="A file of it that stays.")]
    uri: Annotated[str, Field(description="The same as a URI, exactly.")] = ""
    removed: Annotated[int, Field(description="How many of its files were taken off.")]


class Deleted(Document):
    """Pictures that were deleted from the index."""

    images: list[UUID]
    segments: Annotated[int, Field(description="How many they had.")]
    places: Annotated[
        int, Field(description="How many files the index forgot; uploads among them were deleted.")
    ] = 0
    kept: Annotated[list[KeptPicture], Field(description="Pictures that also lie elsewhere.")] = []


class HeldFolderOut(BaseModel):
    """A folder whose missing files are not forgotten, because they may be out of reach."""

    path: str
    uri: Annotated[str, Field(description="The same as a URI, exactly.")] = ""
    images: Annotated[int, Field(description="Pictures with a missing file there.")]
    reason: str


class Unreachable(BaseModel):
    """Files of which it is not known whether they exist; they are not forgotten."""

    path: Annotated[str, Field(description="The first of them.")]
    uri: Annotated[str, Field(description="The same as a URI, exactly.")] = ""
    files: int
    reason: str


class Synced(Document):
    """What an index held without a file."""

    gone: Annotated[list[str], Field(description="Pictures none of whose files exist.")]
    gone_uris: Annotated[list[str], Field(description="The same as URIs, exactly.")] = []
    moved: Annotated[int, Field(description="Pictures some of whose files are gone.")]
    orphans: Annotated[int, Field(description="Pictures whose ingest was stopped halfway.")]
    unfinished: Annotated[
        int, Field(description="Pictures to ingest again: a run that replaced their segments was stopped.")
    ] = 0
    images: Annotated[int, Field(description="How many pictures the index held.")]
    dry_run: bool
    held: Annotated[list[HeldFolderOut], Field(description="Folders that may not be mounted.")] = []
    unreachable: Annotated[list[Unreachable], Field(description="Files that could not be looked at.")] = []

    @property
    def is_complete(self) -> bool:
        """Whether every missing file was dealt with."""
        return not self.held and not self.unreachable


class MissingPicture(BaseModel):
    """A picture that could not be embedded again."""

    id: UUID
    path: str
    uri: Annotated[str, Field(description="The same as a URI, exactly.")] = ""
    reason: str


class Reembedded(Document):
    """What became of a re-embedding."""

    former: Annotated[str, Field(description="Fingerprint of the embedder before.")]
    embedder: Annotated[str, Field(description="Fingerprint of the new embedder.")]
    views: Annotated[str, Field(description="How a segment is embedded: crops or pooled.")]
    images: Annotated[int, Field(description="How many pictures the index held.")]
    embedded: Annotated[int, Field(description="How many pictures this run embedded.")]
    segments: Annotated[int, Field(description="How many segments they have.")]
    missing: Annotated[list[MissingPicture], Field(description="Pictures that could not be embedded.")]
    unknown: Annotated[
        int, Field(description="Pictures whose masks were made by settings that are not known any more.")
    ]
    colored: Annotated[
        int, Field(description="Segments of an earlier version whose colors this run measured.")
    ]
    uncolored: Annotated[int, Field(description="Segments that have no measured colors after it.")]
    switched: Annotated[bool, Field(description="Whether the new vectors are in use.")]
    nothing_to_do: Annotated[bool, Field(description="Whether the index had these vectors already.")]
    interrupted: bool
    elapsed_s: float
    dry_run: bool
    to_embed: Annotated[int | None, Field(description="Of a dry run: how many pictures are left.")] = None
    estimated_s: Annotated[float | None, Field(description="Of a dry run: wall seconds for them.")] = None


class DroppedVectors(Document):
    """Vectors that were not in use, and were deleted."""

    sets: Annotated[int, Field(description="How many sets of vectors, each of a whole index.")]


class BackedUp(Document):
    """What a backup holds."""

    path: str
    images: int
    segments: int
    sets: Annotated[int, Field(description="Named sets.")]
    concepts: Annotated[int, Field(description="Saved concepts.")]


class Restored(BackedUp):
    """What was restored from a backup."""

    present: Annotated[int, Field(description="Pictures that the index had already.")]


class Stats(Document):
    """How much the index holds, and what filled it."""

    images: int
    segments: int
    segments_per_image: Annotated[float | None, Field(description="None without images.")]
    images_without_segments: int
    profile: str
    embedder: str
    segmenter: str
    dimensions: Annotated[int, Field(description="Of a vector of a view.")]
    views: list[str]
    index_schema_version: int
    labels: Annotated[dict[str, int], Field(description="How many segments carry each label.")] = {}


class Health(BaseModel):
    """Whether the service answers."""

    status: Annotated[str, known_values("ok")]
