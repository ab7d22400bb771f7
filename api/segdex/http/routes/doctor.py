"""``/v1/doctor``: an examination of the index."""

from fastapi import APIRouter, Depends

from segdex.http.access import State, require
from segdex.http.problems import responses
from segdex.roles import ROLES
from segdex_core.wire.doctor import DoctorRequest, Examined

router = APIRouter(prefix="/v1", tags=["pictures"], dependencies=[Depends(require(ROLES["doctor"]))])


@router.post("/doctor", responses=responses(400, 401, 403, 411, 413, 422, 429, 503))
def examine_index(request: DoctorRequest, state: State) -> Examined:
    """Examine the index, the uploads and the queue, and mend what loses nothing if that is asked for."""
    return state.loaded().library.doctor(fix=request.fix)
