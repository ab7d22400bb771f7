"""Every call of the service as a value: what is sent, and how the answer is read. Nothing is sent here."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from segdex.client.errors import (
    AccessError,
    BusyError,
    NotThereError,
    RequestError,
    ServiceError,
    UnreachableError,
)
from segdex.client.events import Event
from segdex_core.wire.images import Health, ImageOut, Ingested, Stats
from segdex_core.wire.jobs import Job
from segdex_core.wire.search import (
    RefinementOut,
    Refinements,
    Region,
    SearchResponse,
    ViewWeights,
    WeightedSegment,
    WeightedText,
    Where,
)
from segdex_core.wire.segments import MasksOut, PointIn, PolygonOut, Rle, SegmentOut

T = TypeVar("T")

Picture = bytes | str | Path
"""The bytes of a picture's file, or where it is."""

Id = UUID | str

MODELS_TIMEOUT_S = 900.0
"""The longest wait for what runs the models: an upload that others wait for too, a hundred hits to refine."""

EVENTS_TIMEOUT_S = 60.0
"""Between events of a job: the service says every quarter of a minute that it lives."""


class SearchFields(TypedDict, total=False):
    """What may go with the texts of a question; see ``SearchRequest``."""

    segments: Sequence[Id | WeightedSegment]
    regions: Sequence[Region]
    away: Sequence[str | WeightedText]
    view_weights: ViewWeights
    where: Where
    limit: int
    per_image: int
    min_score: float | None
    present: bool
    level: Literal["any", "whole", "part"]
    nested: bool
    exact: bool
    explain: bool
    cursor: str | None


class PromptFields(TypedDict, total=False):
    """What may be said about a thing in a picture; see ``SegmentRequest``."""

    points: Sequence[PointIn]
    box_xyxy: tuple[float, float, float, float] | None
    mask: Rle | None
    text: str | None
    masks: Literal[1, 3]


