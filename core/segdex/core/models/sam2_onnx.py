"""SAM 2 from two ONNX files: the encoder runs in onnxruntime on the CPU, the decoder's weights in ours."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from segdex.core.errors import ModelInvalidError, ModelMissingError
from segdex.core.geometry import BoxXYXY
from segdex.core.models.npm import file_sha256
from segdex.core.models.sam2_decoder import DecoderImage, Sam2Decoder
from segdex.core.models.sam2_onnx_int8 import INT8_VERSION, quantized_encoder
from segdex.core.models.sam2_onnx_weights import read_decoder_weights
from segdex.core.models.sam2_preprocess import preprocess
from segdex.core.protocols import DecodedMasks, ImageFeatures, Prompts
from segdex.core.records import RGBImage

_ADAPTER_VERSION = 2
_FEATURES = ("image_embed", "high_res_feats_0", "high_res_feats_1")
_ENCODER_INPUTS = {"image"}


@dataclass(frozen=True, slots=True, eq=False)
class _OnnxFeatures:
    size_hw: tuple[int, int]
    made_by: str
    image: DecoderImage


class OnnxSam2:
    """SAM 2 exported to ONNX."""

    def __init__(
        self,
        encoder: onnxruntime.InferenceSession,
        decoder: Sam2Decoder,
        *,
        weights_sha256: str,
        precision: str,
    ) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._fingerprint = f"sam2-onnx:{weights_sha256}:{precision}:v{_ADAPTER_VERSION}"

    @classmethod
    def load(
        cls, encoder_path: Path, decoder_path: Path, *, int8: bool = False, threads: int | None = None
    ) -> "OnnxSam2":
        """Return the model of an encoder in ORT or ONNX format and its decoder.

        Args:
            encoder_path: Input ``image`` (1, 3, 1024, 1024); outputs ``image_embed``, ``high_res_feats_0/1``.
            decoder_path: The prompt encoder and mask decoder; only the weights are read.
            int8: Quantize the encoder, once, into a file beside it.
            threads: CPU threads for one operation; None for all cores.

        Raises:
            ModelMissingError: If a file is absent.
            ModelInvalidError: If a file is not such a model.
            OSError: If the quantized encoder cannot be written.
        """
        for path in (encoder_path, decoder_path):
            _check_present(path)
        session = _open_encoder(encoder_path, threads=threads)
        if int8:
            session = _open_encoder(quantized_encoder(encoder_path), threads=threads)
        try:
            decoder = Sam2Decoder(read_decoder_weights(decoder_path), device="cpu")
        except KeyError as error:
            raise ModelInvalidError(f"{decoder_path} lacks the weight {error} of SAM 2's decoder") from error
        sha256 = "-".join(file_sha256(path)[:16] for path in (encoder_path, decoder_path))
        precision = f"int8-v{INT8_VERSION}" if int8 else "fp32"
        return cls(session, decoder, weights_sha256=sha256, precision=precision)

    @property
    def name(self) -> str:
        """Short name of model and source, for people."""
        return "SAM 2 hiera-tiny (ONNX)"

    @property
    def fingerprint(self) -> str:
        """The sha256 of both files (16 digits each), precision and adapter version."""
        return self._fingerprint

    @property
    def decoder_id(self) -> str:
        """The sha256 of the learned mask tokens (16 digits)."""
        return self._decoder.decoder_id

    def prompts_per_batch(self, features: ImageFeatures) -> int:
        """Return how many prompts to decode in one call: more do not fit into the caches of a CPU."""
        return self._own(features).image.prompts_per_batch(2)

    def encode(self, images: Sequence[RGBImage]) -> list[ImageFeatures]:
        """Return the features of each picture; about 26 MiB each."""
        return [self._encode(image) for image in images]

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        """Return the masks for a batch of prompts, as ``TransformersSam2`` does.

        Raises:
            ValueError: If ``features`` come from another segmenter, or a prompt has no point.
        """
        own = self._own(features)
        return self._decoder.decode(own.image, prompts, own.size_hw, multimask=multimask)

    def narrow(self, features: ImageFeatures, box: BoxXYXY) -> ImageFeatures:
        """Return the features of a part of the picture, in whole cells of 4x4 low-resolution pixels."""
        own = self._own(features)
        return replace(own, image=own.image.narrow(box))

    def _own(self, features: ImageFeatures) -> _OnnxFeatures:
        if not isinstance(features, _OnnxFeatures) or features.made_by != self._fingerprint:
            raise ValueError("the features come from another segmenter: encode the picture with this one")
        return features

    def _encode(self, image: RGBImage) -> _OnnxFeatures:
        outputs = self._encoder.run(list(_FEATURES), {"image": preprocess(image).numpy()})
        height, width = image.shape[:2]
        return _OnnxFeatures(
            size_hw=(height, width),
            made_by=self._fingerprint,
            image=self._decoder.prepare(*(torch.from_numpy(output[0]) for output in outputs)),
        )


def _check_present(path: Path) -> None:
    if not path.is_file():
        raise ModelMissingError(f"there is no model file {path}; fetch it with: segdex models pull")


def _open_encoder(path: Path, *, threads: int | None) -> onnxruntime.InferenceSession:
    """Open the encoder and check the names of its inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # Without its arena the encoder is as fast and keeps 1.1 GB less.
    options.enable_cpu_mem_arena = False
    # Idle threads that spin would take the cores from the decoder, which runs in torch.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: warnings about folded initialisers are no news to a user
    if path.suffix == ".ort":
        options.add_session_config_entry("session.load_model_format", "ORT")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (
        ort_errors.Fail,
        ort_errors.InvalidArgument,
        ort_errors.InvalidGraph,
        ort_errors.InvalidProtobuf,
        ort_errors.NotImplemented,
        ort_errors.RuntimeException,
    ) as error:
        first_line = (str(error).splitlines() or ["unknown reason"])[0]
        raise ModelInvalidError(f"{path} cannot be read as an ONNX model: {first_line}") from error
    found = {node.name for node in session.get_inputs()}
    if found != _ENCODER_INPUTS:
        raise ModelInvalidError(
            f"{path} is not the encoder of a SAM 2 export: its inputs are {sorted(found)}, "
            f"but {sorted(_ENCODER_INPUTS)} are expected"
        )
    return session
