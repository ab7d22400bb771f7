"""Files of a repository on the Hugging Face hub, in the hub's own cache."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx  # type: ignore[attr-defined] # whichever httpx the hub client uses

from segdex_core.errors import ModelInvalidError, ModelMissingError, ModelUnavailableError

_FILE_SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True, slots=True)
class Hub:
    """A model hub.

    Attributes:
        timeout_s: How long it may take to answer at all; huggingface_hub itself would retry for 25 s a file.
        endpoint: Its address; None for the one of ``HF_ENDPOINT``, else huggingface.co.
        cache_dir: What was fetched; None for the one of ``HF_HUB_CACHE``, else the user's cache.
    """

    timeout_s: float = 5.0
    endpoint: str | None = None
    cache_dir: Path | None = None


HUB = Hub()
"""The one that the environment names."""


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
    """Return the folder of a repository in the hub's cache, downloading what it lacks.

    Args:
        repository: ``OWNER/NAME``.
        names: The files that are used.
        kind: What a repository with these files is, for messages, such as "SAM 2 model for transformers".
        revision: Commit, tag or branch; None for the main branch.
        way_out: What to do where the hub cannot be reached, for messages.
        optional: Files that not every such repository has.
        hub: Where to look for it.

    Raises:
        ModelMissingError: If there is no such repository or revision, or the name looks like a path.
        ModelUnavailableError: If the hub does not answer within a few seconds and nothing is cached.
        ModelInvalidError: If the repository lacks a file.
    """
    if repository.startswith((".", "/", "~")) or repository.endswith(_FILE_SUFFIXES):
        raise ModelMissingError(f"there is no folder or file {repository}")
    try:
        commit = _hub_commit(repository, revision=revision, hub=hub)
        fetch = partial(
            hf_hub_download,
            repository,
            revision=commit or revision,
            local_files_only=commit is None,
            etag_timeout=hub.timeout_s,
            endpoint=hub.endpoint,
            cache_dir=hub.cache_dir,
        )
        files = [fetch(name) for name in names]
        for name in optional:
            with suppress(EntryNotFoundError):  # also raised for a file that is not in the cache
                fetch(name)
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
        raise ModelMissingError(f"the hub has no revision {revision} of {repository}") from error
    except RepositoryNotFoundError as error:
        raise ModelMissingError(f"the hub has no public model {repository}; {way_out}") from error
    except EntryNotFoundError as error:
        raise ModelInvalidError(f"{repository} lacks one of {', '.join(names)}: it is no {kind}") from error
    except (httpx.TransportError, HfHubHTTPError) as error:
        raise ModelUnavailableError(
            f"the hub failed to send {repository} ({type(error).__name__}); try again, or {way_out}"
        ) from error
    return Path(files[0]).parent


def _hub_commit(repository: str, *, revision: str | None, hub: Hub) -> str | None:
    """Return the commit of a revision, or None when the hub does not answer.

    Asked once with a short time limit: ``hf_hub_download`` tries six times and takes over a minute to give
    up on a network that swallows packets.
    """
    try:
        return (
            HfApi(endpoint=hub.endpoint).model_info(repository, revision=revision, timeout=hub.timeout_s).sha
        )
    except (httpx.TransportError, OfflineModeIsEnabled):
        return None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except HfHubHTTPError:
        return None  # the hub is up but in trouble: the cache may still have it
