"""Every call of the service as a value: its request, and how to read its response. Nothing is sent here."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from segdex.answers import Question
from segdex.arguments import (
    Id,
    ImageArgument,
    QueryImage,
    QuestionFields,
    as_box,
    as_id,
    check_authors,
    check_idempotency_key,
    check_side,
    clean_prefix,
    clean_tags,
    concept_request,
    job_request,
    mark_request,
    members_request,
    query_images,
    refine_request,
    search_request,
    set_request,
)
from segdex.client.errors import (
    AccessError,
    BusyError,
    NotThereError,
    RequestError,
    ServiceError,
    UnreachableError,
)
from segdex.client.events import Event
from segdex.documents import Document, document_file, file_name
from segdex.pictures import Picture, picture_file
from segdex_core.wire.concepts import ConceptDetails, ConceptOut, ConceptsOut
from segdex_core.wire.doctor import DoctorRequest, Examined
from segdex_core.wire.export import ExportOptions
from segdex_core.wire.ids import FoundIds
from segdex_core.wire.images import Deleted, Health, ImageOut, Ingested, Stats
from segdex_core.wire.imports import ImportReport, ImportRequest
from segdex_core.wire.jobs import Job
from segdex_core.wire.labels import LabelCounts, LabelReport, LabelRequest, LabelsCleared
from segdex_core.wire.limits import LabelAuthor
from segdex_core.wire.search import RefinementOut, SearchResponse, WeightedText
from segdex_core.wire.segments import MasksOut, PromptOptions, SegmentOut
from segdex_core.wire.sets import SetChanged, SetDetails, SetOut, SetsOut

if TYPE_CHECKING:
    import httpx

    from segdex_core.records import RGBImage

T = TypeVar("T")

MODELS_TIMEOUT_S = 900.0
"""Longest wait for calls that run models, such as an upload behind other uploads, or 100 hits to refine."""

EVENTS_TIMEOUT_S = 60.0
"""Longest wait between events of a job; the service sends a sign of life every 15 s."""


@dataclass(frozen=True, slots=True, eq=False)
class Call(Generic[T]):
    """A request, and how to read its response.

    Attributes:
        method: HTTP method: GET, POST, PATCH or DELETE.
        path: Path below the address of the service, percent-encoded.
        read: Converts the body of the response to the result.
        params: Query parameters.
        body: JSON body; None for no body.
        form: Form fields that are sent with the files.
        files: Name and bytes of each image file.
        accept: Media type of the response.
        timeout_s: Longest wait for the response in seconds; None for the timeout of the client.
        changes: Whether the call changes something; if so, it is not sent again when the response was lost.
        idempotency_key: Key with which the service carries a call out once, however often it is sent.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Mapping[str, int | str | list[str]] = field(default_factory=dict)
    body: bytes | None = None
    form: Mapping[str, str | list[str]] = field(default_factory=dict)
    files: tuple[tuple[str, bytes], ...] = ()
    accept: str = "application/json"
    timeout_s: float | None = None
    changes: bool = False
    idempotency_key: str | None = None

    def to_request(self, http: "httpx.Client | httpx.AsyncClient", *, timeout_s: float) -> "httpx.Request":
        """Return the ``httpx`` request."""
        import httpx

        headers = {"Accept": self.accept}
        if self.idempotency_key is not None:
            headers["Idempotency-Key"] = self.idempotency_key
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        return http.build_request(
            self.method,
            self.path,
            params=self.params or None,
            content=self.body,
            data=self.form or None,
            files=[("file", (*file, "application/octet-stream")) for file in self.files] or None,
            headers=headers,
            timeout=httpx.Timeout(self.timeout_s or timeout_s, connect=CONNECT_TIMEOUT_S),
        )

    def value_of(self, response: "httpx.Response") -> T:
        """Return the result in a response.

        Args:
            response: Response that was read to its end.

        Raises:
            ServiceError: If the response is an error or malformed; the class depends on the status.
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


def search(question: Question) -> Call[SearchResponse]:
    """Search for segments that match texts, segments, regions and images."""
    images = query_images(question.image)
    request = search_request(question.texts, question.fields, images=images)
    return _with_images("/v1/search", request, images, _model(SearchResponse))


def refine(
    texts: Sequence[str | WeightedText],
    image: ImageArgument,
    fields: QuestionFields,
    segment_ids: Sequence[Id],
) -> Call[bytes]:
    """Re-decode the masks of segments; the response is a stream of server-sent events."""
    request = refine_request(texts, segment_ids, fields)
    return _with_images("/v1/refine", request, query_images(image), bytes, accept="text/event-stream")


def _with_images(
    path: str,
    request: BaseModel,
    images: Sequence[QueryImage],
    read: Callable[[bytes], T],
    *,
    accept: str = "application/json",
) -> Call[T]:
    body = to_json(request.model_dump(exclude_unset=True))
    if not images:
        return Call("POST", path, read, body=body, accept=accept, timeout_s=MODELS_TIMEOUT_S)
    boxes = ["" if one.box_xyxy is None else ",".join(map(str, one.box_xyxy)) for one in images]
    return Call(
        "POST",
        f"{path}/by-image",
        read,
        form={
            "request": body.decode(),
            "box": boxes,
            "weight": [str(one.weight) for one in images],
        },
        files=tuple(picture_file(one.image) for one in images),
        accept=accept,
        timeout_s=MODELS_TIMEOUT_S,
    )


def read_refinement(event: Event) -> RefinementOut | None:
    """Return the refinement of an event; None for the event that ends the stream.

    Raises:
        ServiceError: If the service could not continue.
    """
    if event.name == "error":
        raise ServiceError(str(json.loads(event.data).get("detail", "")))
    return None if event.name == "done" else RefinementOut.model_validate_json(event.data)


def export(options: ExportOptions, images: Sequence[QueryImage]) -> Call[bytes]:
    """Export segments; the response is a zip archive."""
    return _with_images("/v1/export", options, images, bytes, accept="application/zip")


def image(image_id: Id) -> Call[ImageOut]:
    """Get the metadata of an image."""
    return Call("GET", f"/v1/images/{as_id(image_id)}", _model(ImageOut))


def image_file(image_id: Id, max_px: int) -> Call[bytes]:
    """Get an image as JPEG."""
    path = f"/v1/images/{as_id(image_id)}/file"
    return Call("GET", path, bytes, params={"max_px": check_side(max_px)}, accept="image/jpeg")


def image_segments(image_id: Id) -> Call[list[SegmentOut]]:
    """Get the segments of an image."""
    return Call("GET", f"/v1/images/{as_id(image_id)}/segments", TypeAdapter(list[SegmentOut]).validate_json)


def pixels(image_id: Id, box_xyxy: tuple[int, int, int, int] | None) -> "Call[RGBImage]":
    """Get the pixels of an image, or of a box in it."""
    box = as_box(box_xyxy)
    params = {} if box is None else {"box": ",".join(map(str, box))}
    path = f"/v1/images/{as_id(image_id)}/pixels.png"
    return Call("GET", path, _read_pixels, params=params, accept="image/png")


def _read_pixels(body: bytes) -> "RGBImage":
    import numpy as np
    from PIL import Image

    with Image.open(BytesIO(body)) as opened:
        return np.asarray(opened.convert("RGB"))


def delete_image(image_id: Id, places: Sequence[str] = ()) -> Call[Deleted]:
    """Delete an image from the index, or take only some of its places off."""
    params = {"place": list(places)} if places else {}
    return Call("DELETE", f"/v1/images/{as_id(image_id)}", _model(Deleted), params=params, changes=True)


def upload(
    image: Picture,
    tags: Sequence[str],
    *,
    wait: bool,
    name: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Ingested]:
    """Upload and ingest an image; with a key of its own, if none is given, it may be sent again."""
    form: dict[str, str | list[str]] = {"wait": "true" if wait else "false"}
    if tags:
        form["tags"] = list(clean_tags(tags))
    file_name, data = picture_file(image)
    return Call(
        "POST",
        "/v1/images",
        _model(Ingested),
        form=form,
        files=((name or file_name, data),),
        timeout_s=MODELS_TIMEOUT_S,
        idempotency_key=_key(idempotency_key),
    )


def segment(segment_id: Id) -> Call[SegmentOut]:
    """Get a segment."""
    return Call("GET", f"/v1/segments/{as_id(segment_id)}", _model(SegmentOut))


def segment_object(options: PromptOptions, *, image: Picture | None, image_id: Id | None) -> Call[MasksOut]:
    """Get the masks of a prompt."""
    read = _model(MasksOut)
    values = options.model_dump(exclude_defaults=True)
    if image is None:
        body = to_json({"image_id": as_id(image_id or ""), **values})
        return Call("POST", "/v1/segment", read, body=body, timeout_s=MODELS_TIMEOUT_S)
    return Call(
        "POST",
        "/v1/segment/by-image",
        read,
        form={"request": to_json(values).decode()},
        files=(picture_file(image),),
        timeout_s=MODELS_TIMEOUT_S,
    )


def jobs() -> Call[list[Job]]:
    """Get the last jobs."""
    return Call("GET", "/v1/jobs", TypeAdapter(list[Job]).validate_json)


def add_job(
    paths: Sequence[str | Path],
    tags: Sequence[str],
    *,
    redo_outdated: bool,
    idempotency_key: str | None = None,
) -> Call[Job]:
    """Queue an ingest on the machine of the service; with a key of its own it may be sent again."""
    body = to_json(job_request(paths, tags, redo_outdated=redo_outdated))
    return Call("POST", "/v1/jobs", _model(Job), body=body, idempotency_key=_key(idempotency_key))


def _key(given: str | None) -> str:
    return check_idempotency_key(given) or uuid4().hex


def job(job_id: str) -> Call[Job]:
    """Get a job."""
    return Call("GET", f"/v1/jobs/{_part(job_id)}", _model(Job))


def stop_job(job_id: str) -> Call[Job]:
    """Stop a job."""
    return Call("DELETE", f"/v1/jobs/{_part(job_id)}", _model(Job))  # may be sent twice


def job_events(job_id: str) -> Call[bytes]:
    """Get the events of a job."""
    path = f"/v1/jobs/{_part(job_id)}/events"
    return Call("GET", path, bytes, accept="text/event-stream", timeout_s=EVENTS_TIMEOUT_S)


def read_job(event: Event) -> Job:
    """Return the job of an event."""
    return Job.model_validate_json(event.data)


def stats() -> Call[Stats]:
    """Get the size of the index and the models that filled it."""
    return Call("GET", "/v1/stats", _model(Stats))


def doctor(*, fix: bool) -> Call[Examined]:
    """Ask for an examination of the index; again is harmless."""
    body = to_json(DoctorRequest(fix=fix))
    return Call("POST", "/v1/doctor", _model(Examined), body=body, timeout_s=MODELS_TIMEOUT_S)


def find_ids(prefix: str) -> Call[FoundIds]:
    """Ask whose ids start with some digits."""
    return Call("GET", f"/v1/ids/{clean_prefix(prefix)}", _model(FoundIds))


def labels() -> Call[LabelCounts]:
    """Ask how many segments carry each label."""
    return Call("GET", "/v1/labels", _model(LabelCounts))


def label(request: LabelRequest) -> Call[LabelReport]:
    """Ask to label segments."""
    return Call(
        "POST",
        "/v1/labels",
        _model(LabelReport),
        body=to_json(request),
        timeout_s=MODELS_TIMEOUT_S,
        changes=True,
    )


def clear_labels(names: Sequence[str], authors: Sequence[LabelAuthor]) -> Call[LabelsCleared]:
    """Ask to remove labels."""
    return Call(
        "DELETE",
        "/v1/labels",
        _model(LabelsCleared),
        params={"label": list(names), "author": list(check_authors(authors))},
        timeout_s=MODELS_TIMEOUT_S,
        changes=True,
    )


def import_labels(document: Document, request: ImportRequest) -> Call[ImportReport]:
    """Ask to take the annotations of a document back; again is harmless."""
    name, data = document_file(document)
    return Call(
        "POST",
        "/v1/import",
        _model(ImportReport),
        form={"request": to_json(request).decode()},
        files=((file_name(name), data),),
        timeout_s=MODELS_TIMEOUT_S,
    )


def sets() -> Call[SetsOut]:
    """Ask for all sets."""
    return Call("GET", "/v1/sets", _model(SetsOut))


def show_set(name: str) -> Call[SetDetails]:
    """Ask for a set with its members."""
    return Call("GET", _set_path(name), _model(SetDetails))


def create_set(name: str) -> Call[SetOut]:
    """Ask to make a set."""
    return Call("POST", "/v1/sets", _model(SetOut), body=to_json(set_request(name)), changes=True)


def add_to_set(name: str, ids: Sequence[Id]) -> Call[SetChanged]:
    """Ask to add members to a set; again is harmless."""
    return Call("POST", f"{_set_path(name)}/add", _model(SetChanged), body=to_json(members_request(ids)))


def remove_from_set(name: str, ids: Sequence[Id]) -> Call[SetChanged]:
    """Ask to remove members from a set; again is harmless."""
    return Call("POST", f"{_set_path(name)}/remove", _model(SetChanged), body=to_json(members_request(ids)))


def rename_set(name: str, new_name: str) -> Call[SetOut]:
    """Ask to give a set another name."""
    body = to_json(set_request(new_name))
    return Call("PATCH", _set_path(name), _model(SetOut), body=body, changes=True)


def delete_set(name: str) -> Call[SetOut]:
    """Ask to delete a set."""
    return Call("DELETE", _set_path(name), _model(SetOut), changes=True)


def concepts() -> Call[ConceptsOut]:
    """Ask for all concepts."""
    return Call("GET", "/v1/concepts", _model(ConceptsOut))


def show_concept(name: str) -> Call[ConceptDetails]:
    """Ask for a concept with its marks."""
    return Call("GET", _concept_path(name), _model(ConceptDetails))


def mark(
    name: str, *, right: Sequence[Id], wrong: Sequence[Id], neither: Sequence[Id], text: str | None
) -> Call[ConceptOut]:
    """Ask to change the marks of a concept; again is harmless."""
    request = mark_request(right=right, wrong=wrong, neither=neither, text=text)
    return Call("POST", f"{_concept_path(name)}/mark", _model(ConceptOut), body=to_json(request))


def rename_concept(name: str, new_name: str) -> Call[ConceptOut]:
    """Ask to give a concept another name."""
    body = to_json(concept_request(new_name))
    return Call("PATCH", _concept_path(name), _model(ConceptOut), body=body, changes=True)


def delete_concept(name: str) -> Call[ConceptOut]:
    """Ask to delete a concept."""
    return Call("DELETE", _concept_path(name), _model(ConceptOut), changes=True)


def _concept_path(name: str) -> str:
    return f"/v1/concepts/{_part(concept_request(name).name)}"


def _set_path(name: str) -> str:
    return f"/v1/sets/{_part(set_request(name).name)}"


def healthz() -> Call[Health]:
    """Get the health of the process of the service."""
    return Call("GET", "/healthz", _model(Health))


def readyz() -> Call[Health]:
    """Get the readiness of the models and the index."""
    return Call("GET", "/readyz", _model(Health))


def metrics() -> Call[str]:
    """Get the metrics of the process."""
    return Call("GET", "/metrics", bytes.decode, accept="text/plain")


def check(response: "httpx.Response") -> None:
    """Raise if a response is an error.

    Args:
        response: Response that was read to its end.

    Raises:
        ServiceError: If the response is an error; the class depends on the status.
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


def unreachable(server: str, error: "httpx.RequestError") -> UnreachableError:
    """Return the error of a request without a response."""
    import httpx

    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return UnreachableError(f"no service answers at {server}: {_reason(error)}")
    if isinstance(error, httpx.TimeoutException):
        return UnreachableError(f"{server} does not answer in time: {_reason(error)}")
    return UnreachableError(f"{server} ended the connection before its answer: {_reason(error)}")


def broken_off(server: str) -> UnreachableError:
    """Return the error of a stream of events that broke off."""
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


def _part(name: str) -> str:
    return quote(name, safe="", errors="surrogateescape")  # the service answers that there is none


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header; None for a date, which no segdex service sends."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _reason(error: "httpx.RequestError") -> str:
    return str(error) or type(error).__name__


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
