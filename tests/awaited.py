"""What is awaited, as if it were not: so that a test is written once for both clients."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Iterator
from typing import Any, cast

from segdex.answers import Found, Hits, ImageHits


class Awaited:
    """An ``AsyncClient``, or what it returned, whose methods return results instead of awaitables."""

    def __init__(self, wrapped: Any, runner: asyncio.Runner) -> None:
        self._wrapped, self._runner = wrapped, runner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._wrapped, name)
        if not inspect.ismethod(value):
            return self._result(value)
        return lambda *args, **kwargs: self._result(value(*args, **kwargs))

    def __iter__(self) -> Iterator[Any]:
        return map(self._result, iter(self._wrapped))

    def __len__(self) -> int:
        return len(self._wrapped)

    def __getitem__(self, position: int | slice) -> Any:
        return self._result(self._wrapped[position])

    def _result(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            return self._result(self._runner.run(value))
        if inspect.isasyncgen(value):
            return self._each(cast("AsyncGenerator[Any, None]", value))
        if isinstance(value, Found | Hits | ImageHits):
            return Awaited(value, self._runner)
        if type(value) in (list, tuple):  # not of a named tuple such as a box
            return type(value)(map(self._result, value))
        return value

    def _each(self, values: AsyncGenerator[Any, None]) -> Iterator[Any]:
        async def following() -> list[Any]:
            try:
                return [await anext(values)]
            except StopAsyncIteration:
                return []

        try:
            while found := self._runner.run(following()):
                yield self._result(found[0])
        finally:
            self._runner.run(values.aclose())
