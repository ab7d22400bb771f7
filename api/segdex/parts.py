"""Functions that open the index and load the models: those of ``wiring``, or fakes in tests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from segdex_core.choices import ProfileName
from segdex_core.ports.decoder import Decoder
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.segmenter import Segmenter
from segdex_core.records import Vectors
from segdex_core.settings import Settings
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings

if TYPE_CHECKING:
    from segdex_search.presence import PresenceJudge
    from segdex_search.refine.refiner import Refiner


class OpenIndex(Protocol):
    """Function that opens the index of the settings."""

    def __call__(self, settings: Settings, *, create: bool) -> SegmentIndex:
        """Open the index; see ``wiring.open_index``."""
        ...


class MakeRefiner(Protocol):
    """Function that builds the refiner."""

    def __call__(
        self,
        settings: Settings,
        *,
        segmenter: Segmenter,
        embedder: Embedder,
        distractors: Vectors,
    ) -> "Refiner":
        """Build the refiner; see ``wiring.make_refiner``."""
        ...


class MakeRecipe(Protocol):
    """Function that builds the recipe of an ingest."""

    def __call__(
        self, settings: Settings, segmenter: Segmenter, embedder: Embedder, generator: GeneratorSettings
    ) -> Recipe:
        """Build the recipe; see ``wiring.make_recipe``."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Functions that a library is built from; ``wiring.REAL`` holds the functions of ``wiring``."""

    open_index: OpenIndex
    load_segmenter: Callable[[Settings, ProfileName], Segmenter]
    load_embedder: Callable[[Settings, ProfileName], Embedder]
    load_judge: "Callable[[Settings, Embedder], PresenceJudge]"
    make_recipe: MakeRecipe
    make_refiner: MakeRefiner
    open_decoder: Callable[[Settings], Decoder]
