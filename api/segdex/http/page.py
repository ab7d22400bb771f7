"""The files of the page: each is a path of its own, so that a path that does not exist is one."""

import mimetypes
from functools import partial
from importlib.resources import files

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from segdex.http.etags import answer_with_etag, known_tags

_START = "index.html"
# Not the tables of the machine: on some, scripts are text/plain, which browsers refuse.
_TYPES = mimetypes.MimeTypes(filenames=())
_TYPES.add_type("text/javascript", ".js")


def add_page(app: FastAPI) -> None:
    """Add a path for each file of the page; ``index.html`` is also at ``/``."""
    for file in sorted((files("segdex") / "web").iterdir(), key=lambda one: one.name):
        if not file.is_file():
            continue
        answer = partial(_answer, data=file.read_bytes(), media_type=_media_type(file.name))
        for path in (f"/{file.name}", *(["/"] if file.name == _START else [])):
            app.add_api_route(path, answer, include_in_schema=False, response_model=None)


async def _answer(request: Request, *, data: bytes, media_type: str) -> Response:
    return answer_with_etag(data, media_type=media_type, if_none_match=known_tags(request))


def _media_type(name: str) -> str:
    found = _TYPES.guess_type(name)[0] or "application/octet-stream"
    return f"{found}; charset=utf-8" if found.startswith("text/") else found
