"""``/v1/ids``: ids by their first digits."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from segdex.http.access import State, require
from segdex.http.problems import responses
from segdex.roles import ROLES
from segdex_core.wire.ids import FoundIds, IdPrefix

router = APIRouter(prefix="/v1", tags=["ids"], dependencies=[Depends(require(ROLES["find_ids"]))])


@router.get("/ids/{prefix}", responses=responses(401, 403, 422, 429, 503))
def find_ids(
    prefix: Annotated[IdPrefix, Path(description="The first 4 or more hexadecimal digits.")], state: State
) -> FoundIds:
    """Find the segments and pictures whose ids start with some digits: the first few of each."""
    return state.loaded().library.find_ids(prefix)