@dataclass(frozen=True, slots=True, eq=False)
class Call(Generic[T]):
    """A request, and how its answer is read.

    Attributes:
        method: GET, POST or DELETE.
        path: Below the address of the service, quoted.
        read: Makes the value of the answer's body.
        params: Of the query.
        body: JSON; None for none.
        form: Fields beside the file.
        file: Name and bytes of a picture; None for none.
        accept: Of the answer.
        timeout_s: The longest wait for the answer; None for the client's.
        changes: Whether it changes something, so that it is not sent again when the answer got lost.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Mapping[str, int] = field(default_factory=dict)
    body: bytes | None = None
    form: Mapping[str, str | list[str]] = field(default_factory=dict)
    file: tuple[str, bytes] | None = None
    accept: str = "application/json"
    timeout_s: float | None = None
    changes: bool = False

    def to_request(self, http: httpx.Client | httpx.AsyncClient, *, timeout_s: float) -> httpx.Request:
        """Return the request as it is sent."""
        headers = {"Accept": self.accept}
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        return http.build_request(
            self.method,
            self.path,
            params=self.params or None,
            content=self.body,
            data=self.form or None,
            files=None if self.file is None else {"file": (*self.file, "application/octet-stream")},
            headers=headers,
            timeout=httpx.Timeout(self.timeout_s or timeout_s, connect=CONNECT_TIMEOUT_S),
        )

    def value_of(self, response: httpx.Response) -> T:
        """Return what the service answered.

        Args:
            response: Read to its end.

        Raises:
            ServiceError: Of the kind that the status says.
        """
        check(response)
        try:
            return self.read(response.content)
        except ValidationError as error:
            raise ServiceError(
                f"{self.method} {self.path} was answered in a form that this client does not know: is it a "
                f"segdex service of the same version? {_first(error)}",
                status=response.status_code,
                request_id=response.headers.get("x-request-id"),
            ) from error


CONNECT_TIMEOUT_S = 5.0


def search(
    *texts: str | WeightedText,
    image: Picture | None,
    box: tuple[int, int, int, int] | None,
    weight: float,
    fields: SearchFields,
) -> Call[SearchResponse]:
    """Ask for what texts, segments, regions and a picture that is sent say."""
    read = _model(SearchResponse)
    body = to_json({"texts": texts, **fields})
    if image is None:
        if box is not None or weight != 1.0:
            raise ValueError("box and weight belong to an image")
        return Call("POST", "/v1/search", read, body=body, timeout_s=MODELS_TIMEOUT_S)
    form: dict[str, str | list[str]] = {"request": body.decode(), "weight": str(weight)}
    if box is not None:
        form["box"] = ",".join(map(str, box))
    return Call(
        "POST",
        "/v1/search/by-image",
        read,
        form=form,
        file=_file_of(image),
        timeout_s=MODELS_TIMEOUT_S,
    )


def refine(answer_id: str, first: int) -> Call[Refinements]:
    """Ask for the re-decoded masks of the first hits of an answer."""
    return Call(
        "POST",
        f"/v1/search/{_part(answer_id)}/refine",
        _model(Refinements),
        params={"first": first},
        timeout_s=MODELS_TIMEOUT_S,
    )


def refinements(answer_id: str, first: int) -> Call[bytes]:
    """Ask for the re-decoded masks of the first hits of an answer, as server-sent events."""
    return Call(
        "GET",
        f"/v1/search/{_part(answer_id)}/refinements",
        bytes,
        params={"first": first},
        accept="text/event-stream",
        timeout_s=MODELS_TIMEOUT_S,
    )


def read_refinement(event: Event) -> RefinementOut | None:
    """Return the refinement of an event; None of the one that says that it was the last.

    Raises:
        ServiceError: If the service could not go on.
    """
    if event.name == "error":
        raise ServiceError(str(json.loads(event.data).get("detail", "")))
    return None if event.name == "done" else RefinementOut.model_validate_json(event.data)


def image(image_id: Id) -> Call[ImageOut]:
    """Ask for what is known of a picture."""
    return Call("GET", f"/v1/images/{_part(image_id)}", _model(ImageOut))


def image_file(image_id: Id, max_px: int) -> Call[bytes]:
    """Ask for a picture as JPEG."""
    path = f"/v1/images/{_part(image_id)}/file"
    return Call("GET", path, bytes, params={"max_px": max_px}, accept="image/jpeg")


def image_segments(image_id: Id) -> Call[list[SegmentOut]]:
    """Ask for the segments of a picture."""
    return Call("GET", f"/v1/images/{_part(image_id)}/segments", TypeAdapter(list[SegmentOut]).validate_json)


def delete_image(image_id: Id) -> Call[None]:
    """Ask to forget a picture."""
    return Call("DELETE", f"/v1/images/{_part(image_id)}", _nothing, changes=True)


def upload(image: Picture, tags: Sequence[str], *, wait: bool) -> Call[Ingested]:
    """Ask to keep and ingest a picture."""
    form: dict[str, str | list[str]] = {"wait": "true" if wait else "false"}
    if tags:
        form["tags"] = list(tags)
    return Call(
        "POST",
        "/v1/images",
        _model(Ingested),
        form=form,
        file=_file_of(image),
        timeout_s=MODELS_TIMEOUT_S,
        changes=True,
    )


def segment(segment_id: Id) -> Call[SegmentOut]:
    """Ask for a segment."""
    return Call("GET", f"/v1/segments/{_part(segment_id)}", _model(SegmentOut))


def mask_png(segment_id: Id) -> Call[bytes]:
    """Ask for a mask as PNG."""
    return Call("GET", f"/v1/segments/{_part(segment_id)}/mask.png", bytes, accept="image/png")


def cutout_png(segment_id: Id) -> Call[bytes]:
    """Ask for a thing alone as PNG."""
    return Call("GET", f"/v1/segments/{_part(segment_id)}/cutout.png", bytes, accept="image/png")


def polygon(segment_id: Id) -> Call[PolygonOut]:
    """Ask for an outline."""
    return Call("GET", f"/v1/segments/{_part(segment_id)}/polygon", _model(PolygonOut))


def cut_out(image_id: Id | None, *, image: Picture | None, prompt: PromptFields) -> Call[MasksOut]:
    """Ask for the mask of what a prompt says."""
    if (image_id is None) is (image is None):
        raise ValueError("give either the id of a picture of the index, or a picture to send")
    read = _model(MasksOut)
    if image is None:
        body = to_json({"image_id": image_id, **prompt})
        return Call("POST", "/v1/segment", read, body=body, timeout_s=MODELS_TIMEOUT_S)
    return Call(
        "POST",
        "/v1/segment/by-image",
        read,
        form={"request": to_json(prompt).decode()},
        file=_file_of(image),
        timeout_s=MODELS_TIMEOUT_S,
    )


def jobs() -> Call[list[Job]]:
    """Ask for the last jobs."""
    return Call("GET", "/v1/jobs", TypeAdapter(list[Job]).validate_json)


def add_job(paths: Sequence[str | Path], tags: Sequence[str], *, redo_outdated: bool) -> Call[Job]:
    """Ask to ingest folders of the service's machine."""
    request = {"paths": [str(path) for path in paths], "tags": list(tags), "redo_outdated": redo_outdated}
    body = to_json(request)
    return Call("POST", "/v1/jobs", _model(Job), body=body, changes=True)


