"""A check that a file of weights has numbers only."""

from collections.abc import Mapping
from pathlib import Path

import torch

from segdex_core.errors import ModelInvalidError


def check_finite(weights: Mapping[str, torch.Tensor], *, where: Path) -> None:
    """Check that every weight is a finite number; one that is not makes every result NaN.

    Args:
        weights: Weights by name.
        where: File of the weights, for the message.

    Raises:
        ModelInvalidError: If a weight is infinite or NaN.
    """
    for name, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelInvalidError(
                f"{where} is damaged: the weights {name} are not all finite numbers; fetch the file again"
            )
