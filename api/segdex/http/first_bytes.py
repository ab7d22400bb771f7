"""Refuses an upload that is no picture by its first bytes, before the rest of it arrives."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Message, Receive

from segdex.http.keys import find_key
from segdex.usecases.uploads import UPLOAD
from segdex_core.errors import NotAnImageError
from segdex_core.media.formats import sniff
from segdex_core.media.others import SIGNATURE_BYTES


class PictureRoute(APIRoute):
    """A route whose forms have pictures as files.

    Forms that are no valid ones pass, and so do those of senders without a key: what reads them says so.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which receives a request only as long as its first file may be a picture."""
        handle = super().get_route_handler()

        async def handle_pictures(request: Request) -> Response:
            kind, options = parse_options_header(request.headers.get("content-type"))
            boundary = options.get(b"boundary")
            if kind == b"multipart/form-data" and boundary and _has_key(request):
                request = Request(request.scope, _refusing(request.receive, _FirstFile(boundary)))
            return await handle(request)

        return handle_pictures


def _has_key(request: Request) -> bool:
    keys = request.app.state.service.keys
    _, _, given = request.headers.get("authorization", "").partition(" ")
    return not keys or find_key(keys, given.strip()) is not None


def _refusing(receive: Receive, first: "_FirstFile") -> Receive:
    async def received() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            first.add(message.get("body", b""))
        return message

    return received


class _FirstFile:
    """Reads a form up to the first bytes of its first file."""

    def __init__(self, boundary: bytes) -> None:
        self._head = bytearray()
        self._disposition = bytearray()
        self._header = bytearray()
        self._is_file = self._is_done = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._name,
                "on_header_value": self._value,
                "on_header_end": self._header.clear,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._end,
            },
        )

    def add(self, part: bytes) -> None:
        """Read a part of the request.

        Raises:
            HTTPException: If the file is no picture.
        """
        if self._is_done:
            return
        try:
            self._parser.write(part)
        except FormParserError:
            self._is_done = True

    def _begin(self) -> None:
        self._disposition.clear()
        self._is_file = False

    def _name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end].lower()

    def _value(self, data: bytes, start: int, end: int) -> None:
        if self._header == b"content-disposition":
            self._disposition += data[start:end]

    def _headers_end(self) -> None:
        self._is_file = b"filename" in parse_options_header(bytes(self._disposition))[1]

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file and not self._is_done:
            self._head += data[start : min(end, start + SIGNATURE_BYTES)]
            if len(self._head) >= SIGNATURE_BYTES:
                self._end()

    def _end(self) -> None:
        if not self._is_file or self._is_done:
            return
        self._is_done = True
        try:
            sniff(bytes(self._head), name=UPLOAD)
        except NotAnImageError as error:
            raise HTTPException(415, str(error)) from error
