"""The image encoder of SAM 2 in 8-bit integers: weights for good, activations as they come."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime
from filelock import FileLock
from onnxruntime.quantization import QuantType, quantize_dynamic

INT8_VERSION = 1  # raised whenever the same file becomes another


def quantized_encoder(path: Path) -> Path:
    """Return the quantized form of an encoder, beside it; made once, in seconds.

    The matrix products are quantized, each column of a weight by its own factor; convolutions, norms and
    attention stay in float32.

    Args:
        path: In ORT or ONNX format; its folder must be writable.

    Raises:
        OSError: If the folder cannot be written to.
    """
    target = path.with_name(f"{path.name}.int8-v{INT8_VERSION}.onnx")
    with FileLock(target.with_name(f"{target.name}.lock")):
        if not target.exists():
            with TemporaryDirectory(dir=path.parent) as scratch, _without_advice():
                plain, quantized = Path(scratch) / "fp32.onnx", Path(scratch) / "int8.onnx"
                _write_standard_onnx(path, plain)
                quantize_dynamic(
                    plain,
                    quantized,
                    op_types_to_quantize=["MatMul"],
                    weight_type=QuantType.QInt8,
                    per_channel=True,
                )
                quantized.replace(target)
    return target


def _write_standard_onnx(path: Path, target: Path) -> None:
    """Write the same graph as plain ONNX: the quantizer does not read ORT format."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    if path.suffix == ".ort":
        options.add_session_config_entry("session.load_model_format", "ORT")
    options.add_session_config_entry("session.save_model_format", "ONNX")
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep the quantizer from advising the user, on the root logger, to preprocess the model."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
