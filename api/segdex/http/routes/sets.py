"""``/v1/sets``: named sets of segments and pictures."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from segdex.http.access import State, require
from segdex.http.problems import responses
from segdex.roles import ROLES
from segdex_core.wire.sets import (
    SetChanged,
    SetDetails,
    SetMembersRequest,
    SetName,
    SetOut,
    SetRequest,
    SetsOut,
)

router = APIRouter(prefix="/v1", tags=["sets"], dependencies=[Depends(require(ROLES["sets"]))])

Name = Annotated[SetName, Path(description="Name of the set.")]

_MAY_WRITE = [Depends(require(ROLES["add_to_set"]))]
_READS = responses(401, 403, 404, 422, 429, 503)
_WRITES = responses(400, 401, 403, 404, 411, 413, 422, 429, 503)


@router.get("/sets", responses=responses(401, 403, 429, 503))
def list_sets(state: State) -> SetsOut:
    """Return all sets, sorted by name."""
    return state.loaded().library.sets()


@router.post("/sets", status_code=201, dependencies=_MAY_WRITE, responses=_WRITES)
def create_set(request: SetRequest, state: State) -> SetOut:
    """Make an empty set."""
    return state.loaded().library.create_set(request.name)


@router.get("/sets/{name}", responses=_READS)
def get_set(name: Name, state: State) -> SetDetails:
    """Return a set with its members, oldest first."""
    return state.loaded().library.show_set(name)


@router.patch("/sets/{name}", dependencies=_MAY_WRITE, responses=_WRITES)
def rename_set(name: Name, request: SetRequest, state: State) -> SetOut:
    """Give a set another name."""
    return state.loaded().library.rename_set(name, request.name)


@router.delete("/sets/{name}", dependencies=_MAY_WRITE, responses=_READS)
def delete_set(name: Name, state: State) -> SetOut:
    """Delete a set; its segments and pictures stay."""
    return state.loaded().library.delete_set(name)


@router.post("/sets/{name}/add", dependencies=_MAY_WRITE, responses=_WRITES)
def add_to_set(name: Name, request: SetMembersRequest, state: State) -> SetChanged:
    """Add segments and pictures to a set, which is made if there is none of the name."""
    return state.loaded().library.add_to_set(name, *request.ids)


@router.post("/sets/{name}/remove", dependencies=_MAY_WRITE, responses=_WRITES)
def remove_from_set(name: Name, request: SetMembersRequest, state: State) -> SetChanged:
    """Remove segments and pictures from a set."""
    return state.loaded().library.remove_from_set(name, *request.ids)
