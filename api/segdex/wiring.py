"""The composition root: the one place where settings become models and an index."""

import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Protocol, get_args

from pydantic import ValidationError

from segdex.recipes import RememberedRecipe, recipe_key
from segdex_backends.models.catalog import (
    CATALOG,
    PROFILES,
    CatalogEntry,
    profile_models,
    resolve_model,
)
from segdex_core.errors import UsageError
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader, SegmentIndex
from segdex_core.ports.segmenter import ImageFeatures, Segmenter, StoresFeatures
from segdex_core.ports.source import Source
from segdex_core.ports.text_segmenter import TextSegmenter
from segdex_core.records import Vectors
from segdex_core.settings import ProfileName, Settings
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings, Quality, preset
from segdex_ingest.run import prepare_index
from segdex_search.presence import PresenceJudge, kept_judge
from segdex_search.refine.encodings import EncodingCache, EncodingFiles
from segdex_search.refine.refiner import Refiner

if TYPE_CHECKING:
    from segdex.http.state import Loaded
    from segdex.jobs.queue import Jobs
    from segdex_backends.models.loaders import LoadOptions
    from segdex_backends.models.threads import WorkerPlan

DEFAULT_PROFILE: ProfileName = "default"


def build_settings(**given: object) -> Settings:
    """Return the settings of the environment, overridden by the options that are not None.

    Raises:
        UsageError: If a value is not allowed; the message names the option or variable.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        where = f"--{name.replace('_', '-')}" if given.get(name) is not None else f"SEGDEX_{name.upper()}"
        raise UsageError(f"{where}: {first['msg']}, but got {first['input']!r}") from error


def open_index(settings: Settings, *, create: bool) -> SegmentIndex:
    """Open the index of the settings.

    Args:
        settings: ``index`` is ``edge:PATH`` or ``http(s)://HOST:PORT``.
        create: Whether an index that is not there yet may be made.

    Raises:
        UsageError: If the location has another form.
        SegmentIndexError: If it cannot be used.
    """
    location = settings.index
    if location.startswith("edge:"):
        from segdex_backends.index.edge_store import EdgeStore
        from segdex_backends.index.qdrant import QdrantIndex

        folder = location.removeprefix("edge:")
        if not folder:
            raise UsageError("--index edge: needs a folder, such as edge:my-index")
        return QdrantIndex(EdgeStore(Path(folder).expanduser(), create=create))
    if location.startswith(("http://", "https://")):
        from segdex_backends.index.qdrant import QdrantIndex
        from segdex_backends.index.server_store import ServerStore

        key = settings.index_api_key
        return QdrantIndex(
            ServerStore(
                location,
                api_key=key.get_secret_value() if key is not None else None,
                timeout_s=settings.index_timeout_s,
                create=create,
                collection_prefix=settings.index_collection,
                grpc_port=settings.index_grpc_port,
            )
        )
    raise UsageError(
        f"--index (SEGDEX_INDEX) must be edge:PATH, http://HOST:PORT or https://HOST:PORT, "
        f"but is {location!r}"
    )


def open_source() -> Source:
    """Return where pictures are read from: the files of this machine."""
    from segdex_backends.sources.files import FileSource

    return FileSource()


def profile_of(settings: Settings, index: IndexReader) -> ProfileName:
    """Return the profile asked for, else the one that filled the index, else ``default``."""
    if settings.profile is not None:
        return settings.profile
    found = index.fingerprint()
    return next((name for name in PROFILES if found is not None and name == found.profile), DEFAULT_PROFILE)


def known_models() -> tuple[CatalogEntry, ...]:
    """Return the models that are known by name."""
    return CATALOG


def load_segmenter(settings: Settings, profile: ProfileName) -> Segmenter:
    """Load the segmenter of a profile, or the one that ``--segmenter`` names.

    Raises:
        ModelError: If it cannot be fetched or loaded.
    """
    from segdex_backends.models.loaders import SEGMENTERS

    options, name = load_options(settings), settings.segmenter
    entry = (
        resolve_model(name, role="segmenter")
        if name
        else profile_models(profile, device_type=options.device)[0]
    )
    return SEGMENTERS[entry.adapter](entry, options)


def load_embedder(settings: Settings, profile: ProfileName) -> Embedder:
    """Load the embedder of a profile, or the one that ``--embedder`` names.

    Raises:
        ModelError: If it cannot be fetched or loaded.
    """
    from segdex_backends.models.loaders import EMBEDDERS

    options, name = load_options(settings), settings.embedder
    entry = (
        resolve_model(name, role="embedder")
        if name
        else profile_models(profile, device_type=options.device)[1]
    )
    return EMBEDDERS[entry.adapter](entry, options)


def worker_count(settings: Settings) -> int:
    """Return how many threads analyse pictures; loads no model library."""
    from segdex_backends.models import threads

    return threads.worker_count(settings.workers)


def quality_of(index: IndexReader) -> Quality:
    """Return the quality of the masks that fill an index, ``balanced`` where it is not known."""
    found = index.fingerprint()
    known = None if found is None else found.quality
    return next((quality for quality in get_args(Quality) if quality == known), "balanced")


def load_options(settings: Settings) -> "LoadOptions":
    """Return how the models of the settings are loaded.

    Raises:
        UsageError: If CUDA is asked for and absent.
    """
    from segdex_backends.models.devices import resolve_device
    from segdex_backends.models.loaders import LoadOptions

    return LoadOptions(
        device=resolve_device(settings.device),
        precision=settings.precision,
        compiled=settings.compile_models,
        cache_dir=settings.cache_dir,
    )


def plan_workers(settings: Settings) -> "WorkerPlan":
    """Return how many threads analyse pictures, and how they share the cores; ``apply`` it to torch."""
    from segdex_backends.models import threads
    from segdex_backends.models.devices import resolve_device

    return threads.plan_workers(settings.workers, device=resolve_device(settings.device))


def make_refiner(
    settings: Settings, *, segmenter: Segmenter, embedder: Embedder, distractors: Vectors
) -> Refiner:
    """Return what refines hits: relevance decode, and EVF-SAM2 where ``--refiner`` names one.

    Raises:
        ModelError: If that cannot be fetched or loaded.
    """
    text_segmenter = None if settings.refiner is None else load_text_segmenter(settings, settings.refiner)
    return Refiner(
        segmenter=segmenter,
        embedder=embedder,
        distractors=distractors,
        encodings=EncodingCache(settings.encodings_mib, _encoding_files(settings, segmenter)),
        text_segmenter=text_segmenter,
        text_encodings=None if text_segmenter is None else EncodingCache(settings.encodings_mib),
    )


def _encoding_files(settings: Settings, segmenter: Segmenter) -> EncodingFiles[ImageFeatures] | None:
    if settings.encodings_dir is None:
        return None
    if not isinstance(segmenter, StoresFeatures):
        raise UsageError(
            f"SEGDEX_ENCODINGS_DIR: {segmenter.name} cannot keep encoded pictures in files; unset it"
        )
    return EncodingFiles(
        settings.encodings_dir,
        settings.encodings_dir_mib,
        dump=segmenter.dump,
        restore=segmenter.restore,
    )


def load_text_segmenter(settings: Settings, name: str) -> TextSegmenter:
    """Load EVF-SAM2.

    Args:
        settings: Device and precision.
        name: Of the catalog, of a hub repository, or a folder.

    Raises:
        ModelError: If it cannot be fetched or loaded.
    """
    from segdex_backends.models.loaders import TEXT_SEGMENTERS

    entry = resolve_model(name, role="refiner")
    return TEXT_SEGMENTERS[entry.adapter](entry, load_options(settings))


def load_service(settings: Settings, parts: "Parts") -> "Loaded":
    """Open the index and load all models that the HTTP service needs.

    Args:
        settings: Of the service.
        parts: What opens and loads.

    Raises:
        SegmentIndexError: If the index cannot be used.
        ModelError: If a model cannot be fetched or loaded.
        JobsUnavailableError: If the queue does not answer.
    """
    from segdex.http.model_worker import ModelWorker, QueuedEmbedder
    from segdex.http.state import Loaded
    from segdex.jobs.runner import job_runner
    from segdex.jobs.worker import JobWorker

    with ExitStack() as opened:
        jobs = open_jobs(settings)
        opened.callback(jobs.close)
        index = parts.open_index(settings, create=True)
        opened.callback(index.close)
        profile = profile_of(settings, index)
        recipe = parts.load_recipe(settings, profile, preset(quality_of(index)))
        prepare_index(index, recipe, profile=profile)
        judge = parts.load_judge(settings, recipe.embedder)
        refiner = parts.make_refiner(
            settings,
            segmenter=recipe.segmenter,
            embedder=recipe.embedder,
            distractors=judge.distractors,
        )
        opened.pop_all()  # from here on they are the service's
    worker = ModelWorker(recipe.embedder, max_waiting=settings.max_waiting)
    source, writing = open_source(), RLock()
    job_worker = None
    if settings.jobs_by == "service":
        run = job_runner(settings, index, recipe, profile, source=source, lock=writing)
        job_worker = JobWorker(jobs, run, nicely=True)
        job_worker.start()
    return Loaded(
        index=index,
        profile=profile,
        recipe=recipe,
        embedder=QueuedEmbedder(recipe.embedder, worker),
        worker=worker,
        judge=judge,
        refiner=refiner,
        jobs=jobs,
        job_worker=job_worker,
        source=source,
        writing=writing,
    )


def open_jobs(settings: Settings) -> "Jobs":
    """Return the queue of jobs of the index: on Redis where an address is set, else in a SQLite file.

    Raises:
        UsageError: If the address is none.
        JobsUnavailableError: If no server answers there.
    """
    from segdex.jobs.queue import Jobs, redis_storage, sqlite_storage

    key = settings.index_key()
    if settings.jobs_redis is not None:
        return Jobs(redis_storage(settings.jobs_redis.get_secret_value(), index_key=key))
    return Jobs(sqlite_storage(settings.jobs_file or cache_folder(settings) / "jobs.sqlite", index_key=key))


def load_recipe(settings: Settings, profile: ProfileName, generator: GeneratorSettings) -> Recipe:
    """Load both models of an ingest.

    Raises:
        ModelError: If one cannot be fetched or loaded.
    """
    return Recipe(
        segmenter=load_segmenter(settings, profile),
        embedder=load_embedder(settings, profile),
        generator=generator,
        views=settings.views,
    )


def remembered_recipe(
    settings: Settings,
    profile: ProfileName,
    generator: GeneratorSettings,
    *,
    load: Callable[[Settings, ProfileName, GeneratorSettings], Recipe],
) -> RememberedRecipe:
    """Return the recipe of settings; its models are loaded when they are needed."""
    import segdex_backends.models
    import segdex_ingest

    def load_now() -> Recipe:
        plan_workers(settings).apply()
        return load(settings, profile, generator)

    chosen = ("segmenter", "embedder", "precision", "device", "compile_models", "views")
    parts = {name: getattr(settings, name) for name in chosen}
    parts |= {
        "profile": profile,
        "generator": generator.fingerprint(),
        "version": version("segdex"),
        "loaded_by": f"{load.__module__}.{load.__qualname__}",
        # what precisions and devices are chosen by
        "machine": (platform.node(), sorted(map(str, Path("/dev").glob("nvidia[0-9]*")))),
    }
    names = [name for name in (settings.segmenter, settings.embedder) if name is not None]
    places = [Path(part) for name in names for part in (name, name.partition(":")[2]) if part]
    return RememberedRecipe(
        load_now,
        key=recipe_key(
            parts,
            code=[Path(segdex_backends.models.__path__[0]), Path(segdex_ingest.__path__[0])],
            places=[place for place in places if place.exists()],
        ),
        file=cache_folder(settings) / "recipes.json",
    )


def calibration_folder(settings: Settings) -> Path:
    """Return where calibrations are kept."""
    return cache_folder(settings) / "calibration"


def load_judge(settings: Settings, embedder: Embedder) -> PresenceJudge:
    """Return the judge of an embedder; the vectors of its words are kept in the cache folder.

    Raises:
        UsageError: If the file of a calibration is damaged.
    """
    return kept_judge(calibration_folder(settings), embedder)


def cache_folder(settings: Settings) -> Path:
    """Return where segdex keeps what can be made again."""
    from segdex_backends.models.npm import default_cache_dir

    return settings.cache_dir or default_cache_dir()


class _OpenIndex(Protocol):
    def __call__(self, settings: Settings, *, create: bool) -> SegmentIndex: ...


class _MakeRefiner(Protocol):
    def __call__(
        self,
        settings: Settings,
        *,
        segmenter: Segmenter,
        embedder: Embedder,
        distractors: Vectors,
    ) -> Refiner: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What opens the index and loads the models for the commands and the service.

    The fields are the functions of this module in ``REAL``, and small ones over fakes in tests.
    """

    open_index: _OpenIndex
    load_segmenter: Callable[[Settings, ProfileName], Segmenter]
    load_embedder: Callable[[Settings, ProfileName], Embedder]
    load_recipe: Callable[[Settings, ProfileName, GeneratorSettings], Recipe]
    load_judge: Callable[[Settings, Embedder], PresenceJudge]
    make_refiner: _MakeRefiner


REAL = Parts(
    open_index=open_index,
    load_segmenter=load_segmenter,
    load_embedder=load_embedder,
    load_recipe=load_recipe,
    load_judge=load_judge,
    make_refiner=make_refiner,
)
"""The index of the settings and the models of the catalog."""
