"""``/v1/export``: segments with their masks for other tools, as a zip archive made while it is sent."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from segdex.http.access import State, require
from segdex.http.problems import responses
from segdex.http.routes.forms import read_form
from segdex.http.routes.search import Boxes, Files, Request, Weights, sent_images
from segdex.http.state import ServiceState
from segdex.roles import ROLES
from segdex.usecases.search import SentImage
from segdex_core.wire.export import ExportOptions, ExportRequest

if TYPE_CHECKING:
    from segdex.usecases.export.run import Export

router = APIRouter(prefix="/v1", tags=["export"], dependencies=[Depends(require(ROLES["export"]))])

_ZIP = "application/zip"
_ARCHIVE: dict[int | str, dict[str, object]] = {
    200: {
        "description": (
            "A zip archive with the files of the format; the last, `segdex-export.json`, is an `Exported`. "
            "An archive that is cut off cannot be opened."
        ),
        "content": {_ZIP: {"schema": {"type": "string", "format": "binary"}}},
    }
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
