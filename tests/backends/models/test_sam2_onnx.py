"""SAM 2 of an ONNX export: parity with onnxruntime and with the torch weights, and what is refused."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from tests.needs import package, photo

from segdex_backends.models.sam2.checkpoint import load_folder, rename_meta_state
from segdex_backends.models.sam2.onnx_loader import load_onnx_weights
from segdex_backends.models.sam2.onnx_weights import read_decoder_weights, read_encoder_weights
from segdex_backends.models.sam2.preprocess import frame_prompts, preprocess
from segdex_core.errors import ModelInvalidError, ModelMissingError
from segdex_core.ports.prompts import Prompts


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_preprocessing_is_bit_equal_with_metas_transforms() -> None:
    package("sam2", "reference")
    from sam2.utils.transforms import SAM2Transforms

    with Image.open(photo("chelsea.png")) as opened:
        image = np.array(opened.convert("RGB"))

    expected = SAM2Transforms(resolution=1024, mask_threshold=0)(image)

    np.testing.assert_array_equal(preprocess(image)[0].numpy(), expected.numpy())


def test_prompts_are_grouped_by_length_without_padding_and_each_axis_is_scaled_by_its_own_factor() -> None:
    points = np.array([[[10, 10], [0, 0]], [[50, 20], [100, 40]], [[0, 0], [20, 30]]], np.float32)
    labels = np.array([[1, -1], [2, 3], [-1, 0]])

    short, long = frame_prompts(Prompts(points, labels), (64, 128))

    assert short.rows.tolist() == [0, 2]
    assert short.points_xy.tolist() == [[[0.078125, 0.15625]], [[0.15625, 0.46875]]]
    assert short.labels.tolist() == [[1], [0]]
    assert long.rows.tolist() == [1]
    assert long.points_xy.tolist() == [[[0.390625, 0.3125], [0.78125, 0.625]]]
    assert long.labels.tolist() == [[2, 3]]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match=r"encoder\.ort.*models pull"):
        load_onnx_weights(tmp_path / "encoder.ort", tmp_path / "decoder.onnx")


@pytest.mark.parametrize("content", [b"not a model" * 100, b"one line\nand another\n", b"", b"\x00" * 64])
@pytest.mark.parametrize("name", ["encoder.ort", "encoder.onnx"])
def test_bytes_that_are_no_model_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(ModelInvalidError, match=r"encoder\.(ort|onnx) ") as caught:
        load_onnx_weights(path, path)
    assert "\n" not in str(caught.value)


@pytest.mark.models
def test_a_decoder_without_its_weights_is_refused(tmp_path: Path) -> None:
    from tests.real_models import onnx_sam2_files

    encoder, decoder = onnx_sam2_files()
    model = onnx.load(decoder)
    lost = next(
        each
        for each in model.graph.initializer
        if each.name.endswith("final_attn_token_to_image.q_proj.bias")
    )
    model.graph.initializer.remove(lost)
    onnx.save(model, tmp_path / "decoder.onnx")

    with pytest.raises(ModelInvalidError, match=r"lacks 2 weights .*final_attn_token_to_image\.q_proj"):
        load_onnx_weights(encoder, tmp_path / "decoder.onnx")


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.parametrize("with_mask", [False, True])
def test_masks_are_those_of_the_exported_encoder_and_decoder(with_mask: bool) -> None:
    from tests.real_models import onnx_sam2, onnx_sam2_files

    with Image.open(photo("chelsea.png")) as opened:
        image = np.array(opened.convert("RGB"))
    encoder, decoder = (onnxruntime.InferenceSession(str(path)) for path in onnx_sam2_files())
    points = np.array([[[200, 150]], [[60, 40]], [[420, 280]]], np.float32)
    asked = Prompts(points, np.ones((3, 1), np.int64))
    segmenter = onnx_sam2()
    [features] = segmenter.encode([image])
    if with_mask:
        asked = Prompts(points, asked.labels, segmenter.decode(features, asked).logits[::-1, 1])
    names = ("image_embed", "high_res_feats_0", "high_res_feats_1")
    arrays = dict(zip(names, encoder.run(list(names), {"image": preprocess(image).numpy()}), strict=True))
    logits, predicted_iou = decoder.run(
        ["masks", "iou_predictions"],
        {
            **arrays,
            "point_coords": points / np.array([451, 300], np.float32) * 1024,
            "point_labels": np.ones((3, 1), np.float32),
            "mask_input": np.zeros((3, 1, 256, 256), np.float32)
            if asked.mask_logits is None
            else asked.mask_logits[:, None],
            "has_mask_input": np.array([with_mask], np.float32),
        },
    )

    ours = segmenter.decode(features, asked)

    np.testing.assert_allclose(ours.logits, logits.clip(-32, 32), atol=1e-3)
    np.testing.assert_allclose(ours.predicted_iou, predicted_iou, atol=1e-4)


@pytest.mark.models
def test_encoder_and_decoder_in_the_wrong_order_are_refused() -> None:
    from tests.real_models import onnx_sam2_files

    encoder, decoder = onnx_sam2_files()

    with pytest.raises(ModelInvalidError, match=f"{decoder} is not the encoder of a SAM 2 export"):
        load_onnx_weights(decoder, encoder)
    with pytest.raises(ModelInvalidError, match=f"{encoder} is not the decoder of a SAM 2 export"):
        load_onnx_weights(encoder, encoder)


@pytest.mark.models
def test_the_weights_are_those_of_the_torch_checkpoint() -> None:
    """All but the position embedding are bit-equal; that one is exported only as a sum, at one size."""
    from tests.real_models import onnx_sam2_files, sam2_folder

    encoder, decoder = onnx_sam2_files()
    found = rename_meta_state({**read_encoder_weights(encoder), **read_decoder_weights(decoder)})
    expected = dict(load_folder(sam2_folder()).state_dict())

    for name in list(expected):  # one matrix stored twice, and a head that is not exported
        if "pred_obj_score_head" in name or "prompt_encoder.shared_embedding" in name:
            del expected[name]
            found.pop(name, None)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if "pos_embed" not in name:
            assert torch.equal(found[name], value), name
    for cells in (256, 168, 224):
        sums = [_positions(state, cells) for state in (found, expected)]
        assert (sums[0] - sums[1]).abs().max() < 1e-4 * sums[1].abs().max(), cells


def _positions(state: Mapping[str, torch.Tensor], cells: int) -> torch.Tensor:
    whole, window = (state[f"vision_encoder.backbone.pos_embed{part}"] for part in ("", "_window"))
    placed = torch.nn.functional.interpolate(whole, size=(cells, cells), mode="bicubic")
    return placed + window.tile(1, 1, cells // window.shape[-1], cells // window.shape[-1])
