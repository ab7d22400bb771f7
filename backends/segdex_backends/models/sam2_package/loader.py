"""Which of Meta's checkpoints ``--segmenter sam2:NAME`` means, and the model of its configuration."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from segdex_backends.models.checksums import known_sha256
from segdex_backends.models.devices import check_device
from segdex_backends.models.finite import check_finite
from segdex_backends.models.hub import HUB, Hub, fetch_hub_file
from segdex_backends.models.reading import one_line
from segdex_backends.models.sam2.checkpoint import State, meta_size, read_meta_state
from segdex_backends.models.sam2_package.segmenter import PackageSam2
from segdex_core.errors import ModelInvalidError, ModelMissingError
from segdex_core.settings import ModelPrecision

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_SUFFIXES = (".pt", ".pth", ".safetensors")
_INSTALL = "pip install 'segdex[sam2]'"

_CONFIG_BY_SIZE = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}
"""Sizes in the names of the files in sam2/configs, such as ``sam2.1/sam2.1_hiera_t.yaml``."""

_ONLY_21 = "no_obj_embed_spatial"
"""A weight that SAM 2.1 has and SAM 2 has not (sam2/modeling/sam2_base.py)."""

_hydra_lock = Lock()


def load_sam2_package(
    source: str,
    *,
    device: str = "cpu",
    precision: ModelPrecision = "fp32",
    hub: Hub = HUB,
) -> PackageSam2:
    """Return Meta's model of one of its checkpoints, as ``build_sam2`` of its package makes it.

    Args:
        source: ``sam2.1_hiera_tiny`` or another checkpoint by name, which is fetched from the repository that
            the package names; or the path of a checkpoint. The configuration is inferred from the weights.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, or what Meta's code is cast to while it runs: ``bf16``, or ``fp16`` on CUDA.
        hub: Where a checkpoint is looked for, and where checksums are kept.

    Raises:
        UsageError: If the device is not there, or cannot compute in that precision.
        ModelMissingError: If the package is not installed or its installation is broken, or there is no such
            file or name.
        ModelUnavailableError: If the hub does not give the checkpoint.
        ModelInvalidError: If the file is no complete checkpoint of SAM 2 or 2.1.
    """
    check_device(device, precision)
    _check_package()
    path = Path(source)
    if not path.is_file():
        if path.suffix in _SUFFIXES:
            raise ModelMissingError(f"there is no checkpoint file {path}")
        path = _fetch(source, hub=hub)
    state = read_meta_state(path)
    model = _build(_infer_config(state, where=path))
    _load(model, state, where=path)
    return PackageSam2(
        model.to(device),
        name=f"Meta's sam2 {path.stem} ({precision}, {device})",
        weights_id=f"sam2-package:{known_sha256(path, cache_dir=hub.records_dir)[:16]}",
        device=device,
        precision=precision,
    )


def _check_package() -> None:
    """Import the package.

    Raises:
        ModelMissingError: If it is not installed, or its import fails in any way.
    """
    if find_spec("sam2") is None:
        raise ModelMissingError(f"Meta's package sam2 is not installed: {_INSTALL}")
    try:
        import_module("sam2.build_sam")
    except Exception as error:
        raise _broken(error) from error


def _broken(error: Exception) -> ModelMissingError:
    return ModelMissingError(
        f"Meta's package sam2 is installed, but does not work ({one_line(error)}); "
        f"install it with what it needs: {_INSTALL}"
    )


def _fetch(name: str, *, hub: Hub) -> Path:
    """Return the checkpoint of a name that the package knows."""
    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES

    known = {
        Path(checkpoint).stem: (repository, checkpoint)
        for repository, (_, checkpoint) in HF_MODEL_ID_TO_FILENAMES.items()
    }
    wanted = name.rpartition("/")[2].replace("-", "_")  # facebook/sam2.1-hiera-tiny is a name too
    if wanted not in known:
        raise ModelMissingError(
            f"there is neither a file nor a checkpoint of SAM 2 named {name}; sam2: takes the path of a "
            f"checkpoint, or one of {', '.join(known)}"
        )
    repository, checkpoint = known[wanted]
    return fetch_hub_file(repository, (checkpoint,), wanted=f"sam2:{wanted}", hub=hub)


def _infer_config(state: State, *, where: Path) -> str:
    """Return the file of the package's configuration whose version and size the weights have."""
    version = "sam2.1" if _ONLY_21 in state else "sam2"
    return f"configs/{version}/{version}_hiera_{_CONFIG_BY_SIZE[meta_size(state, where=where)]}.yaml"


def _build(config: str) -> "SAM2Base":
    """Return the model of a configuration, with random weights, in evaluation mode.

    ``build_sam2`` reads its files through Hydra, which has one state for the whole process: what another
    library left there is put back. Hydra also imports the modules that the configuration names.

    Raises:
        ModelMissingError: If the installation of the package is broken.
    """
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from sam2.build_sam import build_sam2

    with _hydra_lock:
        before = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            with initialize_config_module("sam2", version_base="1.2"):
                model: SAM2Base = build_sam2(config, device="cpu")
        except Exception as error:
            raise _broken(error) from error
        finally:
            GlobalHydra.instance().clear()
            if before is not None:
                GlobalHydra.instance().initialize(before)
    return model


def _load(model: "SAM2Base", state: State, *, where: Path) -> None:
    """Load exactly these weights; the package's own loader raises an error without a message."""
    expected: dict[str, Any] = model.state_dict()
    missing, others = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or others:
        what = f"lacks {len(missing)} weights" if missing else f"has {len(others)} other weights"
        raise ModelInvalidError(
            f"{where} is no complete checkpoint of SAM 2: it {what}, the first is "
            f"{(missing or others)[0]}; Meta's package takes its own checkpoints, with the weights for video"
        )
    try:
        model.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelInvalidError(f"{where} does not fit that configuration of SAM 2: {reason}") from error
    check_finite(model.state_dict(), where=where)
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=False)
