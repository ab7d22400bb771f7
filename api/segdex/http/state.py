"""The state of the service: settings and keys at once, models and index after loading."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from segdex.http.keys import ApiKey
from segdex.http.model_thread import BusyError, ModelThread
from segdex.jobs.worker import JobKeeper, JobWorker
from segdex.library import Library
from segdex_core.errors import SegdexError, UsageError
from segdex_core.settings import Settings

RETRY_S, _MAX_RETRY_S = 2.0, 30.0

_log = logging.getLogger(__name__)


class NotReadyError(BusyError):
    """The models or the index are not loaded yet, or could not be loaded."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """The loaded objects that answer requests.

    Attributes:
        library: Library with loaded models.
        model_thread: Thread that runs the models.
        jobs: Runs jobs, or looks after those that other processes run.
    """

    library: Library
    model_thread: ModelThread
    jobs: JobWorker | JobKeeper

    def close(self) -> None:
        """Close what runs or looks after jobs, the model thread and the library."""
        self.jobs.close()
        self.model_thread.close()
        self.library.close()


class ServiceState:
    """The state that all requests share; threads may use it.

    Args:
        settings: Settings of the service.
        keys: API keys; without keys only loopback can connect.
        load: Opens the index and loads the models.
        retry_s: Seconds before loading is retried; doubled for each further retry.
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

    def start(self) -> None:
        """Load in the background; until then ``loaded`` raises ``NotReadyError``.

        Errors that can resolve themselves, such as a server that is not up yet, are retried.
        """
        self._thread = threading.Thread(target=self._run, name="loading", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the first attempt to load has ended."""
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

    def loaded(self) -> Loaded:
        """Return the loaded objects.

        Raises:
            NotReadyError: If loading has not ended, or has failed; the message gives the reason.
        """
        if self._loaded is None:
            raise NotReadyError(self._failure or "the models are being loaded: ask again in a moment")
        return self._loaded

    def _run(self) -> None:
        wait_s = self._retry_s
        while not self._load_once():
            self._tried.set()
            if self._closing.wait(wait_s):
                return
            wait_s = min(2 * wait_s, _MAX_RETRY_S)
        self._tried.set()

    def _load_once(self) -> bool:
        """Return False if another attempt may succeed."""
        try:
            self._loaded = self._load()
        except UsageError as error:
            self._failure = str(error)
            _log.error("the service cannot start: %s", error)
        except SegdexError as error:
            self._failure = str(error)
            _log.warning("the service is not ready, trying again: %s", error)
            return False
        except Exception:  # noqa: BLE001 - the thread would end silently, and the service never be ready
            self._failure = "loading failed, see the log of the service"
            _log.exception("the service cannot start")
        else:
            _log.info("the service is ready")
        return True
