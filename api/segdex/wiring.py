"""The composition root: the only place where settings become models and an index."""

import os
import platform
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from segdex.faults import fault
from segdex.library import Library
from segdex.parts import Parts
from segdex.recipes import RememberedRecipe, recipe_key
from segdex.sources import open_not_pictures, open_source
from segdex.usecases.ingest import quality_of
from segdex.usecases.lazy_models import LazyModels
from segdex.usecases.opening import NO_INDEX, Lazy, LazyIndex
from segdex_backends.models.catalog import (
    PROFILES,
    is_fingerprint,
    profile_models,
    resolve_model,
)
from segdex_core.choices import ProfileName
from segdex_core.errors import ArgumentError, IndexMissingError, UsageError
from segdex_core.locations import embedded_folder
from segdex_core.ports.backup import BackupFormat
from segdex_core.ports.decoder import Decoder, LocalDecoder
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import IndexReader, SegmentIndex
from segdex_core.ports.segmenter import ImageFeatures, Segmenter, StoresFeatures
from segdex_core.ports.text_segmenter import TextSegmenter
from segdex_core.records import Vectors
from segdex_core.settings import Settings
from segdex_ingest.analyse import Recipe
from segdex_ingest.journal import Journal
from segdex_ingest.masks.generate import GeneratorSettings, preset
from segdex_ingest.run import prepare_index

if TYPE_CHECKING:
    from segdex.http.state import Loaded
    from segdex.jobs.queue import Jobs
    from segdex_backends.models.loaders import LoadOptions
    from segdex_backends.models.threads import ThreadPlan
    from segdex_search.presence import PresenceJudge
    from segdex_search.refine.encodings import EncodingFiles
    from segdex_search.refine.refiner import Refiner

DEFAULT_PROFILE: ProfileName = "default"


