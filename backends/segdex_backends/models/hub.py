"""Files of a repository on the Hugging Face hub: kept in its own cache, compared with the first download."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError: of the HTTP library it uses
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx  # type: ignore[attr-defined] # whichever httpx the hub client uses

from segdex_backends.models.downloads import Download, check_download, find_record, records_folder
from segdex_backends.models.reading import one_line
from segdex_core.errors import ModelInvalidError, ModelMissingError, ModelUnavailableError

_FILE_SUFFIXES = (".pt", ".pth", ".safetensors")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Hub:
    """A model hub.

    Attributes:
        timeout_s: Maximum seconds until the hub responds; huggingface_hub itself would retry for 25 s per
            file.
        endpoint: URL of the hub; None for ``HF_ENDPOINT``, or huggingface.co if that is unset.
        cache_dir: Folder of downloaded files; None for ``HF_HUB_CACHE``, or the user's cache if that is
            unset.
        records_dir: segdex's cache folder, where first downloads are recorded; None for the user's.
        pins: The sha256 of a file by repository and file, where the catalog knows it.
    """

    timeout_s: float = 5.0
    endpoint: str | None = None
    cache_dir: Path | None = None
    records_dir: Path | None = None
    pins: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def check(self, path: Path, repository: str, name: str) -> None:
        """Compare a file with its pin or with its first download; see ``downloads.check_download``.

        Raises:
            ModelInvalidError: If it is another one.
        """
        pinned = self.pins.get((repository, name))
        check_download(path, repository, name, pinned=pinned, cache_dir=self.records_dir)

    def recorded(self, repository: str, name: str) -> Download | None:
        """Return what is recorded of a file; None where nothing is.

        Raises:
            ModelInvalidError: If the record is damaged.
        """
        return find_record(repository, name, cache_dir=self.records_dir)


HUB = Hub()
"""Hub that the environment variables define."""


def fetch_hub_folder(
    repository: str,
    names: Sequence[str],
    *,
    kind: str,
    revision: str | None,
    way_out: str,
    optional: Sequence[str] = (),
    hub: Hub = HUB,
) -> Path:
    """Return the folder of a repository in the hub's cache, after downloading missing files.

    A file that was loaded before is taken at the revision of that time, without asking the hub.

    Args:
        repository: ``OWNER/NAME``.
        names: Names of the required files.
        kind: Kind of repository for error messages, such as "SAM 2 model for transformers".
        revision: Commit, tag or branch; None for the one of the first download, at first the main branch.
        way_out: Advice in error messages if the hub cannot be reached.
        optional: Names of files that the repository may lack.
        hub: Hub to download from.

    Raises:
        ModelMissingError: If the repository or revision does not exist, or the name looks like a path.
        ModelUnavailableError: If the hub does not answer within a few seconds and nothing is cached.
        ModelInvalidError: If the repository lacks a file, or one is not what it was at first.
    """
    if repository.startswith((".", "/", "~")) or repository.endswith(_FILE_SUFFIXES):
        raise ModelMissingError(f"there is no folder or file {repository}")
    revision = revision or _recorded_revision(repository, names, hub=hub)
    if revision is not None:  # a file that the first download had is required from then on
        had = [name for name in optional if _recorded_revision(repository, [name], hub=hub) == revision]
        names, optional = (*names, *had), [name for name in optional if name not in had]
    try:
        files = _fetch_files(repository, names, optional, revision=revision, hub=hub)
    except HFValidationError as error:
        raise ModelMissingError(
            f"{repository} is neither an existing path nor a name of the form OWNER/NAME"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelUnavailableError(
            f"the model hub did not answer within {hub.timeout_s:.0f} s, and {repository} is not cached; "
            + way_out
        ) from error
    except RevisionNotFoundError as error:
        raise _revision_gone(repository, revision, names, hub=hub) from error
    except RepositoryNotFoundError as error:
        raise ModelMissingError(f"the hub has no public model {repository}; {way_out}") from error
    except EntryNotFoundError as error:
        raise ModelInvalidError(f"{repository} lacks one of {', '.join(names)}: it is no {kind}") from error
    except (httpx.TransportError, HfHubHTTPError) as error:
        raise ModelUnavailableError(
            f"the hub failed to send {repository} ({type(error).__name__}); try again, or {way_out}"
        ) from error
    folder = files[0].parent
    for file in files:
        hub.check(file, repository, file.relative_to(folder).as_posix())
    return folder


def fetch_hub_file(repository: str, names: Sequence[str], *, wanted: str, hub: Hub = HUB) -> Path:
    """Return the first of several files that a repository has. A cached file is used without a request.

    A file that was loaded before is taken at the revision of that time.

    Args:
        repository: ``OWNER/NAME``.
        names: Names of alternative files, best first.
        wanted: Name of the model that needs the file, for error messages.
        hub: Hub to download from.

    Raises:
        ModelMissingError: If the hub does not have the revision of that time any more.
        ModelUnavailableError: If the hub does not answer within a few seconds, or has none of the files.
        ModelInvalidError: If the file is not what it was at first.
    """
    revision = _recorded_revision(repository, names, hub=hub)
    try:
        path = _fetch_first(repository, names, revision=revision, only_cached=False, hub=hub)
    except RemoteEntryNotFoundError as error:
        raise hub_unavailable(repository, wanted, f"it has none of {', '.join(names)}", hub=hub) from error
    except RevisionNotFoundError as error:
        raise _revision_gone(repository, revision, names, hub=hub) from error
    except (HTTPError, OSError) as error:
        raise hub_unavailable(repository, wanted, one_line(error), hub=hub) from error
    [name] = [name for name in names if path.as_posix().endswith(f"/{name}")]
    hub.check(path, repository, name)
    return path


def hub_unavailable(repository: str, wanted: str, reason: str, *, hub: Hub) -> ModelUnavailableError:
    """Return the error for a model that needs files that the hub does not provide."""
    return ModelUnavailableError(
        f"{wanted} needs {repository} from the Hugging Face hub, which does not give it ({reason}): "
        + hub_way_out(hub)
    )


def hub_way_out(hub: Hub) -> str:
    """Return what to do where the hub does not give the files of an embedder."""
    return (
        f"copy it into {hub.cache_dir or constants.HF_HUB_CACHE}, give a checkpoint file's path as the "
        "weights, or use --profile offline"
    )


def _recorded_revision(repository: str, names: Iterable[str], *, hub: Hub) -> str | None:
    """Return the commit of the first download of the first of these files that has a record."""
    known = next(filter(None, (hub.recorded(repository, name) for name in names)), None)
    return None if known is None else known.revision


def _revision_gone(
    repository: str, revision: str | None, names: Iterable[str], *, hub: Hub
) -> ModelMissingError:
    what = f"the hub has no revision {revision} of {repository}"
    if revision != _recorded_revision(repository, names, hub=hub):
        return ModelMissingError(f"{what}; name another one")
    records = records_folder(repository, cache_dir=hub.records_dir)
    return ModelMissingError(
        f"{what} any more, which is that of the first download; delete {records} to take the newest one, "
        "which may make other vectors or masks"
    )


def _all_cached(repository: str, names: Sequence[str], *, revision: str | None, hub: Hub) -> bool:
    """Return whether every file is in the cache. Only at a commit: a branch may have moved on."""
    if revision is None or not _COMMIT.fullmatch(revision):
        return False
    return all(
        isinstance(try_to_load_from_cache(repository, name, revision=revision, cache_dir=hub.cache_dir), str)
        for name in names
    )


def _fetch_files(
    repository: str, names: Sequence[str], optional: Sequence[str], *, revision: str | None, hub: Hub
) -> list[Path]:
    """Return the required files, and those of the others that the repository has.

    The hub is not asked where it gave all required files before.

    Raises:
        LocalEntryNotFoundError: If a required file is not cached, and the hub does not answer. If the hub
            stops answering before all files are here: without one of them the model might be another one.
        RemoteEntryNotFoundError: If the repository lacks a required file.
        HTTPError: If the hub answers with an error.
    """
    commit = None
    if not _all_cached(repository, names, revision=revision, hub=hub):
        commit = _hub_commit(repository, revision=revision, hub=hub)
    fetch = partial(
        _fetch_first, repository, revision=commit or revision, only_cached=commit is None, hub=hub
    )
    files = [fetch([name]) for name in names]
    for name in optional:
        try:
            files.append(fetch([name]))
        except EntryNotFoundError as error:
            if commit is not None and isinstance(error, LocalEntryNotFoundError):
                raise
    return files


def _fetch_first(
    repository: str, names: Sequence[str], *, revision: str | None, only_cached: bool, hub: Hub
) -> Path:
    """Return the first file that is cached, or the first file on the hub if no file is cached.

    Raises:
        LocalEntryNotFoundError: If no file is cached, and only the cache may be used.
        RemoteEntryNotFoundError: If the repository has none of the files.
        HTTPError: If the hub does not answer, or answers with an error.
    """
    for name in names:
        cached = try_to_load_from_cache(repository, name, revision=revision, cache_dir=hub.cache_dir)
        if isinstance(cached, str):
            return Path(cached)
    if only_cached:
        raise LocalEntryNotFoundError(f"the cache has none of {', '.join(names)} of {repository}")
    *others, last = names
    for name in others:
        with suppress(RemoteEntryNotFoundError):
            return _download(repository, name, revision=revision, hub=hub)
    return _download(repository, last, revision=revision, hub=hub)


def _download(repository: str, name: str, *, revision: str | None, hub: Hub) -> Path:
    # One request comes first, because ``hf_hub_download`` retries a failed request for 25 s.
    url = hf_hub_url(repository, name, revision=revision, endpoint=hub.endpoint)
    get_hf_file_metadata(url, timeout=hub.timeout_s)
    return Path(
        hf_hub_download(
            repository,
            name,
            revision=revision,
            etag_timeout=hub.timeout_s,
            endpoint=hub.endpoint,
            cache_dir=hub.cache_dir,
        )
    )


def _hub_commit(repository: str, *, revision: str | None, hub: Hub) -> str | None:
    """Return the commit of a revision, or None if the hub does not answer.

    One request with a short timeout is sent, because ``hf_hub_download`` tries six times and takes over a
    minute to give up on a network that drops packets.
    """
    try:
        api = HfApi(endpoint=hub.endpoint)
        return api.model_info(repository, revision=revision, timeout=hub.timeout_s).sha
    except (httpx.TransportError, OfflineModeIsEnabled):
        return None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except HfHubHTTPError:
        return None  # the hub answers with an error, but the files may be cached
