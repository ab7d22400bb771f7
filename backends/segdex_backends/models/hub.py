"""Files of a repository on the Hugging Face hub, in the hub's own cache."""

from collections.abc import Sequence
from contextlib import suppress
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

from segdex_backends.models.reading import one_line
from segdex_core.errors import ModelInvalidError, ModelMissingError, ModelUnavailableError

HUB_TIMEOUT_S = 5.0
_FILE_SUFFIXES = (".pt", ".pth", ".safetensors")


def fetch_hub_folder(
    repository: str,
    names: Sequence[str],
    *,
    kind: str,
    revision: str | None,
    way_out: str,
    optional: Sequence[str] = (),
) -> Path:
    """Return the folder of a repository in the hub's cache, downloading what it lacks.

    Args:
        repository: ``OWNER/NAME``.
        names: The files that are used.
        kind: What a repository with these files is, for messages, such as "SAM 2 model for transformers".
        revision: Commit, tag or branch; None for the main branch.
        way_out: What to do where the hub cannot be reached, for messages.
        optional: Files that not every such repository has.

    Raises:
        ModelMissingError: If there is no such repository or revision, or the name looks like a path.
        ModelUnavailableError: If the hub does not answer within a few seconds and nothing is cached.
        ModelInvalidError: If the repository lacks a file.
    """
    if repository.startswith((".", "/", "~")) or repository.endswith(_FILE_SUFFIXES):
        raise ModelMissingError(f"there is no folder or file {repository}")
    try:
        commit = _hub_commit(repository, revision=revision)
        fetch = partial(_fetch_first, repository, revision=commit or revision, only_cached=commit is None)
        files = [fetch([name]) for name in names]
        for name in optional:
            with suppress(EntryNotFoundError):  # also raised for a file that is not in the cache
                fetch([name])
    except HFValidationError as error:
        raise ModelMissingError(
            f"{repository} is neither an existing path nor a name of the form OWNER/NAME"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelUnavailableError(
            f"the model hub did not answer within {HUB_TIMEOUT_S:.0f} s, and {repository} is not cached; "
            + way_out
        ) from error
    except RevisionNotFoundError as error:
        raise ModelMissingError(f"the hub has no revision {revision} of {repository}") from error
    except RepositoryNotFoundError as error:
        raise ModelMissingError(f"the hub has no public model {repository}; {way_out}") from error
    except EntryNotFoundError as error:
        raise ModelInvalidError(f"{repository} lacks one of {', '.join(names)}: it is no {kind}") from error
    except (httpx.TransportError, HfHubHTTPError) as error:
        raise ModelUnavailableError(
            f"the hub failed to send {repository} ({type(error).__name__}); try again, or {way_out}"
        ) from error
    return files[0].parent


def fetch_hub_file(repository: str, names: Sequence[str], *, wanted: str) -> Path:
    """Return the first of several files that a repository has; one in the cache is used without asking.

    Args:
        repository: ``OWNER/NAME``.
        names: The files, any of which will do, best first.
        wanted: What needs the file, for messages.

    Raises:
        ModelUnavailableError: If the hub does not answer within a few seconds, or has none of the files.
    """
    try:
        return _fetch_first(repository, names, revision=None, only_cached=False)
    except RemoteEntryNotFoundError as error:
        raise hub_unavailable(repository, wanted, f"it has none of {', '.join(names)}") from error
    except (HTTPError, OSError) as error:
        raise hub_unavailable(repository, wanted, one_line(error)) from error


def hub_unavailable(repository: str, wanted: str, reason: str) -> ModelUnavailableError:
    """Return the error of a model that needs files which the hub does not give."""
    return ModelUnavailableError(
        f"{wanted} needs {repository} from the Hugging Face hub, which does not give it ({reason}): copy it "
        f"into {constants.HF_HUB_CACHE}, give a checkpoint file's path as the weights, or use --profile "
        "offline"
    )


def _fetch_first(repository: str, names: Sequence[str], *, revision: str | None, only_cached: bool) -> Path:
    """Return the first of the files that the cache has, else the first that the hub has.

    Raises:
        LocalEntryNotFoundError: If none is in the cache, and only the cache may be used.
        RemoteEntryNotFoundError: If the repository has none of them.
        HTTPError: If the hub does not answer, or not well.
    """
    for name in names:
        cached = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    if only_cached:
        raise LocalEntryNotFoundError(f"the cache has none of {', '.join(names)} of {repository}")
    *others, last = names
    for name in others:
        with suppress(RemoteEntryNotFoundError):
            return _download(repository, name, revision=revision)
    return _download(repository, last, revision=revision)


def _download(repository: str, name: str, *, revision: str | None) -> Path:
    # Asked once before: ``hf_hub_download`` repeats a failed request for 25 s.
    get_hf_file_metadata(hf_hub_url(repository, name, revision=revision), timeout=HUB_TIMEOUT_S)
    return Path(hf_hub_download(repository, name, revision=revision, etag_timeout=HUB_TIMEOUT_S))


def _hub_commit(repository: str, *, revision: str | None) -> str | None:
    """Return the commit of a revision, or None when the hub does not answer.

    Asked once with a short time limit: ``hf_hub_download`` tries six times and takes over a minute to give
    up on a network that swallows packets.
    """
    try:
        return HfApi().model_info(repository, revision=revision, timeout=HUB_TIMEOUT_S).sha
    except (httpx.TransportError, OfflineModeIsEnabled):
        return None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except HfHubHTTPError:
        return None  # the hub is up but in trouble: the cache may still have it
