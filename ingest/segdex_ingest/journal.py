"""Which images were being analysed when a process died, so that no image ends one run after the other.

Each run has a file that names the images it is at, and holds a lock on it. The system releases the lock when
the process ends, however it ends. A later run finds the file, and the images in it are suspects: it analyses
each of them alone. An image that was open at a second death is left out. Ctrl-C, SIGTERM and errors are no
deaths, nor is a restart of the machine.
"""

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from uuid import UUID, uuid4

from pydantic import BaseModel, ValidationError

from segdex_core.errors import ImageCrashedError
from segdex_core.files import write_durably

DEATHS = 2
"""Deaths at which an image was open before it is left out."""


class _Open(BaseModel):
    """What a run is at: names of images by key. ``boot`` identifies the time since the machine started."""

    boot: str
    open: dict[str, str] = {}


class _Suspect(BaseModel):
    name: str
    deaths: int


class _Suspects(BaseModel):
    by_key: dict[str, _Suspect] = {}


class Journal:
    """The journal of all processes that fill an index on this machine.

    A folder that cannot be written has no journal, and stops no ingest.

    Args:
        folder: Returns the folder for the journal of one index; made where it is missing.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._runs: set[RunJournal] = set()

    @contextmanager
    def run(self, recipe: str) -> "Iterator[RunJournal]":
        """Yield the journal of one run, which ends without a death however the block ends.

        Args:
            recipe: Fingerprint of the recipe. An image that ended one recipe may pass with another.
        """
        run = RunJournal(self._folder(), recipe)
        self._runs.add(run)
        try:
            with _at_sigterm(run.stop):
                yield run
        finally:
            self._runs.discard(run)
            run.close()

    def stopping(self) -> None:
        """Note that this process is being stopped: if it is killed from now on, no image is the reason."""
        for run in tuple(self._runs):
            run.stop()


class RunJournal:
    """The journal of one run; its threads share it.

    Args:
        folder: Folder of the journal.
        recipe: Fingerprint of the recipe.
    """

    def __init__(self, folder: Path, recipe: str) -> None:
        self._folder = folder
        self._recipe = recipe
        self._suspects_file = folder / "crashed.json"
        self._lock = threading.Lock()
        self._gate = _Gate()
        self._open: dict[str, str] = {}
        self._stopped = False
        self._descriptor: int | None = None
        self._path = folder / f"{uuid4().hex}.open"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._gather()
            self._begin()
        except OSError:  # such as a cache folder that cannot be written
            self._descriptor = None
        self._suspects = _read(self._suspects_file).by_key

    @contextmanager
    def at(self, image_id: UUID, name: str) -> Iterator[None]:
        """Hold an image open while it is analysed; a suspect waits until nothing else is, and runs alone.

        Args:
            image_id: Id of the image.
            name: Name of the image for messages.

        Raises:
            ImageCrashedError: If the image is left out.
        """
        key = f"{image_id} {self._recipe}"
        suspect = self._suspects.get(key)
        if suspect is not None and suspect.deaths >= DEATHS:
            raise ImageCrashedError(
                f"{name}: segdex ended {suspect.deaths} times while it was at this picture, which is left "
                f"out until its file changes; delete {self._suspects_file} to try it again"
            )
        with self._gate.alone() if suspect is not None else self._gate.together():
            self._write(lambda: self._open.__setitem__(key, name))
            try:
                yield
            finally:
                self._write(lambda: self._open.pop(key))
                if suspect is not None and not self._stopped:
                    self._clear(key)

    def stop(self) -> None:
        """Note that the process may be killed from now on without an image being the reason."""
        # without the lock: a signal handler may run in the thread that holds it
        self._stopped = True
        with suppress(OSError):
            self._path.unlink()

    def close(self) -> None:
        """Remove the file of the run, once no image is open."""
        self.stop()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        with suppress(OSError):  # other runs, or suspects
            self._folder.rmdir()

    def _begin(self) -> None:
        part = self._path.with_suffix(".part")
        self._descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        part.rename(self._path)  # other runs see it only now that it is locked
        self._write(lambda: None)

    def _write(self, change: Callable[[], object]) -> None:
        with self._lock:
            change()
            line = _Open(boot=_boot(), open=self._open).model_dump_json() + "\n"
            if self._descriptor is not None:
                with suppress(OSError):  # what is left of a longer line stands after the end of this one
                    os.pwrite(self._descriptor, line.encode(), 0)

    def _gather(self) -> None:
        """Count a death for each image that a dead run was at, and remove the files of dead runs."""
        with self._locked():
            suspects = _read(self._suspects_file)
            for path in sorted(self._folder.glob("*.open")):
                found = _of_dead_run(path)
                if found is None:
                    continue
                path.unlink(missing_ok=True)  # first: a death must not count twice, whatever dies here
                if found.open:
                    for key, name in found.open.items():
                        before = suspects.by_key.get(key)
                        deaths = 1 if before is None else before.deaths + 1
                        suspects.by_key[key] = _Suspect(name=name, deaths=deaths)
                    write_durably(self._suspects_file, suspects.model_dump_json(indent=1).encode())

    def _clear(self, key: str) -> None:
        """Forget a suspect that was analysed to its end."""
        with suppress(OSError), self._lock, self._locked():
            suspects = _read(self._suspects_file)
            suspects.by_key.pop(key, None)
            self._suspects.pop(key, None)
            write_durably(self._suspects_file, suspects.model_dump_json(indent=1).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


class _Gate:
    """Lets many through together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._waiting_alone = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._inside >= 0 and not self._waiting_alone)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting_alone += 1
            try:
                self._changed.wait_for(lambda: self._inside == 0)
                self._inside = -1
            finally:
                self._waiting_alone -= 1
        try:
            yield
        finally:
            with self._changed:
                self._inside = 0
                self._changed.notify_all()


@contextmanager
def _at_sigterm(note: Callable[[], None]) -> Iterator[None]:
    """Call a function before SIGTERM ends the process, where nothing else handles it."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        note()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _of_dead_run(path: Path) -> _Open | None:
    """Return what a run was at when it died; None if it lives."""
    try:
        file = path.open("rb")
    except FileNotFoundError:  # it has just ended
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        nothing = _Open(boot="")
        try:
            found = _Open.model_validate_json(file.readline())
        except ValidationError:
            return nothing
        return found if found.boot == _boot() else nothing


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"  # as on macOS


def _read(path: Path) -> _Suspects:
    try:
        return _Suspects.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return _Suspects()  # missing or damaged: an image may end one more run