def build_settings(**given: object) -> Settings:
    """Return the settings of the environment, overridden by the options that are not None.

    Raises:
        UsageError: If a value is not allowed; the message names the option or variable.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        found = fault(error.errors(include_url=False))
        if not isinstance(found, ArgumentError):
            raise found from error
        name = found.argument.partition(".")[0]
        where = f"--{name.replace('_', '-')}" if given.get(name) is not None else f"SEGDEX_{name.upper()}"
        raise UsageError(f"{where} {found.problem}") from error


def open_index(settings: Settings, *, create: bool) -> SegmentIndex:
    """Open the index of the settings.

    Args:
        settings: Settings with the location of the index.
        create: Whether to create a missing index.

    Raises:
        SegmentIndexError: If the index cannot be used.
    """
    from segdex_backends.index.qdrant import QdrantIndex

    if (folder := embedded_folder(settings.index)) is not None:
        from segdex_backends.index.edge_store import EdgeStore

        return QdrantIndex(EdgeStore(folder, create=create))
    from segdex_backends.index.server_connection import ServerConnection
    from segdex_backends.index.server_store import ServerStore

    key = settings.index_api_key
    server = ServerConnection(
        settings.index,
        api_key=key.get_secret_value() if key is not None else None,
        timeout_s=settings.index_timeout_s,
        grpc_port=settings.index_grpc_port,
    )
    return QdrantIndex(ServerStore(server, create=create, collection_prefix=settings.index_collection))


def profile_of(settings: Settings, index: IndexReader) -> ProfileName:
    """Return the profile of the settings, or the profile that filled the index, or ``default``."""
    if settings.profile is not None:
        return settings.profile
    found = index.fingerprint()
    return next((name for name in PROFILES if found is not None and name == found.profile), DEFAULT_PROFILE)


def settings_for(settings: Settings, index: IndexReader) -> Settings:
    """Return the settings with the embedder that filled the index, where none is asked for.

    What a profile means may change from one version to the next, and differs between devices. An index goes
    on with the model of its vectors, unless ``--embedder`` or another ``--profile`` is given.
    """
    found = index.fingerprint()
    if (
        found is None
        or settings.embedder is not None
        or settings.profile not in (None, found.profile)
        or not is_fingerprint(found.embedder)
    ):
        return settings
    return settings.model_copy(update={"embedder": found.embedder})


def load_segmenter(settings: Settings, profile: ProfileName) -> Segmenter:
    """Load the segmenter of a profile, or the segmenter that ``--segmenter`` names.

    Raises:
        ModelError: If the model cannot be downloaded or loaded.
    """
    from segdex_backends.models.loaders import SEGMENTERS

    options, name = load_options(settings), settings.segmenter
    entry = (
        resolve_model(name, role="segmenter")
        if name
        else profile_models(profile, device_type=lambda: options.device)[0]
    )
    return SEGMENTERS[entry.adapter](entry, options)


def load_embedder(settings: Settings, profile: ProfileName) -> Embedder:
    """Load the embedder of a profile, or the embedder that ``--embedder`` names.

    Raises:
        ModelError: If the model cannot be downloaded or loaded.
    """
    from segdex_backends.models.loaders import EMBEDDERS

    options, name = load_options(settings), settings.embedder
    entry = (
        resolve_model(name, role="embedder")
        if name
        else profile_models(profile, device_type=lambda: options.device)[1]
    )
    return EMBEDDERS[entry.adapter](entry, options)


def open_decoder(settings: Settings) -> Decoder:
    """Return what decodes files; its processes start when they are needed."""
    if settings.decode_processes == 0:
        return LocalDecoder()
    from segdex_core.media.pool import DecodePool
    from segdex_core.media.worker_process import DecodeLimits

    return DecodePool(
        DecodeLimits(
            processes=settings.decode_processes or min(os.cpu_count() or 1, 4),
            cpu_s=settings.decode_cpu_s,
            memory_mib=settings.decode_memory_mib,
            wall_s=settings.decode_wall_s,
        )
    )


def analysis_thread_count(settings: Settings) -> int:
    """Return the number of threads that analyze images, without importing a model library."""
    from segdex_backends.models import threads

    return threads.analysis_thread_count(settings.analysis_threads)


def load_options(settings: Settings) -> "LoadOptions":
    """Return the options for loading the models of the settings.

    Raises:
        UsageError: If CUDA is requested but not available.
    """
    from segdex_backends.models.devices import resolve_device
    from segdex_backends.models.loaders import LoadOptions

    if settings.device == "cuda":  # refused even if no model would run on it
        resolve_device(settings.device)
    return LoadOptions(
        asked_device=settings.device,
        precision=settings.precision,
        compiled=settings.compile_models,
        cache_dir=settings.cache_dir,
    )


def plan_threads(settings: Settings) -> "ThreadPlan":
    """Return the number of analysis threads, and their share of the cores; ``apply`` sets it in torch."""
    from segdex_backends.models import threads
    from segdex_backends.models.devices import resolve_device

    return threads.plan_threads(settings.analysis_threads, device=resolve_device(settings.device))


def make_recipe(
    settings: Settings, segmenter: Segmenter, embedder: Embedder, generator: GeneratorSettings
) -> Recipe:
    """Return the recipe of an ingest.

    Raises:
        UsageError: If the embedder does not support the views of the settings.
    """
    return Recipe(segmenter, embedder, generator, settings.views)


def make_refiner(
    settings: Settings, *, segmenter: Segmenter, embedder: Embedder, distractors: Vectors
) -> "Refiner":
    """Return the refiner: relevance decode, and EVF-SAM2 if ``--refiner`` names a model.

    Raises:
        ModelError: If EVF-SAM2 cannot be downloaded or loaded.
    """
    from segdex_search.refine.encodings import EncodingCache
    from segdex_search.refine.refiner import Refiner

    text_segmenter = None if settings.refiner is None else load_text_segmenter(settings, settings.refiner)
    return Refiner(
        segmenter=segmenter,
        embedder=embedder,
        distractors=distractors,
        encodings=EncodingCache(settings.encodings_mib, _encoding_files(settings, segmenter)),
        text_segmenter=text_segmenter,
        text_encodings=None if text_segmenter is None else EncodingCache(settings.encodings_mib),
    )


def _encoding_files(settings: Settings, segmenter: Segmenter) -> "EncodingFiles[ImageFeatures] | None":
    if settings.encodings_dir is None:
        return None
    if not isinstance(segmenter, StoresFeatures):
        raise UsageError(
            f"SEGDEX_ENCODINGS_DIR: {segmenter.name} cannot keep encoded pictures in files; unset it"
        )
    from segdex_search.refine.encodings import EncodingFiles

    return EncodingFiles(
        settings.encodings_dir,
        settings.encodings_dir_mib,
        dump=segmenter.dump,
        restore=segmenter.restore,
    )


def load_text_segmenter(settings: Settings, name: str) -> TextSegmenter:
    """Load EVF-SAM2.

    Args:
        settings: Settings with device and precision.
        name: Name in the catalog, name of a hub repository, or a folder.

    Raises:
        ModelError: If the model cannot be downloaded or loaded.
    """
    from segdex_backends.models.loaders import TEXT_SEGMENTERS

    entry = resolve_model(name, role="refiner")
    return TEXT_SEGMENTERS[entry.adapter](entry, load_options(settings))


def load_service(settings: Settings, parts: Parts, *, address: str | None = None) -> "Loaded":
    """Open the index and load all models of the HTTP service.

    An embedded index is taken for this process alone after the models are loaded.

    Args:
        settings: Settings of the service.
        parts: Functions that open the index and load the models.
        address: Address of the service, for those who wait for an embedded index; None if it has none.

    Raises:
        SegmentIndexError: If the index cannot be used.
        ModelError: If a model cannot be downloaded or loaded.
        JobsUnavailableError: If the job queue does not answer.
    """
    from segdex.http.model_thread import ModelThread, ServiceModels
    from segdex.http.state import Loaded
    from segdex.jobs.runner import job_runner
    from segdex.jobs.worker import JobKeeper, JobWorker
    from segdex.usecases.uploads import clean_uploads

    if settings.uploads is not None:
        clean_uploads(settings.uploads)
    with ExitStack() as opened:
        library = opened.enter_context(open_library(settings, parts))
        jobs = library.queue
        index = library.create_index()
        models = library.models
        # not models.recipes, which divides the cores among images: a service uses all cores for one image
        recipe = parts.make_recipe(settings, models.segmenter, models.embedder, preset(quality_of(index)))
        prepare_index(index, recipe, profile=models.profile)
        if address is not None and (folder := embedded_folder(settings.index)) is not None:
            from segdex_backends.index.edge_lock import LOCK, announce

            announce(folder / LOCK, address)
        model_thread = ModelThread(recipe.embedder, max_waiting=settings.max_waiting)
        served = ServiceModels(recipe, models.profile, models.judge, models.refiner, model_thread)
        opened.pop_all()  # the service closes it from here on
    library = library.with_models(served)
    runs_jobs = settings.jobs_by == "service"
    keeper = (
        JobWorker(jobs, job_runner(library), nicely=True, on_stop=library.journal.stopping)
        if runs_jobs
        else JobKeeper(jobs)
    )
    keeper.start()
    return Loaded(library=library, model_thread=model_thread, jobs=keeper)


def open_jobs(settings: Settings) -> "Jobs":
    """Return the job queue of the index: on Redis if an address is set, otherwise in a SQLite file.

    Raises:
        UsageError: If the address of Redis is invalid.
        JobsUnavailableError: If the Redis server does not answer.
    """
    from segdex.jobs.queue import Jobs
    from segdex.jobs.storages import redis_storage, sqlite_storage

    key = settings.index_key()
    if settings.jobs_redis is not None:
        storage = redis_storage(settings.jobs_redis.get_secret_value(), index_key=key)
    else:
        storage = sqlite_storage(_jobs_file(settings), index_key=key)
    return Jobs(storage, max_waiting=settings.max_jobs)


def _jobs_file(settings: Settings) -> Path:
    return settings.jobs_file or cache_folder(settings) / "jobs.sqlite"


def open_backups() -> BackupFormat:
    """Return the form in which backups are stored.

    Raises:
        UsageError: If the package is not installed.
    """
    try:
        from segdex_backends.backup.parquet import ParquetFormat
    except ImportError as error:
        raise UsageError("backups need a package: pip install 'segdex[parquet]'") from error
    return ParquetFormat()


def remembered_recipe(
    settings: Settings,
    profile: ProfileName,
    generator: GeneratorSettings,
    load: Callable[[], Recipe],
    *,
    parts: Parts,
) -> RememberedRecipe:
    """Return the recipe of the settings; its models are loaded on first use.

    Args:
        settings: Settings that choose the models.
        profile: Profile of the models.
        generator: Settings of the mask generator.
        load: Loads the models.
        parts: Functions that ``load`` uses; the cached fingerprint depends on them.
    """
    import segdex_backends.models
    import segdex_ingest

    def load_now() -> Recipe:
        plan_threads(settings).apply()
        return load()

    chosen = ("segmenter", "embedder", "precision", "device", "compile_models", "views")
    key = {name: getattr(settings, name) for name in chosen}
    key |= {
        "profile": profile,
        "generator": generator.fingerprint(),
        "version": version("segdex"),
        "loaded_by": f"{parts.load_segmenter.__module__}.{parts.load_segmenter.__qualname__}",
        # precision and device depend on it
        "machine": (platform.node(), sorted(map(str, Path("/dev").glob("nvidia[0-9]*")))),
    }
    names = [name for name in (settings.segmenter, settings.embedder) if name is not None]
    forms = [(name, name.partition(":")[2]) for name in names]  # PATH, and MODEL:PATH or sam2:PATH
    places = [Path(part) for parts_of_name in forms for part in parts_of_name if part]
    return RememberedRecipe(
        load_now,
        key=recipe_key(
            key,
            code=[Path(segdex_backends.models.__path__[0]), Path(segdex_ingest.__path__[0])],
            places=[place for place in places if place.exists()],
        ),
        file=cache_folder(settings) / "recipes.json",
    )


def open_library(settings: Settings, parts: Parts, *, has_index: bool = True) -> Library:
    """Return a library on the index of the settings; nothing is opened or loaded yet.

    Args:
        settings: Settings of the index, the models and the limits.
        parts: Functions that open the index and load the models.
        has_index: False for calls that need no index, such as segmenting a given image.
    """

    def open_it(create: bool) -> SegmentIndex:
        if not has_index:
            raise IndexMissingError(NO_INDEX)
        return parts.open_index(settings, create=create)

    index = LazyIndex(open_it)

    def choose() -> tuple[Settings, ProfileName]:
        if not has_index or (settings.profile is not None and settings.embedder is not None):
            return settings, settings.profile or DEFAULT_PROFILE
        try:
            opened = index.get()
        except IndexMissingError:
            return settings, settings.profile or DEFAULT_PROFILE
        return settings_for(settings, opened), profile_of(settings, opened)

    models = LazyModels(
        choose,
        parts,
        # a profile that is named may mean another embedder today than when it filled the index
        choose_new=lambda: choose() if settings.profile is None else (settings, settings.profile),
        remember=partial(remembered_recipe, parts=parts),
        analysis_threads=lambda: analysis_thread_count(settings),
    )
    return Library(
        settings,
        index=index,
        models=models,
        source=open_source(),
        jobs=Lazy(lambda: open_jobs(settings)),
        has_queue=lambda: settings.jobs_redis is not None or _jobs_file(settings).exists(),
        backups=open_backups,
        calibrations=calibration_folder(settings),
        decoder=parts.open_decoder(settings),
        journal=Journal(lambda: cache_folder(settings) / "journal" / settings.index_key()),
        not_pictures=open_not_pictures(cache_folder(settings)),
    )


def calibration_folder(settings: Settings) -> Path:
    """Return the folder of the calibrations."""
    return cache_folder(settings) / "calibration"


def load_judge(settings: Settings, embedder: Embedder) -> "PresenceJudge":
    """Return the presence judge of an embedder; the vectors of its words are kept in the cache folder.

    Raises:
        UsageError: If the calibration file is damaged.
    """
    from segdex_search.presence import kept_judge

    return kept_judge(calibration_folder(settings), embedder)


def cache_folder(settings: Settings) -> Path:
    """Return the cache folder of segdex."""
    from segdex_backends.models.checksums import default_cache_dir

    return settings.cache_dir or default_cache_dir()


REAL = Parts(
    open_index=open_index,
    load_segmenter=load_segmenter,
    load_embedder=load_embedder,
    load_judge=load_judge,
    make_recipe=make_recipe,
    make_refiner=make_refiner,
    open_decoder=open_decoder,
)
"""Functions for the index of the settings and the models of the catalog."""
