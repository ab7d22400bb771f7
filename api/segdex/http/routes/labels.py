"""``/v1/labels``: what segments show, in words."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from segdex.http.access import State, require
from segdex.http.problems import responses
from segdex.roles import ROLES
from segdex_core.wire.labels import LabelCounts, LabelName, LabelReport, LabelRequest, LabelsCleared
from segdex_core.wire.limits import MAX_LABELS, LabelAuthor

router = APIRouter(prefix="/v1", tags=["labels"], dependencies=[Depends(require(ROLES["labels"]))])


@router.get("/labels", responses=responses(401, 403, 429, 503))
def list_labels(state: State) -> LabelCounts:
    """Say how many segments carry each label."""
    return state.loaded().library.labels()


@router.post(
    "/labels",
    dependencies=[Depends(require(ROLES["label"]))],
    responses=responses(400, 401, 403, 404, 411, 413, 422, 429, 503),
)
def label_segments(request: LabelRequest, state: State) -> LabelReport:
    """Label all segments with words, or some segments as a person; the author's former labels go."""
    return state.loaded().library.label_as(request)


@router.delete(
    "/labels",
    dependencies=[Depends(require(ROLES["clear_labels"]))],
    responses=responses(401, 403, 422, 429, 503),
)
def clear_labels(
    state: State,
    label: Annotated[
        list[LabelName], Query(max_length=MAX_LABELS, description="These alone; none: all.")
    ] = [],  # noqa: B006 - FastAPI copies it
    author: Annotated[
        list[LabelAuthor], Query(max_length=3, description="Kinds of authors whose labels go.")
    ] = ["model"],  # noqa: B006
) -> LabelsCleared:
    """Remove labels from all segments."""
    return state.loaded().library.clear_labels(*label, authors=author)
