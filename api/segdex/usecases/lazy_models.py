"""Models that are loaded on first use."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import RLock
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

from segdex.parts import Parts
from segdex_core.choices import ProfileName
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.segmenter import Segmenter
from segdex_core.settings import Settings
from segdex_ingest.analyse import Recipe, RecipeSource
from segdex_ingest.masks.generate import GeneratorSettings

if TYPE_CHECKING:
    from segdex_search.presence import PresenceJudge
    from segdex_search.refine.refiner import Refiner

T = TypeVar("T")


class LazyModels:
    """Models that are loaded on first use; see ``Models``. ``run`` executes one call at a time.

    Args:
        choose: Returns the settings that say which models, and their profile; called when the first model
            is needed.
        choose_new: Returns them for a re-embedding.
        parts: Functions that load the models.
        remember: Returns a recipe that loads its models with the given function, and caches its fingerprint
            between processes.
        analysis_threads: Returns the number of threads for an ingest; called when an ingest starts.
    """

    def __init__(
        self,
        choose: Callable[[], tuple[Settings, ProfileName]],
        parts: Parts,
        *,
        choose_new: Callable[[], tuple[Settings, ProfileName]],
        remember: Callable[[Settings, ProfileName, GeneratorSettings, Callable[[], Recipe]], RecipeSource],
        analysis_threads: Callable[[], int],
    ) -> None:
        self._parts = parts
        self._remember = remember
        self._analysis_threads = analysis_threads
        self._lock = RLock()
        self._chosen = _Once(choose, self._lock)
        self._segmenter = _Once(lambda: parts.load_segmenter(*self._chosen.get()), self._lock)
        self._embedder = _Once(lambda: parts.load_embedder(*self._chosen.get()), self._lock)
        self._choose_new = choose_new
        self._new_embedder = _Once(self._load_new_embedder, self._lock)
        self._judge = _Once(lambda: parts.load_judge(self._settings, self.embedder), self._lock)
        self._refiner = _Once(self._make_refiner, self._lock)

    @property
    def profile(self) -> ProfileName:
        """See ``Models``."""
        return self._chosen.get()[1]

    @property
    def segmenter(self) -> Segmenter:
        """See ``Models``."""
        return self._segmenter.get()

    @property
    def embedder(self) -> Embedder:
        """See ``Models``."""
        return self._embedder.get()

    @property
    def new_embedder(self) -> Embedder:
        """See ``Models``."""
        return self._new_embedder.get()

    @property
    def judge(self) -> "PresenceJudge":
        """See ``Models``."""
        return self._judge.get()

    @property
    def refiner(self) -> "Refiner":
        """See ``Models``."""
        return self._refiner.get()

    @property
    def analysis_threads(self) -> int:
        """See ``Models``."""
        return self._analysis_threads()

    def recipes(self, generator: GeneratorSettings) -> RecipeSource:
        """See ``Models``; the models are loaded when an image has to be analyzed."""

        def load() -> Recipe:
            return self._parts.make_recipe(self._settings, self.segmenter, self.embedder, generator)

        return self._remember(self._settings, self.profile, generator, load)

    def forget(self, image_id: UUID) -> None:
        """See ``Models``."""
        if self._refiner.is_made:
            self._refiner.get().forget(image_id)

    def run(self, call: Callable[[], T]) -> T:
        """See ``Models``."""
        with self._lock:
            return call()

    @property
    def _settings(self) -> Settings:
        return self._chosen.get()[0]

    def _load_new_embedder(self) -> Embedder:
        chosen = self._choose_new()
        return self.embedder if chosen == self._chosen.get() else self._parts.load_embedder(*chosen)

    def _make_refiner(self) -> "Refiner":
        return self._parts.make_refiner(
            self._settings,
            segmenter=self.segmenter,
            embedder=self.embedder,
            distractors=self.judge.distractors,
        )


class _Once(Generic[T]):
    """A value that is made on first use.

    Args:
        make: Makes the value; it may use other values with the same lock.
        lock: Held while the value is made. Values that need each other, and model calls, share one lock: with
            separate locks, a thread that loads and a thread that runs a call could deadlock.
    """

    def __init__(self, make: Callable[[], T], lock: AbstractContextManager[object]) -> None:
        self._make, self._lock = make, lock
        self._made: list[T] = []

    @property
    def is_made(self) -> bool:
        """Whether the value has been made."""
        return bool(self._made)

    def get(self) -> T:
        """Return the value."""
        if not self._made:  # an existing value does not wait for a running call
            with self._lock:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]
