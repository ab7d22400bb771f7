"""Loads SAM 2's weights from the Hugging Face hub, a folder in its layout, or one of Meta's files."""

from pathlib import Path

from segdex_backends.models.checksums import known_sha256
from segdex_backends.models.devices import check_device
from segdex_backends.models.hub import HUB, Hub, fetch_hub_folder
from segdex_backends.models.sam2.checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_folder, load_meta_file
from segdex_backends.models.sam2.segmenter import TorchSam2
from segdex_core.settings import ModelPrecision

_WAY_OUT = "use --profile offline, or give the path of a folder or checkpoint file"


def load_sam2_weights(
    source: str,
    *,
    device: str = "cpu",
    precision: ModelPrecision = "fp32",
    revision: str | None = None,
    compiled: bool = False,
    hub: Hub = HUB,
) -> TorchSam2:
    """Load the model from a hub repository, a folder, or one of Meta's checkpoint files.

    Only the configuration and the weight names of transformers are used. Its ``Sam2Processor`` and
    mask-generation pipeline resize bytes instead of floats, and scale points by the longer side instead of
    each axis by its own factor.

    Args:
        source: ``facebook/sam2.1-hiera-tiny``, a folder with ``config.json`` and ``model.safetensors``,
            or a ``.pt`` file as Meta publishes it.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``bf16``, or ``fp16`` on CUDA.
        revision: Commit, tag or branch of the hub repository; None for that of the first download.
        compiled: See ``TorchSam2``.
        hub: Where a repository is looked for, and where checksums are kept.

    Raises:
        UsageError: If the device does not exist or does not support the precision.
        ModelMissingError: If the path does not exist, or the folder or repository lacks a file.
        ModelUnavailableError: If the hub does not answer within a few seconds and nothing is cached.
        ModelInvalidError: If the weights are not those of SAM 2, or not those of the first download.
    """
    check_device(device, precision)
    path = Path(source)
    if path.is_file():
        weights, model = path, load_meta_file(path)
    else:
        folder = path if path.is_dir() else _fetch(source, revision=revision, hub=hub)
        weights, model = folder / WEIGHTS_FILE, load_folder(folder)
    return TorchSam2(
        model,
        name=f"{path.name if path.exists() else source} ({precision}, {device})",
        weights_id=f"sam2-torch:{known_sha256(weights, cache_dir=hub.records_dir)[:16]}",
        device=device,
        precision=precision,
        compiled=compiled,
    )


def _fetch(repository: str, *, revision: str | None, hub: Hub) -> Path:
    return fetch_hub_folder(
        repository,
        (CONFIG_FILE, WEIGHTS_FILE),
        kind="SAM 2 model for transformers",
        revision=revision,
        way_out=_WAY_OUT,
        hub=hub,
    )
