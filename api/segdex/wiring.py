"""The composition root: the one place where settings become models and an index."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Protocol

import numpy as np
from pydantic import ValidationError

from segdex_backends.models.catalog import CatalogEntry, find_model, profile_models
from segdex_core.errors import UsageError
from segdex_core.ports.embedder import Embedder
from segdex_core.ports.index import SegmentIndex
from segdex_core.ports.segmenter import ImageFeatures, PromptableSegmenter
from segdex_core.ports.text_segmenter import TextSegmenter
from segdex_core.records import SEGMENT_VIEWS, Vectors
from segdex_core.settings import ProfileName, Settings
from segdex_ingest.analyse import Recipe
from segdex_ingest.masks.generate import GeneratorSettings, preset
from segdex_ingest.run import IngestOptions, ingest_into, prepare_index
from segdex_ingest.scan import scan_paths
from segdex_search.calibrate import calibration_file, load_calibration
from segdex_search.distractors import DISTRACTORS
from segdex_search.presence import PresenceJudge
from segdex_search.refine.encodings import EncodingCache, EncodingFiles
from segdex_search.refine.refiner import Refiner

if TYPE_CHECKING:
    from segdex.http.job_schemas import Job
    from segdex.http.state import Loaded
    from segdex.jobs.queue import Jobs
    from segdex.jobs.worker import Progress, Run
    from segdex_backends.models.devices import ModelPrecision

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
        from segdex_backends.index.edge import EdgeIndex

        folder = location.removeprefix("edge:")
        if not folder:
            raise UsageError("--index edge: needs a folder, such as edge:my-index")
        return EdgeIndex(Path(folder).expanduser(), create=create)
    if location.startswith(("http://", "https://")):
        from segdex_backends.index.server import ServerIndex

        key = settings.index_api_key
        return ServerIndex(
            location,
            api_key=key.get_secret_value() if key is not None else None,
            timeout_s=settings.index_timeout_s,
            create=create,
            collection_prefix=settings.index_collection,
            grpc_port=settings.index_grpc_port,
        )
    raise UsageError(
        f"--index (SEGDEX_INDEX) must be edge:PATH, http://HOST:PORT or https://HOST:PORT, "
        f"but is {location!r}"
    )


def profile_of(settings: Settings, index: SegmentIndex) -> ProfileName:
    """Return the profile asked for, else the one that filled the index, else ``default``."""
    if settings.profile is not None:
        return settings.profile
    found = index.fingerprint()
    return "offline" if found is not None and found.profile == "offline" else DEFAULT_PROFILE


def resolve_device(settings: Settings) -> str:
    """Return ``cpu`` or ``cuda``.

    Raises:
        UsageError: If CUDA is asked for and absent.
    """
    import torch

    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    return "cuda" if available and settings.device != "cpu" else "cpu"


def load_segmenter(settings: Settings, profile: ProfileName) -> PromptableSegmenter:
    """Load the segmenter of a profile, or the one that ``--segmenter`` names.

    Raises:
        ModelError: If it cannot be fetched or loaded.
    """
    device = resolve_device(settings)
    name = settings.segmenter
    if name is not None and _is_place(name):
        return _sam2(name, settings, device)
    entry = find_model(name, role="segmenter") if name else profile_models(profile, device_type=device)[0]
    if entry.adapter == "sam2-onnx":
        from segdex_backends.models.sam2.onnx_export import OnnxSam2

        encoder, decoder = fetch_files(entry, settings)
        return OnnxSam2.load(
            encoder,
            decoder,
            device=device,
            precision=segmenter_precision(settings, device),
            compiled=settings.compile_models,
        )
    return _sam2(entry.sources[0].package, settings, device)


def load_embedder(settings: Settings, profile: ProfileName) -> Embedder:
    """Load the embedder of a profile, or the one that ``--embedder`` names.

    Raises:
        ModelError: If it cannot be fetched or loaded.
    """
    device = resolve_device(settings)
    name = settings.embedder
    if name is not None and ":" in name:
        architecture, _, pretrained = name.partition(":")
        return _open_clip(architecture, pretrained, settings, device)
    entry = find_model(name, role="embedder") if name else profile_models(profile, device_type=device)[1]
    if entry.adapter == "conse":
        from segdex_backends.models.conse.embedder import ConseEmbedder

        return ConseEmbedder.load()
    return _open_clip(entry.architecture, entry.pretrained, settings, device)


def plan_workers(settings: Settings, *, cores: int | None = None) -> int:
    """Return how many threads analyse pictures, and share the cores among them.

    One picture on each core costs no more than one on all, and what runs in one thread, the selection of
    masks and their run-length codes, is done beside the models of the other pictures.

    Args:
        settings: Workers and device.
        cores: To share; None for those that this process may use.
    """
    import torch

    cores = len(os.sched_getaffinity(0)) if cores is None else cores
    workers = settings.workers or min(cores, _MAX_WORKERS)
    if resolve_device(settings) == "cpu":
        torch.set_num_threads(max(cores // workers, 1))  # holds for threads that are started from now on
    return workers


_MAX_WORKERS = 4
"""Each holds the features and candidate masks of a picture, several hundred MiB."""


def make_refiner(
    settings: Settings, *, segmenter: PromptableSegmenter, embedder: Embedder, distractors: Vectors
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


def _encoding_files(
    settings: Settings, segmenter: PromptableSegmenter
) -> EncodingFiles[ImageFeatures] | None:
    if settings.encodings_dir is None:
        return None
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
    from segdex_backends.models.evf_sam2.segmenter import EvfSam2

    device = resolve_device(settings)
    source = name if _is_place(name) else find_model(name, role="refiner").sources[0].package
    return EvfSam2.load(source, device=device, precision=segmenter_precision(settings, device))


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
    from segdex.jobs.worker import JobWorker

    with ExitStack() as opened:
        jobs = open_jobs(settings)
        opened.callback(jobs.close)
        index = parts.open_index(settings, create=True)
        opened.callback(index.close)
        profile = profile_of(settings, index)
        recipe = parts.load_recipe(settings, profile, preset("balanced"))
        prepare_index(index, recipe, profile=profile, views=SEGMENT_VIEWS)
        judge = parts.load_judge(settings, recipe.embedder)
        refiner = parts.make_refiner(
            settings,
            segmenter=recipe.segmenter,
            embedder=recipe.embedder,
            distractors=judge.distractors,
        )
        opened.pop_all()  # from here on they are the service's
    worker = ModelWorker(recipe.embedder, max_waiting=settings.max_waiting)
    writing = RLock()
    job_worker = None
    if settings.jobs_by == "service":
        run = job_runner(settings, index, recipe, profile, lock=writing)
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


def job_runner(
    settings: Settings,
    index: SegmentIndex,
    recipe: Recipe,
    profile: ProfileName,
    *,
    workers: int = 1,
    lock: AbstractContextManager[object] | None = None,
) -> "Run":
    """Return what carries out an ingest: as ``segdex ingest``, below the allowed folders and of uploads.

    Args:
        settings: Limits and allowed folders.
        index: What to fill.
        recipe: The models.
        profile: Of the models.
        workers: Pictures segmented at a time.
        lock: An ``RLock`` of all in this process that write to the index; None where nobody else does.
    """
    from segdex.jobs.queue import check_paths, inside

    roots = settings.job_roots if settings.uploads is None else (*settings.job_roots, settings.uploads)

    def run(job: "Job", progress: "Progress") -> None:
        check_paths(job.paths, roots)  # the folders may have changed since it was asked for
        scan = scan_paths(job.paths)
        files = [path for path in scan.files if inside(path, roots)]
        progress.found(len(files), left_out=len(scan.files) - len(files))
        report = ingest_into(
            index,
            recipe,
            files,
            profile=profile,
            lock=lock,
            options=IngestOptions(
                max_pixels=settings.max_pixels,
                max_bytes=settings.max_bytes,
                jobs=settings.jobs,
                workers=workers,
                tags=tuple(job.tags),
            ),
            on_file=progress.on_file,
        )
        if report.interrupted:
            raise KeyboardInterrupt

    return run


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


def fetch_files(entry: CatalogEntry, settings: Settings) -> list[Path]:
    """Return the files of a model that comes from npm, fetching what is not cached.

    Raises:
        ModelError: If they cannot be fetched.
    """
    from segdex_backends.models.npm import fetch_npm_files

    [source] = entry.sources
    return fetch_npm_files(
        source.package,
        source.version or "",
        sha256_by_member={file.path: file.sha256 for file in source.files if file.sha256 is not None},
        cache_dir=settings.cache_dir,
    )


def calibration_folder(settings: Settings) -> Path:
    """Return where calibrations are kept."""
    return cache_folder(settings) / "calibration"


def load_judge(settings: Settings, embedder: Embedder) -> PresenceJudge:
    """Return the judge of an embedder; the vectors of its words are kept in the cache folder.

    Raises:
        UsageError: If the file of a calibration is damaged.
    """
    folder = calibration_folder(settings)
    calibration = load_calibration(folder, embedder.fingerprint)
    kept = calibration_file(folder, embedder.fingerprint).with_suffix(".npy")
    try:
        words: Vectors = np.load(kept, allow_pickle=False)
        if words.shape == (len(DISTRACTORS), embedder.dim):
            return PresenceJudge(words, calibration)
    except (OSError, ValueError, EOFError):
        pass  # not made yet, or cut short: made again
    judge = PresenceJudge.of(embedder, calibration)
    with suppress(OSError):  # a cache that cannot be written only costs time
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}.npy")
        np.save(part, judge.distractors)
        part.replace(kept)
    return judge


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
        segmenter: PromptableSegmenter,
        embedder: Embedder,
        distractors: Vectors,
    ) -> Refiner: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What opens the index and loads the models for the commands and the service.

    The fields are the functions of this module in ``REAL``, and small ones over fakes in tests.
    """

    open_index: _OpenIndex
    load_segmenter: Callable[[Settings, ProfileName], PromptableSegmenter]
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


