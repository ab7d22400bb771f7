"""Where SAM 2's weights come from: the Hugging Face hub, a folder in its layout, or one of Meta's files."""

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

from segdex.core.errors import ModelInvalidError, ModelMissingError, ModelUnavailableError
from segdex.core.models.devices import ModelPrecision, check_device
from segdex.core.models.npm import file_sha256
from segdex.core.models.sam2_checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_folder, load_meta_file
from segdex.core.models.sam2_torch import TorchSam2

_HUB_TIMEOUT_S = 5.0
_FILE_SUFFIXES = (".pt", ".pth", ".safetensors")
_WAYS_OUT = "use --profile offline, or give the path of a folder or checkpoint file"


class TransformersSam2(TorchSam2):
    """SAM 2 with weights as ``transformers`` or Meta publish them.

    Of transformers only the configuration and the names of the weights are used. Its ``Sam2Processor`` and
    mask-generation pipeline resize bytes instead of floats, and scale points by the longer side instead of
    each axis by its own factor.
    """

    @classmethod
    def load(
        cls,
        source: str,
        *,
        device: str = "cpu",
        precision: ModelPrecision = "fp32",
        revision: str | None = None,
        compiled: bool = False,
    ) -> "TransformersSam2":
        """Return the model of a hub repository, a folder, or one of Meta's checkpoint files.

        Args:
            source: ``facebook/sam2.1-hiera-tiny``, a folder with ``config.json`` and ``model.safetensors``,
                or a ``.pt`` file as Meta publishes it.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            precision: ``fp32``, ``bf16``, or ``fp16`` on CUDA.
            revision: Commit, tag or branch of the hub repository; None for its main branch.
            compiled: See ``TorchSam2``.

        Raises:
            UsageError: If the device is not there, or cannot compute in that precision.
            ModelMissingError: If the path does not exist, or the folder or repository lacks a file.
            ModelUnavailableError: If the hub does not answer within a few seconds and nothing is cached.
            ModelInvalidError: If the weights are not those of SAM 2.
        """
        check_device(device, precision)
        path = Path(source)
        if path.is_file():
            weights, model = path, load_meta_file(path)
        else:
            folder = path if path.is_dir() else _fetch_from_hub(source, revision=revision)
            weights, model = folder / WEIGHTS_FILE, load_folder(folder)
        return cls(
            model,
            name=f"{path.name if path.exists() else source} ({precision}, {device})",
            weights_id=f"sam2-torch:{file_sha256(weights)[:16]}",
            device=device,
            precision=precision,
            compiled=compiled,
        )


def _fetch_from_hub(repository: str, *, revision: str | None) -> Path:
    """Return the folder of a hub repository in the hub's own cache, downloading what it lacks."""
    if repository.startswith((".", "/", "~")) or repository.endswith(_FILE_SUFFIXES):
        raise ModelMissingError(f"there is no folder or file {repository}")
    try:
        commit = _hub_commit(repository, revision=revision)
        files = [
            hf_hub_download(
                repository,
                name,
                revision=commit or revision,
                local_files_only=commit is None,
                etag_timeout=_HUB_TIMEOUT_S,
            )
            for name in (CONFIG_FILE, WEIGHTS_FILE)
        ]
    except HFValidationError as error:
        raise ModelMissingError(
            f"{repository} is neither an existing path nor a name of the form OWNER/NAME"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelUnavailableError(
            f"the model hub did not answer within {_HUB_TIMEOUT_S:.0f} s, and {repository} is not cached; "
            + _WAYS_OUT
        ) from error
    except RevisionNotFoundError as error:
        raise ModelMissingError(f"the hub has no revision {revision} of {repository}") from error
    except RepositoryNotFoundError as error:
        raise ModelMissingError(f"the hub has no public model {repository}; {_WAYS_OUT}") from error
    except EntryNotFoundError as error:
        raise ModelInvalidError(
            f"{repository} lacks {CONFIG_FILE} or {WEIGHTS_FILE}: it is no SAM 2 model for transformers"
        ) from error
    except (httpx.TransportError, HfHubHTTPError) as error:
        raise ModelUnavailableError(
            f"the hub failed to send {repository} ({type(error).__name__}); try again, or {_WAYS_OUT}"
        ) from error
    return Path(files[0]).parent


def _hub_commit(repository: str, *, revision: str | None) -> str | None:
    """Return the commit of a revision, or None when the hub does not answer.

    Asked once with a short time limit: ``hf_hub_download`` tries six times and takes over a minute to give
    up on a network that swallows packets.
    """
    try:
        return HfApi().model_info(repository, revision=revision, timeout=_HUB_TIMEOUT_S).sha
    except (httpx.TransportError, OfflineModeIsEnabled):
        return None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except HfHubHTTPError:
        return None  # the hub is up but in trouble: the cache may still have it
