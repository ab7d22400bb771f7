"""The index of a labeled data set, which ``segdex eval`` and ``segdex calibrate`` use."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import typer

from segdex.cli.common import Session, opened_here
from segdex.cli.progress import counted
from segdex.evaluation.dataset import EvalDataset
from segdex.evaluation.search import ingest_dataset
from segdex.pace import WORK
from segdex.sources import open_source
from segdex.usecases.models import Models
from segdex.wiring import cache_folder, open_library, plan_threads
from segdex_core.choices import ProfileName
from segdex_core.ports.index import SegmentIndex
from segdex_core.settings import Settings
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings


@dataclass(frozen=True, slots=True, eq=False)
class LabelledIndex:
    """An index that holds the images of a labeled data set.

    Attributes:
        index: Open index.
        recipe: Recipe that filled the index.
        models: Models of the recipe.
        image_ids: Ids of the images, by name.
    """

    index: SegmentIndex
    recipe: Recipe
    models: Models
    image_ids: Mapping[str, UUID]


@contextmanager
def labelled_index(
    context: typer.Context,
    settings: Settings,
    dataset: EvalDataset,
    generator: GeneratorSettings,
    *,
    is_named: bool,
) -> Iterator[LabelledIndex]:
    """Open an index, and ingest the images of a labeled data set that it lacks.

    Args:
        context: Context of the command.
        settings: Settings of the models, the limits and the index.
        dataset: Labeled data set.
        generator: Settings of the mask generator.
        is_named: Whether the user named the index; otherwise an index in the cache folder is used.
    """
    models = None if is_named else models_of(context, settings)
    if models is not None:
        settings = with_kept_index(settings, dataset.path, models.recipes(generator).load())
    with opened_here(context, settings) as library:
        index = library.create_index()
        models = models or library.models  # a named index chooses its embedder and profile, as in any command
        recipe = models.recipes(generator).load()
        image_ids = _ingested(dataset, index, recipe, settings, profile=models.profile)
        yield LabelledIndex(index, recipe, models, image_ids)


def models_of(context: typer.Context, settings: Settings) -> Models:
    """Return the models of the settings; each model is loaded on first use."""
    return open_library(settings, Session.of(context).parts, has_index=False).models


def with_kept_index(settings: Settings, data: Path, recipe: Recipe) -> Settings:
    """Return settings with an index in the cache folder, one for each data set and recipe."""
    name = sha256(f"{data.absolute()}|{recipe.fingerprint()}".encode()).hexdigest()[:16]
    return settings.model_copy(update={"index": f"edge:{cache_folder(settings) / 'eval' / name}"})


def _ingested(
    dataset: EvalDataset, index: SegmentIndex, recipe: Recipe, settings: Settings, *, profile: ProfileName
) -> dict[str, UUID]:
    """Ingest missing images, and return the ids of all images by name."""
    with counted("pictures", len(dataset.images)) as advance:
        return ingest_dataset(
            dataset,
            index=index,
            recipe=recipe,
            source=open_source(),
            profile=profile,
            max_pixels=settings.max_pixels,
            max_bytes=settings.max_bytes,
            decode_threads=settings.decode_threads,
            analysis_threads=plan_threads(settings).apply().analysis_threads,
            on_file=lambda file: advance(is_work=file.outcome in WORK),
        )
