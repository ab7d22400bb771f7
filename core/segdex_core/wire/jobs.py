"""Jobs as they are asked for, kept and answered."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, computed_field

from segdex_core.wire.document import UtcText, known_values, utc_text
from segdex_core.wire.fields import StrictRequest
from segdex_core.wire.images import Outcome

Status = Literal["waiting", "running", "done", "stopped", "failed"]

ENDED: frozenset[Status] = frozenset({"done", "stopped", "failed"})


class JobRequest(StrictRequest):
    """Folders or files below the allowed ones."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"paths": ["/pictures/2026"], "tags": ["holiday"]}]}
    )

    paths: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=4_096)]], Field(min_length=1, max_length=100)
    ]
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=100)] = []
    redo_outdated: Annotated[
        bool,
        Field(
            description="Segment pictures again that other models or settings made. Without it a job that "
            "would do so fails, and says how many they are."
        ),
    ] = False


class JobOutcome(BaseModel):
    """What became of a file."""

    uri: str
    outcome: Annotated[str, known_values(*Outcome)]
    detail: str
    kind: Annotated[str | None, Field(description="What a file is that is no picture: json, mp4.")] = None


class Job(BaseModel):
    """An ingest of folders.

    Attributes:
        id: Its name.
        paths: What to ingest, as it was asked for.
        tags: Labels for every file.
        redo_outdated: Whether pictures that other models or settings made are segmented again.
        status: Where it is; a job whose worker ended waits again.
        attempt: How many workers it has lost to crashes; after the second one it fails.
        worker: Who carries it out, or carried it out last: host, process and a number of its own.
        created_s, started_s, ended_s: Seconds since 1970 UTC; ``created_at`` and so on are ISO 8601.
        total: Files that were found; None before they were looked for.
        done: Files that ended in an outcome.
        counts: How many files ended in each.
        kinds: How many files of each kind are ``not_an_image``, such as 3 ``json``.
        segments: Segments that were stored.
        files_per_s: Pictures that were segmented a second, since the start; None before the first.
        left_s: Estimate of the seconds that are left if all new and changed files are segmented; None before
            the first was.
        last: The last outcomes, newest last.
        failures: The first files that could not be ingested, 20 at most; broken pictures come first.
        detail: Why it failed, or what was left out.
    """

    id: str
    paths: list[str]
    tags: list[str] = []
    redo_outdated: bool = False
    status: Annotated[str, known_values(*get_args(Status))] = "waiting"
    attempt: int = 0
    worker: str | None = None
    created_s: float
    started_s: float | None = None
    ended_s: float | None = None
    total: int | None = None
    done: int = 0
    counts: dict[str, int] = {}
    kinds: dict[str, int] = {}
    segments: int = 0
    files_per_s: float | None = None
    left_s: float | None = None
    last: list[JobOutcome] = []
    failures: list[JobOutcome] = []
    detail: str = ""

    @computed_field  # type: ignore[prop-decorator] # mypy knows no decorated properties
    @property
    def created_at(self) -> UtcText | None:
        """``created_s`` as ISO 8601, UTC."""
        return utc_text(self.created_s)

    @computed_field  # type: ignore[prop-decorator] # mypy knows no decorated properties
    @property
    def started_at(self) -> UtcText | None:
        """``started_s`` as ISO 8601, UTC."""
        return utc_text(self.started_s)

    @computed_field  # type: ignore[prop-decorator] # mypy knows no decorated properties
    @property
    def ended_at(self) -> UtcText | None:
        """``ended_s`` as ISO 8601, UTC."""
        return utc_text(self.ended_s)

    def anew(self, lost: int) -> "Job":
        """Return the job as it waits after its worker ended.

        Args:
            lost: 1 if the worker crashed, 0 if it was shut down.
        """
        return Job(
            id=self.id,
            paths=self.paths,
            tags=self.tags,
            redo_outdated=self.redo_outdated,
            created_s=self.created_s,
            attempt=self.attempt + lost,
        )
