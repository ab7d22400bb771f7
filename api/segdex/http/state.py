"""What the service holds: settings and keys at once, models and index when they are loaded."""

import gc
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from uuid import uuid4

from segdex.http.keys import ApiKey
from segdex.http.model_worker import BusyError, ModelWorker, QueuedEmbedder
from segdex.jobs.queue import Jobs
from segdex.jobs.worker import JobWorker
from segdex_core.errors import SegdexError, UsageError
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.source import Source
from segdex_core.settings import ProfileName, Settings
from segdex_ingest.analyse import Recipe
from segdex_search.answer import SearchAnswer
from segdex_search.presence import PresenceJudge
from segdex_search.queries import SearchQuery
from segdex_search.refine.refiner import Refiner

_KEPT_ANSWERS = 256
RETRY_S, _MAX_RETRY_S = 2.0, 30.0

_log = logging.getLogger(__name__)


class NotReadyError(BusyError):
    """Models or index are not loaded yet, or could not be."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What answers questions.

    Attributes:
        index: Opened.
        profile: Of the models.
        recipe: The models themselves; for calls inside the worker and for ingests.
        embedder: The same embedder behind the worker's queue, for everybody else.
        worker: The thread of the models.
        judge: Says whether a thing is there.
        refiner: Draws masks; only inside the worker.
        jobs: The queue of long ingests.
        job_worker: Carries them out; None where other processes do.
        source: Where pictures are read from.
        writing: Shared by all that write to the index in this process.
    """

    index: SegmentIndex
    profile: ProfileName
    recipe: Recipe
    embedder: QueuedEmbedder
    worker: ModelWorker
    judge: PresenceJudge
    refiner: Refiner
    jobs: Jobs
    job_worker: JobWorker | None
    source: Source
    writing: AbstractContextManager[object]

    def close(self) -> None:
        """End jobs and worker, and release the index."""
        if self.job_worker is not None:
            self.job_worker.close()
        self.jobs.close()
        self.worker.close()
        self.index.close()


class ServiceState:
    """The state behind all requests; threads share it.

    Args:
        settings: Of the service.
        keys: Who may do what; none means that only loopback can connect.
        load: Opens the index and loads the models.
        retry_s: Seconds until it is tried again; each further time twice as long.
    """

    def __init__(
        self,
        settings: Settings,
        keys: tuple[ApiKey, ...],
        load: Callable[[], Loaded],
        *,
        retry_s: float = RETRY_S,
    ) -> None:
        self.settings = settings
        self.keys = keys
        self.started_s = time.time()
        self.ingesting = threading.Lock()
        self._load, self._retry_s = load, retry_s
        self._loaded: Loaded | None = None
        self._failure: str | None = None
        self._thread: threading.Thread | None = None
        self._tried, self._closing = threading.Event(), threading.Event()
        self._answers: OrderedDict[str, tuple[SearchQuery, SearchAnswer]] = OrderedDict()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Load in the background; until then ``loaded`` says that it is not ready.

        What can change by itself, such as a server that is not up yet, is tried again and again.
        """
        self._thread = threading.Thread(target=self._run, name="loading", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until loading has ended once, well or not."""
        if self._thread is not None:
            self._tried.wait()

    def close(self) -> None:
        """Release everything that was loaded."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
            gc.unfreeze()

    def loaded(self) -> Loaded:
        """Return what was loaded.

        Raises:
            NotReadyError: If it was not, with the reason where that failed.
        """
        if self._loaded is None:
            raise NotReadyError(self._failure or "the models are being loaded: ask again in a moment")
        return self._loaded

    def keep(self, query: SearchQuery, answer: SearchAnswer) -> str:
        """Keep an answer for a while, and return its id."""
        key = uuid4().hex
        with self._lock:
            self._answers[key] = (query, answer)
            while len(self._answers) > _KEPT_ANSWERS:
                self._answers.popitem(last=False)
        return key

    def kept(self, key: str) -> tuple[SearchQuery, SearchAnswer] | None:
        """Return an answer that is still kept."""
        with self._lock:
            return self._answers.get(key)

    def _run(self) -> None:
        wait_s = self._retry_s
        while not self._load_once():
            self._tried.set()
            if self._closing.wait(wait_s):
                return
            wait_s = min(2 * wait_s, _MAX_RETRY_S)
        self._tried.set()

    def _load_once(self) -> bool:
        """Return False where another try may do better."""
        try:
            self._loaded = self._load()
        except UsageError as error:
            self._failure = str(error)
            _log.error("the service cannot start: %s", error)
        except SegdexError as error:
            self._failure = str(error)
            _log.warning("the service is not ready, trying again: %s", error)
            return False
        except Exception:  # noqa: BLE001 - the thread would end without a word, and the service never be ready
            self._failure = "loading failed, see the log of the service"
            _log.exception("the service cannot start")
        else:
            # What libraries and models made stays; walked by every full collection, it made one search in
            # twenty take twice as long (p95 of 16 clients 520 ms without, 310 with, tests/benchmarks).
            gc.collect()
            gc.freeze()
            _log.info("the service is ready")
        return True
