"""Pictures and the index as they cross HTTP."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field


class ImageOut(BaseModel):
    """A picture of the index."""

    image_id: UUID
    path: str
    uris: Annotated[list[str], Field(description="Every file that holds it.")]
    segment_count: int
    width: int
    height: int
    captured_s: float
    place_lat_lon: tuple[float, float] | None
    tags: list[str]


class Ingested(BaseModel):
    """What became of an upload; one that waits as a job has the outcome `queued`."""

    outcome: str
    detail: str
    image_id: UUID | None
    segments: int = 0
    job_id: str | None = None


class Stats(BaseModel):
    """How much the index holds."""

    images: int
    segments: int
    profile: str
    embedder: str
    segmenter: str
    dimensions: int
    views: list[str]
    schema_version: int


class Health(BaseModel):
    """Whether the service answers."""

    status: Literal["ok"]
