"""The weights inside an ONNX export of SAM 2's prompt encoder and mask decoder."""

from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from segdex.core.errors import ModelInvalidError
from segdex.core.models.sam2_checkpoint import rename_meta_state

# ``torch.onnx.export`` gives these constants names of its own; their shapes are unique in the graph.
_NORMS_BY_WIDTH = {
    4: "prompt_encoder.mask_downscaling.1",
    16: "prompt_encoder.mask_downscaling.4",
    64: "mask_decoder.output_upscaling.1",
}
_NO_MASK_SHAPE = (1, 256, 1, 1)
_TOKENS_SHAPE = (1, 6, 256)


def read_decoder_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights ``prompt_encoder.*`` and ``mask_decoder.*`` under transformers' names.

    Args:
        path: An ONNX file exported from Meta's ``SAM2Base`` with ``torch.onnx.export``.

    Raises:
        ModelInvalidError: If it is no ONNX file. That a weight is missing is for the reader of the weights
            to say.
    """
    try:
        graph = onnx.load(path).graph
    except (DecodeError, ValueError) as error:
        raise ModelInvalidError(f"{path} cannot be read as an ONNX model: {error}") from error
    constants = {
        each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer
    }
    found = dict(_under_meta_names(graph, constants))
    return rename_meta_state({f"sam_{name}": value for name, value in found.items()})


def _under_meta_names(
    graph: onnx.GraphProto, constants: dict[str, torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights with the names that they have in Meta's checkpoints."""
    for name, value in constants.items():
        if not name.startswith("onnx::"):
            yield name, value
        elif tuple(value.shape) == _NO_MASK_SHAPE:
            yield "prompt_encoder.no_mask_embed.weight", value.reshape(1, -1)
        elif tuple(value.shape) == _TOKENS_SHAPE:
            yield "mask_decoder.obj_score_token.weight", value[0, :1]
            yield "mask_decoder.iou_token.weight", value[0, 1:2]
            yield "mask_decoder.mask_tokens.weight", value[0, 2:]
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        named = {name for name in node.input if name in constants}
        if node.op_type == "Add" and len(named) == 1:
            [bias] = named
            other = makers.get(next(name for name in node.input if name != bias))
            weight = _constant_factor(other, constants)
            if weight is None:
                continue
            width = constants[bias].shape[0]
            if other is not None and other.op_type == "MatMul" and bias.endswith(".bias"):
                yield bias.removesuffix("bias") + "weight", weight.T.contiguous()
            elif constants[bias].shape == (width, 1, 1) and width in _NORMS_BY_WIDTH:
                yield f"{_NORMS_BY_WIDTH[width]}.weight", weight.flatten()
                yield f"{_NORMS_BY_WIDTH[width]}.bias", constants[bias].flatten()


def _constant_factor(node: onnx.NodeProto | None, constants: dict[str, torch.Tensor]) -> torch.Tensor | None:
    """Return the constant that a node multiplies with, if it does."""
    if node is None or node.op_type not in ("MatMul", "Mul"):
        return None
    factors = [constants[name] for name in node.input if name in constants]
    return factors[0] if len(factors) == 1 else None
