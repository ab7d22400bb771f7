"""SAM 2 and 2.1 with torch: the image encoder of ``transformers``' ``Sam2Model``, and our decoder."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
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
from transformers import Sam2Model
from transformers.models.sam2.configuration_sam2 import Sam2MaskDecoderConfig

from segdex.core.errors import ModelInvalidError, ModelMissingError, ModelUnavailableError
from segdex.core.geometry import BoxXYXY
from segdex.core.models.devices import ModelPrecision, check_device
from segdex.core.models.npm import file_sha256
from segdex.core.models.sam2_checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_folder, load_meta_file
from segdex.core.models.sam2_decoder import DecoderImage, Sam2Decoder
from segdex.core.models.sam2_preprocess import preprocess
from segdex.core.protocols import DecodedMasks, ImageFeatures, Prompts
from segdex.core.records import RGBImage

_ADAPTER_VERSION = 2
_HUB_TIMEOUT_S = 5.0
_FILE_SUFFIXES = (".pt", ".pth", ".safetensors")
_AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_WAYS_OUT = "use --profile offline, or give the path of a folder or checkpoint file"


@dataclass(frozen=True, slots=True, eq=False)
class _TorchFeatures:
    size_hw: tuple[int, int]
    made_by: str
    image: DecoderImage


class TransformersSam2:
    """SAM 2 on a CPU or a CUDA device.

    ``Sam2Processor`` and the mask-generation pipeline of transformers are not used: they resize bytes instead
    of floats, and scale points by the longer side instead of each axis by its own factor.
    """

    def __init__(
        self, model: Sam2Model, *, name: str, weights_sha256: str, device: str, precision: ModelPrecision
    ) -> None:
        model.to(device)  # type: ignore[arg-type] # its decorator loses the argument in the stubs
        self._model = model
        self._device = device
        self._precision = precision
        self._name = name
        self._fingerprint = f"sam2-torch:{weights_sha256}:{precision}:v{_ADAPTER_VERSION}"
        self._decoder = Sam2Decoder(
            model.state_dict(),
            device=device,
            heads=_decoder_heads(model),
            dtype=_AUTOCAST_TYPES.get(precision, torch.float32),
        )

    @classmethod
    def load(
        cls,
        source: str,
        *,
        device: str = "cpu",
        precision: ModelPrecision = "fp32",
        revision: str | None = None,
    ) -> "TransformersSam2":
        """Return the model of a hub repository, a folder, or one of Meta's checkpoint files.

        Args:
            source: ``facebook/sam2.1-hiera-tiny``, a folder with ``config.json`` and ``model.safetensors``,
                or a ``.pt`` file as Meta publishes it.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            precision: ``fp32``, or ``bf16`` and ``fp16`` on CUDA.
            revision: Commit, tag or branch of the hub repository; None for its main branch.

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
            weights_sha256=file_sha256(weights)[:16],
            device=device,
            precision=precision,
        )

    @property
    def name(self) -> str:
        """Short name of model and source, for people."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """The sha256 of the weights (16 digits), precision and adapter version; not the device."""
        return self._fingerprint

    @property
    def decoder_id(self) -> str:
        """The sha256 of the learned mask tokens (16 digits)."""
        return self._decoder.decoder_id

    def prompts_per_batch(self, features: ImageFeatures) -> int:
        """Return how many prompts to decode in one call: on a CPU more do not fit into its caches."""
        whole = 2 if torch.device(self._device).type == "cpu" else 128
        return self._own(features).image.prompts_per_batch(whole)

    def encode(self, images: Sequence[RGBImage]) -> list[ImageFeatures]:
        """Return the features of each picture, all in one pass; about 26 MiB each in fp32."""
        if not images:
            return []
        with torch.inference_mode():
            pixels = torch.cat([preprocess(image, device=self._device) for image in images])
            with self._autocast():
                *high_res, image_embed = self._model.get_image_embeddings(pixels)
        return [
            _TorchFeatures(
                size_hw=(image.shape[0], image.shape[1]),
                made_by=self._fingerprint,
                image=self._decoder.prepare(image_embed[i], *(level[i] for level in high_res)),
            )
            for i, image in enumerate(images)
        ]

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        """Return the masks for a batch of prompts.

        Without ``multimask`` the single-mask token answers, or the best of the three where its mask is not
        stable (Meta's ``dynamic_multimask_via_stability``).

        Raises:
            ValueError: If ``features`` come from another segmenter, or a prompt has no point.
        """
        own = self._own(features)
        return self._decoder.decode(own.image, prompts, own.size_hw, multimask=multimask)

    def narrow(self, features: ImageFeatures, box: BoxXYXY) -> ImageFeatures:
        """Return the features of a part of the picture, in whole cells of 4x4 low-resolution pixels."""
        own = self._own(features)
        return replace(own, image=own.image.narrow(box))

    def _own(self, features: ImageFeatures) -> _TorchFeatures:
        if not isinstance(features, _TorchFeatures) or features.made_by != self._fingerprint:
            raise ValueError("the features come from another segmenter: encode the picture with this one")
        return features

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self._precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast("cuda", dtype=_AUTOCAST_TYPES[self._precision])


def _decoder_heads(model: Sam2Model) -> int:
    config = model.config.mask_decoder_config
    if not isinstance(config, Sam2MaskDecoderConfig):
        raise TypeError("the configuration of a SAM 2 model has one of its mask decoder")
    return config.num_attention_heads


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
