"""Methods of paths: HEAD where GET is, 405 with the methods that a path has, and a slash at the end."""

from urllib.parse import quote

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TRIED = ("DELETE", "GET", "PATCH", "POST", "PUT")


class AnswerHead:
    """Middleware that answers HEAD as GET without the body: same status, same headers.

    A body of unknown length is a stream, which is not opened: an event stream would last for an hour.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] != "http.response.start":
                return
            await send(message)
            await send({"type": "http.response.body"})
            if "content-length" not in Headers(scope=message):
                raise _EndOfHeadError

        inner = {**scope, "method": "GET"}  # the server needs the true method
        try:
            await self._app(inner, receive, send_head)
        except _EndOfHeadError:
            pass
        finally:  # what the router and the key check have set, for the log
            scope.update({name: inner[name] for name in ("route", "state") if name in inner})


class _EndOfHeadError(Exception):
    """The headers of a stream are sent."""


def allowed_methods(app: FastAPI, scope: Scope) -> str:
    """Return the methods of a path for the header ``Allow``; empty if there is no such path."""
    found = {
        method
        for method in _TRIED
        for route in app.router.routes
        if route.matches({**scope, "method": method})[0] is Match.FULL
    }
    if "GET" in found:
        found.add("HEAD")
    return ", ".join(sorted({*found, "OPTIONS"})) if found else ""


async def answer_other_paths(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a path that no route has: 404, or a redirection if only its last slash is too much.

    The redirection is relative, so that it stays below the path under which a proxy serves the service.

    Raises:
        HTTPException: With 404.
    """
    path = scope["path"].rstrip("/")
    if path != scope["path"] and path and allowed_methods(scope["app"], {**scope, "path": path}):
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        up = "../" * (len(scope["path"]) - len(path))
        response = Response(status_code=308, headers={"Location": up + quote(path.split("/")[-1]) + query})
        await response(scope, receive, send)
        return
    raise HTTPException(404, f"there is no path {scope['path']!r}")