def job(job_id: str) -> Call[Job]:
    """Ask for a job."""
    return Call("GET", f"/v1/jobs/{_part(job_id)}", _model(Job))


def stop_job(job_id: str) -> Call[Job]:
    """Ask to stop a job."""
    return Call("DELETE", f"/v1/jobs/{_part(job_id)}", _model(Job))  # twice is as good as once


def job_events(job_id: str) -> Call[bytes]:
    """Ask for a job whenever it changes."""
    path = f"/v1/jobs/{_part(job_id)}/events"
    return Call("GET", path, bytes, accept="text/event-stream", timeout_s=EVENTS_TIMEOUT_S)


def read_job(event: Event) -> Job:
    """Return the job of an event."""
    return Job.model_validate_json(event.data)


def stats() -> Call[Stats]:
    """Ask how much the index holds."""
    return Call("GET", "/v1/stats", _model(Stats))


def healthz() -> Call[Health]:
    """Ask whether the service lives."""
    return Call("GET", "/healthz", _model(Health))


def readyz() -> Call[Health]:
    """Ask whether models and index answer."""
    return Call("GET", "/readyz", _model(Health))


def metrics() -> Call[str]:
    """Ask for the figures of the process."""
    return Call("GET", "/metrics", bytes.decode, accept="text/plain")


def check(response: httpx.Response) -> None:
    """Raise unless the service did what it was asked for.

    Args:
        response: Read to its end.

    Raises:
        ServiceError: Of the kind that the status says.
    """
    if response.is_success:
        return
    try:
        problem: dict[str, Any] = response.json()
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        detail = (
            f"{response.request.method} {response.url.path} was answered with {response.status_code} and no "
            "reason: is it a segdex service?"
        )
    kind = _KINDS.get(response.status_code)
    if kind is None:
        kind = RequestError if response.is_client_error else ServiceError
    raise kind(
        detail,
        status=response.status_code,
        request_id=response.headers.get("x-request-id"),
        retry_after_s=_seconds(response.headers.get("retry-after")),
    )


def unreachable(server: str, error: httpx.RequestError) -> UnreachableError:
    """Return the error of a request that has no answer."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return UnreachableError(f"no service answers at {server}: {_reason(error)}")
    if isinstance(error, httpx.TimeoutException):
        return UnreachableError(f"{server} does not answer in time: {_reason(error)}")
    return UnreachableError(f"{server} ended the connection before its answer: {_reason(error)}")


def broken_off(server: str) -> UnreachableError:
    """Return the error of events that end before the last one."""
    return UnreachableError(f"the answer of {server} broke off; ask again")


_KINDS: Mapping[int, type[ServiceError]] = {
    401: AccessError,
    403: AccessError,
    404: NotThereError,
    410: NotThereError,
    429: BusyError,
    503: BusyError,
}

ModelT = TypeVar("ModelT", bound=BaseModel)


def _model(kind: type[ModelT]) -> Callable[[bytes], ModelT]:
    return kind.model_validate_json


def _nothing(body: bytes) -> None:
    del body


def _part(given: Id) -> str:
    return quote(str(given), safe="")


def _file_of(picture: Picture) -> tuple[str, bytes]:
    """Return the name and the bytes of a picture; what of the name is no text is replaced."""
    if isinstance(picture, bytes):
        return "picture", picture
    path = Path(picture)
    return path.name.encode("utf-8", "replace").decode(), path.read_bytes()


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header; None of a date, which no segdex service sends."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _reason(error: httpx.RequestError) -> str:
    return str(error) or type(error).__name__


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
