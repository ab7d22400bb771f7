"""Loading a model of open_clip without a copy of its text side, which is three quarters of SigLIP 2.

SigLIP 2 has a vector of 768 numbers for each of 256,000 tokens: 750 MiB of the 1.4 GiB of its B/32. An ingest
never reads it, and a text reads some rows. open_clip would fill it with random numbers and then copy the file
over them. Here the weights stay in the file, mapped into memory, and the system reads what is asked for: on a
CPU in float32 all of them, else those of the precision and device that the model has anyway.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from segdex_core.settings import ModelPrecision

LARGE_TABLE_BYTES = 256 << 20
"""Tables of CLIP models, 49,408 tokens of 512 to 1,280 numbers, are smaller: they are loaded by open_clip."""

_TABLE = "text.token_embedding.weight"

Preprocess = Callable[[Image.Image], torch.Tensor]


def load_weights(
    model_name: str,
    checkpoint: Path,
    *,
    precision: ModelPrecision,
    device: str,
    large_table_bytes: int = LARGE_TABLE_BYTES,
    **options: Any,
) -> tuple[torch.nn.Module, Preprocess]:
    """Return a model of open_clip with the weights of a file, and its preprocessing.

    Args:
        model_name: One of ``open_clip.list_models()``.
        checkpoint: The file.
        precision: Of the weights.
        device: Where the model runs.
        large_table_bytes: A word table of at least this size, in float32, stays in the file.
        options: Of ``open_clip.create_model_and_transforms``.

    Raises:
        Exception: Any of ``reading.UNREADABLE`` if the file does not fit.
    """
    text = open_clip.get_model_config(model_name)["text_cfg"]
    size = 4 * text.get("vocab_size", 0) * text.get("width", 0)

    def create(**more: Any) -> tuple[torch.nn.Module, Preprocess]:
        model, _, preprocess = open_clip.create_model_and_transforms(
            model_name, pretrained=str(checkpoint), precision=precision, device=device, **options, **more
        )
        return model, preprocess

    if size < large_table_bytes or not _has_table(checkpoint):
        return create()
    with _without_warning_of_random_weights():
        model, preprocess = create(load_weights=False, text_cfg={**text, "vocab_size": 1})
    made, state = model.state_dict(), load_file(checkpoint)
    if state[_TABLE].shape != (text["vocab_size"], text["width"]):
        raise ValueError(f"{_TABLE} has shape {tuple(state[_TABLE].shape)}")
    fitting = {name: value.to(made[name]) if name in made else value for name, value in state.items()}
    table = torch.nn.Parameter(fitting[_TABLE], requires_grad=False)
    model.load_state_dict({**fitting, _TABLE: made[_TABLE]}, strict=True, assign=True)
    model.get_submodule(_TABLE.rpartition(".")[0]).register_parameter("weight", table)
    return model, preprocess


def _has_table(checkpoint: Path) -> bool:
    """Return whether a file holds open_clip's own names, and not those of another library."""
    if checkpoint.suffix != ".safetensors":
        return False
    with safe_open(checkpoint, framework="pt") as file:
        return _TABLE in file.keys()  # noqa: SIM118 - it is no mapping


@contextmanager
def _without_warning_of_random_weights() -> Iterator[None]:
    """Leave out what open_clip would log of a model that gets its weights a moment later."""

    def is_other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("No pretrained weights loaded")

    root = logging.getLogger()
    root.addFilter(is_other)
    try:
        yield
    finally:
        root.removeFilter(is_other)