def _is_place(name: str) -> bool:
    """Whether a model is named by path or hub repository instead of by its name in the catalog."""
    return "/" in name or Path(name).exists()


def _sam2(source: str, settings: Settings, device: str) -> PromptableSegmenter:
    from segdex_backends.models.sam2.hub_weights import TransformersSam2

    return TransformersSam2.load(
        source,
        device=device,
        precision=segmenter_precision(settings, device),
        compiled=settings.compile_models,
    )


def _open_clip(architecture: str, pretrained: str, settings: Settings, device: str) -> Embedder:
    from segdex_backends.models.open_clip.embedder import OpenClipEmbedder

    return OpenClipEmbedder.load(
        architecture, pretrained=pretrained, device=device, precision=embedder_precision(settings, device)
    )


def segmenter_precision(settings: Settings, device: str) -> "ModelPrecision":
    """Return the precision asked for; by itself the fastest of the device."""
    from segdex_backends.models.devices import fastest_precision

    return fastest_precision(device) if settings.precision == "auto" else settings.precision


def embedder_precision(settings: Settings, device: str) -> "ModelPrecision":
    """Return the precision asked for; by itself a CPU takes fp32, so that vectors of two CPUs can be mixed.

    An index takes vectors of one precision alone, where a picture of another is only segmented anew.
    """
    if settings.precision == "auto":
        return "bf16" if device == "cuda" else "fp32"
    return settings.precision
