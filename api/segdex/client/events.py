"""Server-sent events, parsed from the bytes of a response as they arrive."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)
"""The line ends of events. A carriage return at the end of a chunk may be half of a line end, and is kept for
the next chunk."""


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event.

    Attributes:
        name: Type of the event.
        data: Data of the event, JSON.
    """

    name: str
    data: str


class EventParser:
    r"""Parses events from chunks of bytes of any size.

    Example:
        >>> parser = EventParser()
        >>> [*parser.feed(b"event: job\nda"), *parser.feed(b"ta: {}\n\n")]
        [Event(name='job', data='{}')]
    """

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that a chunk completes."""
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        for line in lines:
            if line:
                self._take(line.decode("utf-8", "replace"))
                continue
            if self._data:
                yield Event(self._name or "message", "\n".join(self._data))
            self._name, self._data = "", []

    def _take(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
