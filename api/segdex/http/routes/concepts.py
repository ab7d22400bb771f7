"""``/v1/concepts``: saved concepts."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from segdex.http.access import State, require
from segdex.http.problems import responses
from segdex.roles import ROLES
from segdex_core.wire.concepts import (
    ConceptDetails,
    ConceptName,
    ConceptOut,
    ConceptRequest,
    ConceptsOut,
    MarkRequest,
)

router = APIRouter(prefix="/v1", tags=["concepts"], dependencies=[Depends(require(ROLES["concepts"]))])

Name = Annotated[ConceptName, Path(description="Name of the concept.")]

_MAY_WRITE = [Depends(require(ROLES["mark"]))]
_READS = responses(401, 403, 404, 422, 429, 503)
_WRITES = responses(400, 401, 403, 404, 411, 413, 422, 429, 503)


@router.get("/concepts", responses=responses(401, 403, 429, 503))
def list_concepts(state: State) -> ConceptsOut:
    """Return the saved concepts, sorted by name."""
    return state.loaded().library.concepts()


@router.get("/concepts/{name}", responses=_READS)
def get_concept(name: Name, state: State) -> ConceptDetails:
    """Return a concept with its marks, in the order in which they were made."""
    return state.loaded().library.show_concept(name)


@router.post("/concepts/{name}/mark", dependencies=_MAY_WRITE, responses=_WRITES)
def mark_concept(name: Name, request: MarkRequest, state: State) -> ConceptOut:
    """Mark segments as right or wrong for a concept, which is made if there is none of the name."""
    return state.loaded().library.mark(
        name, right=request.right, wrong=request.wrong, neither=request.neither, text=request.text
    )


@router.patch("/concepts/{name}", dependencies=_MAY_WRITE, responses=_WRITES)
def rename_concept(name: Name, request: ConceptRequest, state: State) -> ConceptOut:
    """Give a concept another name."""
    return state.loaded().library.rename_concept(name, request.name)


@router.delete("/concepts/{name}", dependencies=_MAY_WRITE, responses=_READS)
def delete_concept(name: Name, state: State) -> ConceptOut:
    """Delete a concept; segments stay."""
    return state.loaded().library.delete_concept(name)
