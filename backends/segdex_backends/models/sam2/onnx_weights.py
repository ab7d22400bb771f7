"""The weights of an ONNX export of SAM 2, under their names in Meta's checkpoints."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from torch.nn import functional

from segdex_core.errors import ModelInvalidError

# ``torch.onnx.export`` renames these constants; their shapes are unique in the graph.
_NORMS_BY_WIDTH = {
    4: "prompt_encoder.mask_downscaling.1",
    16: "prompt_encoder.mask_downscaling.4",
    64: "mask_decoder.output_upscaling.1",
}
_NO_MASK_SHAPE = (1, 256, 1, 1)
_TOKENS_SHAPE = (1, 6, 256)


# Encoder weights have names under ``model.``. Matrices are transposed and named after their nodes.
_NAMED = re.compile(r"^model\.((?:image_encoder|sam_mask_decoder)\..+)$")
_MATRIX = re.compile(r"^/(image_encoder/.+)/Transpose_output_0$")
_POSITIONS = "/image_encoder/trunk/Transpose_output_0"
_NO_MEMORY = "no_mem_embed"

# The exported position embedding is the sum of an interpolated 7x7 part and a tiled 8x8 window part.
_POSITION_SIDE, _POSITION_WINDOW = 7, 8

_DECODER = "mask_decoder."
_OBJECT_SCORE = "sam_mask_decoder.pred_obj_score_head.layers"


def read_encoder_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights ``image_encoder.*``, ``no_mem_embed`` and ``sam_mask_decoder.conv_s*``.

    Args:
        path: Image encoder exported from Meta's ``SAM2Base``, in ONNX or ORT format.

    Returns:
        The weights; empty for another model.

    Raises:
        ModelInvalidError: If the file cannot be read as an ONNX model.
    """
    constants = _constants(_read_graph(path))
    if _POSITIONS not in constants or _NO_MEMORY not in constants:
        return {}
    found = {"no_mem_embed": constants[_NO_MEMORY].reshape(1, 1, -1)}
    for name, value in constants.items():
        if (named := _NAMED.match(name)) is not None:
            found[named[1]] = value
        elif (matrix := _MATRIX.match(name)) is not None and name != _POSITIONS:
            found[matrix[1].replace("/", ".") + ".weight"] = value.T.contiguous()
    whole, window = _split_positions(constants[_POSITIONS])
    trunk = "image_encoder.trunk"
    return {**found, f"{trunk}.pos_embed": whole, f"{trunk}.pos_embed_window": window}


def _split_positions(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split (1, c, s, s) positions into a (1, c, 7, 7) part to interpolate and a (1, c, 8, 8) part to tile.

    The split is a least-squares solution. It is not unique: a constant can move from one part to the other,
    which does not change the sum at any size.
    """
    side = positions.shape[-1]
    unit = torch.eye(_POSITION_SIDE**2, dtype=torch.float64).view(-1, 1, _POSITION_SIDE, _POSITION_SIDE)
    interpolated = functional.interpolate(unit, size=(side, side), mode="bicubic").flatten(1)
    unit = torch.eye(_POSITION_WINDOW**2, dtype=torch.float64).view(-1, 1, _POSITION_WINDOW, _POSITION_WINDOW)
    tiled = unit.tile(1, 1, side // _POSITION_WINDOW, side // _POSITION_WINDOW).flatten(1)
    basis = torch.cat([interpolated, tiled])
    values = positions[0].double().flatten(1)
    found = torch.linalg.pinv(basis @ basis.T) @ (basis @ values.T)  # (49 + 64, c)
    whole, window = found.T.float().split((_POSITION_SIDE**2, _POSITION_WINDOW**2), dim=1)
    return (
        whole.reshape(1, -1, _POSITION_SIDE, _POSITION_SIDE),
        window.reshape(1, -1, _POSITION_WINDOW, _POSITION_WINDOW),
    )


def read_decoder_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights ``sam_prompt_encoder.*`` and ``sam_mask_decoder.*``.

    The head that scores whether an object is present is not exported. It is zero here, because still images
    do not use it.

    Args:
        path: ONNX file exported from Meta's ``SAM2Base`` with ``torch.onnx.export``.

    Returns:
        The weights; empty for another model. The caller must check for missing weights.

    Raises:
        ModelInvalidError: If the file cannot be read as an ONNX model.
    """
    graph = _read_graph(path)
    constants = _constants(graph)
    if not any(name.startswith(_DECODER) for name in constants):
        return {}
    found = {f"sam_{name}": value for name, value in _under_meta_names(graph, constants)}
    for layer, (rows, columns) in enumerate(((256, 256), (256, 256), (1, 256))):
        found[f"{_OBJECT_SCORE}.{layer}.weight"] = torch.zeros(rows, columns)
        found[f"{_OBJECT_SCORE}.{layer}.bias"] = torch.zeros(rows)
    return found


def _read_graph(path: Path) -> onnx.GraphProto:
    try:
        if path.suffix != ".ort":
            return onnx.load(path).graph
        with TemporaryDirectory() as scratch:
            return onnx.load(_as_onnx(path, Path(scratch))).graph
    except (DecodeError, ValueError, ort_errors.Fail, ort_errors.InvalidArgument) as error:
        first_line = (str(error).splitlines() or ["unknown reason"])[0]
        raise ModelInvalidError(f"{path} cannot be read as an ONNX model: {first_line}") from error


def _as_onnx(path: Path, folder: Path) -> Path:
    """Convert a model from onnxruntime's own format to ONNX, and return its path."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.load_model_format", "ORT")
    options.add_session_config_entry("session.save_model_format", "ONNX")
    target = folder / "model.onnx"
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return target


def _constants(graph: onnx.GraphProto) -> dict[str, torch.Tensor]:
    return {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}


def _under_meta_names(
    graph: onnx.GraphProto, constants: dict[str, torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights with their names in Meta's checkpoints."""
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
    """Return the constant that a node multiplies by, or None."""
    if node is None or node.op_type not in ("MatMul", "Mul"):
        return None
    factors = [constants[name] for name in node.input if name in constants]
    return factors[0] if len(factors) == 1 else None
