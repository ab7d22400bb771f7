"""Device and precision of torch models. Torch is imported only when it is needed."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from segdex_core.choices import Device
from segdex_core.errors import UsageError
from segdex_core.settings import ModelPrecision

if TYPE_CHECKING:
    import torch


def torch_type(precision: ModelPrecision) -> "torch.dtype":
    """Return the torch dtype of a precision."""
    import torch

    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return types[precision]


def resolve_device(asked: Device) -> str:
    """Return ``cpu`` or ``cuda``.

    Args:
        asked: Requested device; ``auto`` uses CUDA if it is available.

    Raises:
        UsageError: If CUDA is requested but not available.
    """
    if asked == "cpu":
        return "cpu"
    import torch

    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    return "cuda" if available else "cpu"


def fastest_precision(device: str, *, cpu: Mapping[str, object] | None = None) -> ModelPrecision:
    """Return bf16 for CUDA and for a CPU with bf16 matrix units, and fp32 for any other CPU.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        cpu: Capabilities of the CPU; None for those that torch reports.
    """
    if device.startswith("cuda"):
        return "bf16"
    if cpu is None:
        import torch

        cpu = torch.cpu.get_capabilities()
    return "bf16" if cpu.get("amx_bf16") else "fp32"


def check_device(device: str, precision: ModelPrecision = "fp32") -> None:
    """Check that a device exists and supports a precision.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``bf16``, or ``fp16`` on CUDA.

    Raises:
        UsageError: If the device does not exist or does not support the precision.
    """
    named = re.fullmatch(r"cpu|cuda(?::(0|[1-9]\d*))?", device, re.ASCII)
    if named is None:
        raise UsageError(f"--device {device!r} is not a device; allowed: cpu, cuda, cuda:N")
    if device != "cpu":
        import torch

        if int(named[1] or 0) >= torch.cuda.device_count():
            raise UsageError(
                f"--device {device} is not there: torch sees {torch.cuda.device_count()} CUDA devices; "
                "use --device cpu"
            )
    if precision not in get_args(ModelPrecision):
        raise UsageError(f"SEGDEX_PRECISION must be fp32, bf16 or fp16, but is {precision}")
    if precision == "fp16" and device == "cpu":
        raise UsageError(f"SEGDEX_PRECISION={precision} needs --device cuda; on {device} use bf16 or fp32")
