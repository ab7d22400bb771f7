"""The models of a library, as the use cases see them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

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
    """Models that segment, embed, judge and refine.

    Attributes:
        profile: Profile of the models.
        segmenter: Finds masks in images; call it only inside ``run``.
        embedder: Embedder of the index; any thread may call it.
        new_embedder: Embedder that the options name for a re-embedding; that of the index if they name none.
        judge: Decides whether an image shows what a query describes.
        refiner: Re-decodes masks; call it only inside ``run``.
        analysis_threads: Number of threads that analyze images in an ingest.
    """

    @property
    def profile(self) -> ProfileName:
        """Profile of the models."""
        ...

    @property
    def segmenter(self) -> Segmenter:
        """Segmenter of the models."""
        ...

    @property
    def embedder(self) -> Embedder:
        """Embedder of the models."""
        ...

    @property
    def new_embedder(self) -> Embedder:
        """Embedder for a re-embedding."""
        ...

    @property
    def judge(self) -> "PresenceJudge":
        """Presence judge of the embedder."""
        ...

    @property
    def refiner(self) -> "Refiner":
        """Refiner of the models."""
        ...

    @property
    def analysis_threads(self) -> int:
        """Number of analysis threads."""
        ...

    def recipes(self, generator: GeneratorSettings) -> RecipeSource:
        """Return the recipe of an ingest with these models and mask generator settings."""
        ...

    def forget(self, image_id: UUID) -> None:
        """Remove an image from the caches of encoded images; no model is loaded for it."""
        ...

    def run(self, call: Callable[[], T]) -> T:
        """Run a call where the segmenter may be used, and return its result.

        Raises:
            BusyError: If too many calls are waiting.
        """
        ...
