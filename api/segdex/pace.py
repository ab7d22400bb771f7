"""How fast work goes and how long the rest takes, from the items alone that cost work."""

import time
from collections.abc import Callable, Collection

from segdex_core.wire.images import ANALYSED
from segdex_core.wording import duration_of

WORK = frozenset({*ANALYSED, "reembedded", "backed_up", "restored", "exported"})
"""Outcomes of files that cost work. Files that are unchanged or no pictures end at once: they say nothing
about the rest, which may be pictures alone."""


class Pace:
    """The rate of a run and an upper bound of the time that is left.

    Args:
        items: What the items are called.
        one: What an item that costs work is called.
        done: What is done with an item that costs work.
        limit: Number of items that cost work after which the run stops; None for all.
        now_s: Returns the seconds of a steady clock.
    """

    def __init__(
        self,
        *,
        items: str = "files",
        one: str = "picture",
        done: str = "segmented",
        limit: int | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total: int | None = None
        self.done = self.worked = 0
        self._items, self._one, self._verb = items, one, done
        self._limit, self._now_s = limit, now_s
        self._to_do: set[str] | None = None
        self._rest = 0
        self._started_s = now_s()

    def plan(self, uris: Collection[str]) -> None:
        """Say which items may cost work; the others are known to cost none."""
        self._to_do = set(uris)

    def start(self, total: int | None) -> None:
        """Begin with a number of items; None if it is not known."""
        self.total, self._started_s = total, self._now_s()
        self._rest = (total or 0) if self._to_do is None else len(self._to_do)

    def count(self, *, is_work: bool, uri: str | None = None, items: int = 1) -> None:
        """Count items that are done.

        Args:
            is_work: Whether they cost work.
            uri: The item; None if nothing was planned.
            items: Number of items.
        """
        self.done += items
        self.worked += items * is_work
        if self._to_do is None:
            self._rest = max(self._rest - items, 0)
        elif uri in self._to_do:
            self._to_do.remove(uri)
            self._rest = len(self._to_do)

    @property
    def per_s(self) -> float | None:
        """Items that cost work a second, over the whole run; None before the first."""
        return self.worked / max(self._now_s() - self._started_s, 1e-3) if self.worked else None

    @property
    def rest(self) -> int:
        """Number of items that may still cost work."""
        return self._rest if self._limit is None else min(self._rest, max(self._limit - self.worked, 0))

    @property
    def left_s(self) -> float | None:
        """Seconds that are left if all of the rest costs work; None before the first item that did."""
        if not self.rest:
            return 0.0
        return None if self.per_s is None else self.rest / self.per_s

    def words(self) -> str:
        """Return one line: how many are done, the rate, and the time that is left."""
        parts = [f"{self.done:,}{'' if self.total is None else f' of {self.total:,}'} {self._items}"]
        if self.worked != self.done:
            parts.append(f"{self.worked:,} {self._verb}")
        return ", ".join([*parts, *speed_words(self.per_s, self.left_s, one=self._one)])

    def short_words(self) -> str:
        """Return the same in a few characters, for a narrow terminal."""
        per_s, left_s = self.per_s, self.left_s
        parts = [f"{self.done:,}{'' if self.total is None else f'/{self.total:,}'}"]
        if per_s:
            parts.append(f"{per_s:.1f}/s" if per_s >= 1 else f"{1 / per_s:.1f} s each")
        if left_s:
            parts.append(f"{duration_of(left_s)} left")
        return "  ".join(parts)


def speed_words(per_s: float | None, left_s: float | None, *, one: str = "picture") -> list[str]:
    """Return a rate and a time that is left as people read them.

    Args:
        per_s: Items a second; None if it is not known.
        left_s: Seconds that are left; None if they are not known.
        one: What an item is called.

    Example:
        >>> speed_words(0.25, 300.0), speed_words(None, None), speed_words(2.0, 0.0)
        (['4.0 s a picture', 'about 5 min left'], ['time left not known yet'], ['2.0 pictures a second'])
    """
    rate = f"{per_s or 0:.1f} {one}s a second" if (per_s or 0) >= 1 else f"{1 / (per_s or 1):.1f} s a {one}"
    left = "time left not known yet" if left_s is None else f"about {duration_of(left_s)} left"
    return [*([rate] if per_s else []), *([] if left_s == 0 else [left])]
