"""Progress on standard error: a bar at a terminal, otherwise a line now and then."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from segdex.arguments import IngestProgress
from segdex.cli.common import console_err, in_words
from segdex.pace import WORK, Pace
from segdex_core.wire.images import IngestedFile
from segdex_core.wording import duration_of, printable

EVERY_S = 30.0
"""Seconds between two lines where there is no terminal: a log shows whether a run of hours hangs."""

_BAR_FROM_COLUMNS = 100
_WORDS_FROM_COLUMNS = 80


class Reporter:
    """Shows what a command does and how far it is.

    Args:
        console: Console on standard error.
        pace: How fast it goes.
        every_s: Seconds between two lines where there is no terminal.
        now_s: Returns the seconds of a steady clock.
    """

    def __init__(
        self,
        console: Console,
        pace: Pace,
        *,
        every_s: float = EVERY_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._pace, self._every_s, self._now_s = console, pace, every_s, now_s
        # a dumb terminal cannot overwrite a line
        self.is_live = console.is_terminal and not console.is_dumb_terminal
        self._note, self._newest, self._said = "", "", ""
        self._since_s = self._said_s = now_s()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_saying, name="progress", daemon=True)
        self.bar = Progress(*_columns(console), console=console, transient=True) if self.is_live else None
        self._task = None if self.bar is None else self.bar.add_task("", total=None)

    def __enter__(self) -> "Reporter":
        if self.bar is not None:
            self.bar.start()
        else:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self.bar is not None:
            self.bar.stop()
        else:
            self._thread.join()
        if self._pace.total is not None and self._pace.words() != self._said:
            self.say(self._pace.words())

    def begin(self, total: int | None) -> None:
        """Say how many items there are."""
        self._pace.start(total)
        self._show()
        if not self.is_live:
            self.say(self._pace.words())

    def note(self, note: str) -> None:
        """Say that a slow step begins; an empty note ends it."""
        self._note, self._since_s = note, self._now_s()
        self._show()

    def done(self, newest: str, *, is_work: bool, uri: str | None = None, items: int = 1) -> None:
        """Count items; see ``Pace.count``.

        Args:
            newest: The last item and its outcome.
            is_work: Whether they cost work.
            uri: The item.
            items: Number of items.
        """
        self._pace.count(is_work=is_work, uri=uri, items=items)
        self._newest = newest
        self._show()

    def follow(self, newest: str) -> None:
        """Show the last item, where something else counts."""
        self._newest = newest
        self._show()

    def say(self, line: str) -> None:
        """Write a line."""
        self._said, self._said_s = line, self._now_s()
        sys.stderr.write(f"{printable(line)}\n")
        sys.stderr.flush()

    def tick(self) -> None:
        """Write a line if the last one was long ago."""
        if self._now_s() - self._said_s >= self._every_s:
            self.say(self.line())

    def line(self) -> str:
        """Return where the work is, in one line."""
        parts = [] if self._pace.total is None else [self._pace.words()]
        if self._note:
            parts.append(f"{self._note} for {duration_of(self._now_s() - self._since_s)}")
        return "; ".join(parts) or f"at work for {duration_of(self._now_s() - self._since_s)}"

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Show nothing while a question is asked."""
        if self.bar is None:
            yield
            return
        self.bar.stop()
        try:
            yield
        finally:
            self.bar.start()

    def _show(self) -> None:
        if self.bar is not None and self._task is not None:
            is_wide = self._console.width >= _WORDS_FROM_COLUMNS
            shown = self._pace.words() if is_wide else self._pace.short_words()
            words = [shown] if self._pace.total is not None else []
            text = "  ".join([*words, *filter(None, [self._note or self._newest])])
            self.bar.update(
                self._task, total=self._pace.total, completed=self._pace.done, description=printable(text)
            )

    def _keep_saying(self) -> None:
        while not self._ended.wait(min(self._every_s, 1.0)):
            self.tick()


@contextmanager
def shown_progress(
    *, limit: int | None = None, done: str = "segmented", every_s: float = EVERY_S
) -> Iterator[IngestProgress]:
    """Yield callbacks that show a run on standard error, and ask at the terminal if there is one.

    Args:
        limit: Number of pictures after which the run stops.
        done: What is done with a picture.
        every_s: Seconds between two lines where there is no terminal.
    """
    pace = Pace(done=done, limit=limit)
    is_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    with Reporter(console_err(), pace, every_s=every_s) as reporter:

        def on_file(file: IngestedFile) -> None:
            name = f"{Path(file.path).name}: {in_words(file.outcome)}"
            reporter.done(name, is_work=file.outcome in WORK, uri=file.uri)

        def confirm(question: str) -> bool:
            with reporter.paused():
                return typer.confirm(question, err=True)

        yield IngestProgress(
            on_plan=pace.plan,
            on_start=reporter.begin,
            on_file=on_file,
            on_note=reporter.note,
            confirm=confirm if is_terminal else None,
        )


@contextmanager
def counted(what: str, total: int | None, *, one: str | None = None) -> Iterator[Callable[..., None]]:
    """Show how many items are done.

    Yields:
        A function to call after each item, with a number after several, and with ``is_work=False`` after
        items that cost none.

    Args:
        what: What the items are called, in the plural.
        total: Number of items; None if it is not known.
        one: What one of them is called; None for ``what`` without its s.
    """
    pace = Pace(items=what, one=one or what.removesuffix("s"))
    with Reporter(console_err(), pace) as reporter:
        reporter.begin(total)
        yield lambda count=1, is_work=True: reporter.done("", is_work=is_work, items=count)


@contextmanager
def waiting(note: str, *, is_slow: bool = True) -> Iterator[Callable[[str], None]]:
    """Show a step while a block runs, and yield a function that names the next one.

    Args:
        note: What is done.
        is_slow: Whether it always takes long. Otherwise no line is written before the step has taken long.
    """
    with Reporter(console_err(), Pace()) as reporter:
        reporter.note(note)
        if is_slow and not reporter.is_live:
            reporter.say(note)
        yield reporter.note


def _columns(console: Console) -> Iterator[SpinnerColumn | BarColumn | TextColumn]:
    """Return the columns of a bar that never takes more than one line."""
    yield SpinnerColumn()
    if console.width >= _BAR_FROM_COLUMNS:
        yield BarColumn(bar_width=20)
    yield TextColumn(
        "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
    )
