"""Loads SAM 2's weights from the two files of an ONNX export into our encoder and decoder."""

from pathlib import Path

from segdex_backends.models.checksums import known_sha256
from segdex_backends.models.devices import check_device
from segdex_backends.models.sam2.checkpoint import load_meta_state
from segdex_backends.models.sam2.onnx_weights import read_decoder_weights, read_encoder_weights
from segdex_backends.models.sam2.segmenter import TorchSam2
from segdex_core.errors import ModelInvalidError, ModelMissingError
from segdex_core.settings import ModelPrecision


def load_onnx_weights(
    encoder_path: Path,
    decoder_path: Path,
    *,
    device: str = "cpu",
    precision: ModelPrecision = "fp32",
    compiled: bool = False,
    cache_dir: Path | None = None,
) -> TorchSam2:
    """Load the model from an encoder in ORT or ONNX format and its decoder.

    Args:
        encoder_path: File of the image encoder, exported for 1024x1024 images.
        decoder_path: ONNX file of the prompt encoder and mask decoder.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``bf16``, or ``fp16`` on CUDA.
        compiled: See ``TorchSam2``.
        cache_dir: segdex's cache folder, where checksums are kept; None for the user's.

    Raises:
        UsageError: If the device does not exist or does not support the precision.
        ModelMissingError: If a file does not exist.
        ModelInvalidError: If a file is not part of a SAM 2 export.
    """
    check_device(device, precision)
    for path in (encoder_path, decoder_path):
        if not path.is_file():
            raise ModelMissingError(f"there is no model file {path}; fetch it with: segdex models pull")
    encoder = read_encoder_weights(encoder_path)
    if not encoder:
        raise ModelInvalidError(f"{encoder_path} is not the encoder of a SAM 2 export")
    decoder = read_decoder_weights(decoder_path)
    if not decoder:
        raise ModelInvalidError(f"{decoder_path} is not the decoder of a SAM 2 export")
    model = load_meta_state({**encoder, **decoder}, where=encoder_path.parent)
    sha256 = "-".join(known_sha256(path, cache_dir=cache_dir)[:16] for path in (encoder_path, decoder_path))
    return TorchSam2(
        model,
        name=f"SAM 2 hiera-tiny (ONNX, {precision}, {device})",
        weights_id=f"sam2-onnx:{sha256}",
        device=device,
        precision=precision,
        compiled=compiled,
    )
