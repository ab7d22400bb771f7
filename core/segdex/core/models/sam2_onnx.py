"""SAM 2 from two ONNX files, encoder and prompt decoder, with onnxruntime on the CPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from segdex.core.errors import ModelInvalidError, ModelMissingError
from segdex.core.models.npm import file_sha256
from segdex.core.models.sam2_preprocess import MASKS_PER_PROMPT, FramedPrompts, frame_prompts, preprocess
from segdex.core.protocols import LOW_RES_PX, DecodedMasks, ImageFeatures, Prompts
from segdex.core.records import RGBImage

_ADAPTER_VERSION = 1
_FEATURES = ("image_embed", "high_res_feats_0", "high_res_feats_1")
_ENCODER_INPUTS = {"image"}
_DECODER_INPUTS = {*_FEATURES, "point_coords", "point_labels", "mask_input", "has_mask_input"}


@dataclass(frozen=True, slots=True, eq=False)
class _OnnxFeatures:
    size_hw: tuple[int, int]
    made_by: str
    arrays: dict[str, npt.NDArray[np.float32]]


class OnnxSam2:
    """SAM 2 exported to ONNX; it has no single-mask output.

    The exported prompt encoder adds the padding point of SAM by itself, as Meta's does, so that prompts are
    passed without any.
    """

    def __init__(
        self,
        encoder: onnxruntime.InferenceSession,
        decoder: onnxruntime.InferenceSession,
        *,
        weights_sha256: str,
    ) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._fingerprint = f"sam2-onnx:{weights_sha256}:fp32:v{_ADAPTER_VERSION}"

    @classmethod
    def load(cls, encoder_path: Path, decoder_path: Path, *, threads: int | None = None) -> "OnnxSam2":
        """Return the model of an encoder in ORT or ONNX format and its decoder.

        Args:
            encoder_path: Input ``image`` (1, 3, 1024, 1024); outputs ``image_embed``, ``high_res_feats_0/1``.
            decoder_path: The prompt encoder and mask decoder, for many prompts and three masks each.
            threads: CPU threads for one operation; None for all cores.

        Raises:
            ModelMissingError: If a file is absent.
            ModelInvalidError: If a file is not such a model.
        """
        # Without its arena the encoder is as fast and keeps 1.1 GB less (2.1 to 1.0 GB resident with both);
        # the decoder, which is called dozens of times for each picture, is 20 % slower without.
        encoder = _open_session(encoder_path, inputs=_ENCODER_INPUTS, threads=threads, arena=False)
        decoder = _open_session(decoder_path, inputs=_DECODER_INPUTS, threads=threads, arena=True)
        sha256 = "-".join(file_sha256(path)[:16] for path in (encoder_path, decoder_path))
        return cls(encoder, decoder, weights_sha256=sha256)

    @property
    def name(self) -> str:
        """Short name of model and source, for people."""
        return "SAM 2 hiera-tiny (ONNX)"

    @property
    def fingerprint(self) -> str:
        """The sha256 of both files (16 digits each), precision and adapter version."""
        return self._fingerprint

    @property
    def prompts_per_batch(self) -> int:
        """How many prompts to decode in one call.

        Each takes about 90 MiB while it is decoded, and more than 16 gain nothing.
        """
        return 8

    def encode(self, images: Sequence[RGBImage]) -> list[ImageFeatures]:
        """Return the features of each picture; about 24 MiB each."""
        return [self._encode(image) for image in images]

    def decode(self, features: ImageFeatures, prompts: Prompts, *, multimask: bool = True) -> DecodedMasks:
        """Return three masks for each prompt.

        Raises:
            ValueError: If ``features`` come from another segmenter, ``multimask`` is False (this export has
                no single-mask output), or a prompt has no point.
        """
        if not isinstance(features, _OnnxFeatures) or features.made_by != self._fingerprint:
            raise ValueError("the features come from another segmenter: encode the picture with this one")
        if not multimask:
            raise ValueError("this ONNX export of SAM 2 has no single-mask output: use multimask=True")
        n = len(prompts)
        logits = np.empty((n, MASKS_PER_PROMPT, LOW_RES_PX, LOW_RES_PX), np.float32)
        predicted_iou = np.empty((n, MASKS_PER_PROMPT), np.float32)
        for group in frame_prompts(prompts, features.size_hw):
            logits[group.rows], predicted_iou[group.rows] = self._decode(features, group)
        return DecodedMasks(logits=logits, predicted_iou=predicted_iou)

    def _encode(self, image: RGBImage) -> _OnnxFeatures:
        outputs = self._encoder.run(list(_FEATURES), {"image": preprocess(image).numpy()})
        height, width = image.shape[:2]
        return _OnnxFeatures(
            size_hw=(height, width),
            made_by=self._fingerprint,
            arrays=dict(zip(_FEATURES, outputs, strict=True)),
        )

    def _decode(
        self, features: _OnnxFeatures, group: FramedPrompts
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        masks = group.mask_logits
        if masks is None:
            masks = np.zeros((len(group.rows), LOW_RES_PX, LOW_RES_PX), np.float32)
        logits, predicted_iou = self._decoder.run(
            ["masks", "iou_predictions"],
            {
                **features.arrays,
                "point_coords": group.points_xy,
                "point_labels": group.labels.astype(np.float32),
                "mask_input": masks[:, None],
                "has_mask_input": np.array([group.mask_logits is not None], np.float32),
            },
        )
        return logits, predicted_iou


def _open_session(
    path: Path, *, inputs: set[str], threads: int | None, arena: bool
) -> onnxruntime.InferenceSession:
    """Open one model file and check the names of its inputs."""
    if not path.is_file():
        raise ModelMissingError(f"there is no model file {path}; fetch it with: segdex models pull")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.enable_cpu_mem_arena = arena
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
    if found != inputs:
        raise ModelInvalidError(
            f"{path} is not that part of a SAM 2 export: its inputs are {sorted(found)}, "
            f"but {sorted(inputs)} are expected"
        )
    return session
