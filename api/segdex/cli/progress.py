"""Progress as a bar on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.status import Status
from rich.text import Text

from segdex.arguments import IngestProgress
from segdex.cli.common import console_err, in_words
from segdex_core.wire.images import IngestedFile


@contextmanager
def shown_progress() -> Iterator[IngestProgress]:
    """Yield callbacks that show an ingest as a bar on standard error, and ask at the terminal if any."""
    bar = _Bar()
    is_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    try:
        yield IngestProgress(
            on_start=bar.start,
            on_file=bar.on_file,
            on_note=bar.on_note,
            confirm=(lambda question: typer.confirm(question, err=True)) if is_terminal else None,
        )
    finally:
        bar.stop()


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a bar, and yield a function to call after each item, or with a number after several."""
    with Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console_err(),
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count=1: progress.advance(task, count)


class _RateColumn(ProgressColumn):
    """Files per second, or seconds per file where that reads better."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("-- files/s", style="progress.data.speed")
        text = f"{speed:.1f} files/s" if speed >= 1 else f"{1 / speed:.1f} s/file"
        return Text(text, style="progress.data.speed")


class _Bar:
    """A bar on standard error that shows the outcome of the last file."""

    def __init__(self) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console_err(),
        )
        self._task = self._bar.add_task("", total=None)
        self._status: Status | None = None  # shown before the bar, which a question would overwrite

    def start(self, total: int) -> None:
        """Show the bar; repeated calls are harmless."""
        self._bar.update(self._task, total=total)
        self._bar.start()

    def stop(self) -> None:
        """Stop the bar and leave it visible."""
        self.on_note("")
        self._bar.stop()

    def on_file(self, file: IngestedFile) -> None:
        """Count a file and show its outcome."""
        name = Path(file.path).name
        self._bar.update(self._task, advance=1, description=f"{name}: {in_words(file.outcome)}")

    def on_note(self, note: str) -> None:
        """Show a slow step, in the bar or, before the bar is shown, alone; an empty note ends it."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._bar.live.is_started:
            self._bar.update(self._task, description=note)
        elif note:
            self._status = console_err().status(note)
            self._status.start()
