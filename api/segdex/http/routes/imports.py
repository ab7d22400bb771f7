"""``/v1/import``: annotations of another tool come back as labels."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, UploadFile

from segdex.http.access import State, require
from segdex.http.problems import responses
from segdex.http.routes.forms import read_form, read_upload
from segdex.roles import ROLES
from segdex_core.wire.imports import ImportReport, ImportRequest

router = APIRouter(prefix="/v1", tags=["labels"], dependencies=[Depends(require(ROLES["import_labels"]))])


@router.post("/import", responses=responses(400, 401, 403, 411, 413, 415, 422, 429, 503, 507))
def import_labels(
    file: UploadFile,
    request: Annotated[str, Form(max_length=10_000, description="An `ImportRequest`, as JSON.")],
    state: State,
) -> ImportReport:
    """Take the annotations of an uploaded document back as labels of segments, as a person."""
    options = read_form(request, ImportRequest)
    return state.loaded().library.import_as(options, read_upload(file, state.settings))
