"""The models of a library, as the use cases see them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from segdex_core.choices import ProfileName
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.segmenter import Segmenter
from segdex_ingest.analyse import RecipeSource
from segdex_ingest.masks.generate import GeneratorSettings

if TYPE_CHECKING:
    from segdex_search.presence import PresenceJudge
    from segdex_search.refine.refiner import Refiner

T = TypeVar("T")


class Models(Protocol):
    """What embeds, judges, segments and refines.

    Attributes:
        profile: Of the models.
        segmenter: What cuts pictures; call it by ``run`` alone.
        embedder: What filled the index; any thread may call it.
        judge: Says whether a picture shows what was asked for.
        refiner: Draws masks; call it by ``run`` alone.
        analysis_threads: Threads that analyse pictures in an ingest.
    """

    @property
    def profile(self) -> ProfileName:
        """See above."""
        ...

    @property
    def segmenter(self) -> Segmenter:
        """See above."""
        ...

    @property
    def embedder(self) -> Embedder:
        """See above."""
        ...

    @property
    def judge(self) -> "PresenceJudge":
        """See above."""
        ...

    @property
    def refiner(self) -> "Refiner":
        """See above."""
        ...

    @property
    def analysis_threads(self) -> int:
        """See above."""
        ...

    def recipes(self, generator: GeneratorSettings) -> RecipeSource:
        """Return the recipe of an ingest, of these models and settings of the mask generator."""
        ...

    def run(self, call: Callable[[], T]) -> T:
        """Return what a call returns, made where the segmenter may be used.

        Raises:
            BusyError: If too many calls wait.
        """
        ...
