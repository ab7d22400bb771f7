"""``/v1/export``: segments with their masks for other tools, as a zip archive made while it is sent."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from segdex.http.access import State, require
from segdex.http.problems import responses
from segdex.http.routes.forms import read_form
from segdex.http.routes.search import Boxes, Files, Request, Weights, sent_images
from segdex.http.state import ServiceState
from segdex.roles import ROLES
from segdex.usecases.search import SentImage
from segdex_core.wire.export import ExportOptions, ExportRequest, MaskExportRequest
from segdex_core.wire.limits import MAX_TEXT_CHARS

if TYPE_CHECKING:
    from segdex.usecases.export.run import Export

Asked = Annotated[
    str | None,
    Query(
        max_length=MAX_TEXT_CHARS, description="What it was searched for: its category if it has no label."
    ),
]

router = APIRouter(prefix="/v1", tags=["export"], dependencies=[Depends(require(ROLES["export"]))])

_ZIP = "application/zip"
_ARCHIVE: dict[int | str, dict[str, object]] = {
    200: {
        "description": (
            "A zip archive with the files of the format; the last, `segdex-export.json`, is an `Exported`. "
            "An archive that is cut off cannot be opened."
        ),
        "content": {_ZIP: {}},
    }
}

_DOCUMENT: dict[int | str, dict[str, object]] = {
    200: {"description": "A COCO data set.", "content": {"application/json": {"schema": {"type": "object"}}}}
}


@router.post(
    "/export",
    response_class=Response,
    responses={**_ARCHIVE, **responses(400, 401, 403, 404, 410, 411, 413, 415, 422, 429, 503, 507)},
)
def export(request: ExportRequest, state: State) -> Response:
    """Export the hits of a question, given segments, or all segments that meet a filter."""
    return _archive(state, request, [])


@router.post(
    "/export/by-image",
    response_class=Response,
    responses={**_ARCHIVE, **responses(400, 401, 403, 404, 410, 411, 413, 415, 422, 429, 503, 507)},
)
def export_by_image(
    state: State,
    file: Files,
    request: Request,
    box: Boxes = [],  # noqa: B006 - FastAPI copies it
    weight: Weights = [],  # noqa: B006
) -> Response:
    """Export the segments that look like uploaded images, or like parts of them."""
    return _archive(state, read_form(request, ExportOptions), sent_images(state, file, box, weight))


@router.get(
    "/segments/{segment_id}/coco.json",
    response_class=Response,
    responses={**_DOCUMENT, **responses(401, 403, 404, 422, 429, 503)},
)
def get_segment_coco(segment_id: UUID, state: State, asked: Asked = None) -> Response:
    """Return a segment as a COCO data set of one picture and one annotation."""
    return _document(state.loaded().library.coco_document(segment_id, asked=asked))


@router.post(
    "/images/{image_id}/coco.json",
    response_class=Response,
    responses={**_DOCUMENT, **responses(400, 401, 403, 404, 411, 413, 422, 429, 503)},
)
def get_mask_coco(image_id: UUID, request: MaskExportRequest, state: State, asked: Asked = None) -> Response:
    """Return a mask that the index does not hold, such as a refined one, as a COCO data set."""
    return _document(state.loaded().library.coco_document(image_id=image_id, drawn=request, asked=asked))


def _document(data: bytes) -> Response:
    return Response(data, media_type="application/json", headers={"Cache-Control": "no-store"})


def _archive(state: ServiceState, options: ExportOptions, sent: list[SentImage]) -> Response:
    made = state.loaded().library.export_files(options, sent)
    return StreamingResponse(
        _chunks(made),
        media_type=_ZIP,
        headers={
            "Content-Disposition": f'attachment; filename="segdex-{options.format}.zip"',
            "Cache-Control": "no-store",
        },
    )


def _chunks(made: "Export") -> Iterator[bytes]:
    from segdex.saving import archive_of

    with closing(made):
        yield from archive_of(made.files())
