"""The torch adapter: parity with Meta's package and with ONNX, batches, and what it refuses."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.backends.models.cat_prompts import CASES, MAX_IOU_DIFFERENCE, MAX_LOGIT_DIFFERENCE, cat, prompts
from tests.backends.models.tiny_sam2 import save_tiny_sam2
from tests.needs import package
from tests.real_models import onnx_sam2, sam2_folder, torch_sam2

from segdex_backends.models.checksums import file_sha256
from segdex_backends.models.devices import check_device, fastest_precision
from segdex_backends.models.hub import Hub
from segdex_backends.models.sam2.loader import load_sam2_weights
from segdex_core.errors import ModelInvalidError, ModelMissingError, ModelUnavailableError, UsageError
from segdex_core.ports.prompts import Prompts
from segdex_core.ports.segmenter import ImageFeatures, Segmenter
from segdex_core.settings import ModelPrecision


@cache
def encoded(kind: str) -> tuple[Segmenter, ImageFeatures]:
    segmenter = onnx_sam2() if kind == "onnx" else torch_sam2()
    return segmenter, segmenter.encode([cat()])[0]


@pytest.fixture(scope="module")
def earlier_mask() -> npt.NDArray[np.float32]:
    """(1, 256, 256) logits of a first round."""
    segmenter, features = encoded("torch")
    return segmenter.decode(features, prompts("one point", None)).logits[:, 1]


@pytest.mark.models
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_onnx_and_torch_give_the_same_masks(
    case: str, with_mask: bool, earlier_mask: npt.NDArray[np.float32]
) -> None:
    asked = prompts(case, earlier_mask if with_mask else None)

    ours, onnx = (
        segmenter.decode(features, asked) for segmenter, features in map(encoded, ("torch", "onnx"))
    )

    np.testing.assert_allclose(ours.logits, onnx.logits, atol=MAX_LOGIT_DIFFERENCE)
    np.testing.assert_allclose(ours.predicted_iou, onnx.predicted_iou, atol=MAX_IOU_DIFFERENCE)


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_masks_equal_those_of_metas_predictor(earlier_mask: npt.NDArray[np.float32]) -> None:
    package("sam2", "reference")
    from sam2.sam2_image_predictor import SAM2ImagePredictor
    from tests.reference.meta_sam2 import build_meta_sam2

    predictor = SAM2ImagePredictor(build_meta_sam2(sam2_folder()))
    predictor.set_image(cat())
    segmenter, features = encoded("torch")

    for case, (points, labels) in CASES.items():
        corners = 2 if labels[0] == 2 else 0
        box = np.array(points[:corners]).reshape(-1) if corners else None
        rest = np.array(points[corners:], np.float32) if points[corners:] else None
        rest_labels = np.array(labels[corners:]) if points[corners:] else None
        for mask in (None, earlier_mask):
            for multimask in (True, False):
                _, iou, logits = predictor.predict(
                    rest, rest_labels, box=box, mask_input=mask, multimask_output=multimask
                )
                ours = segmenter.decode(features, prompts(case, mask), multimask=multimask)
                what = f"{case}, mask {mask is not None}, multimask {multimask}"
                np.testing.assert_allclose(ours.logits[0], logits, atol=MAX_LOGIT_DIFFERENCE, err_msg=what)
                np.testing.assert_allclose(ours.predicted_iou[0], iou, atol=MAX_IOU_DIFFERENCE, err_msg=what)


def test_pictures_encoded_together_decode_as_those_encoded_alone(tmp_path: Path) -> None:
    segmenter = load_sam2_weights(str(save_tiny_sam2(tmp_path)))
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((40, 70), (90, 30))]
    click = Prompts(np.array([[[20, 10]]], np.float32), np.ones((1, 1), np.int64))

    together = segmenter.encode(images)

    for image, features in zip(images, together, strict=True):
        (alone,) = segmenter.encode([image])
        np.testing.assert_allclose(
            segmenter.decode(features, click).logits, segmenter.decode(alone, click).logits, atol=1e-4
        )


def test_the_fingerprint_follows_the_weights_and_not_the_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    save_tiny_sam2(first)
    save_tiny_sam2(second)
    here, there = (load_sam2_weights(str(path)).fingerprint for path in (first, second))
    weights = bytearray((second / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (second / "model.safetensors").write_bytes(weights)

    assert here == there
    assert load_sam2_weights(str(second)).fingerprint != here


def test_fp16_needs_cuda() -> None:
    with pytest.raises(UsageError, match="fp16 needs --device cuda"):
        load_sam2_weights("anything", device="cpu", precision="fp16")


def test_a_precision_that_is_none_is_named() -> None:
    with pytest.raises(UsageError, match="must be fp32, bf16 or fp16, but is int8"):
        check_device("cpu", "int8")  # type: ignore[arg-type]


def test_bf16_on_a_cpu_pays_with_matrix_units_alone() -> None:
    for found, precision in ({"amx_bf16": True}, "bf16"), ({"amx_bf16": False}, "fp32"), ({}, "fp32"):
        assert fastest_precision("cpu", cpu=found) == precision
        assert fastest_precision("cuda", cpu=found) == "bf16"


def test_each_precision_has_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    folder = str(save_tiny_sam2(tmp_path))
    precisions: tuple[ModelPrecision, ...] = ("fp32", "bf16")
    fingerprints = [load_sam2_weights(folder, precision=each).fingerprint for each in precisions]

    assert len(set(fingerprints)) == 2


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "mps", ""])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(UsageError, match="--device"):
        load_sam2_weights("anything", device=device)


@pytest.mark.parametrize("source", ["./nothing/here", "/nothing/here", "weights.pt", "a/b/c"])
def test_a_source_that_does_not_exist_is_named(source: str) -> None:
    with pytest.raises(ModelMissingError, match=source):
        load_sam2_weights(source)


@pytest.fixture
def silent_hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub that accepts connections and never answers, and an empty cache."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        yield Hub(timeout_s=0.2, endpoint=address, cache_dir=tmp_path, records_dir=tmp_path / "segdex")


def test_a_hub_that_does_not_answer_is_one_line_with_the_ways_out(silent_hub: Hub) -> None:
    with pytest.raises(ModelUnavailableError, match=r"--profile offline.*folder") as caught:
        load_sam2_weights("facebook/sam2.1-hiera-tiny", hub=silent_hub)
    assert "\n" not in str(caught.value)


def write_snapshot(cache: Path, commit: str) -> Path:
    """Write a model into the hub's cache as the newest of ``someone/tiny``, and return its folder."""
    home = cache / "models--someone--tiny"
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text(commit)
    return save_tiny_sam2(snapshot)


def change_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_model_in_the_hubs_cache_loads_while_the_hub_is_silent(silent_hub: Hub, tmp_path: Path) -> None:
    write_snapshot(tmp_path, "0123456789" * 4)

    loaded = load_sam2_weights("someone/tiny", hub=silent_hub)

    assert loaded.name == "someone/tiny (fp32, cpu)"


def test_a_model_that_was_loaded_stays_at_its_revision(silent_hub: Hub, tmp_path: Path) -> None:
    write_snapshot(tmp_path, "0" * 40)
    first = load_sam2_weights("someone/tiny", hub=silent_hub)
    change_last_byte(write_snapshot(tmp_path, "1" * 40) / "model.safetensors")

    again = load_sam2_weights("someone/tiny", hub=replace(silent_hub, endpoint="http://nobody.invalid"))
    elsewhere = load_sam2_weights("someone/tiny", hub=replace(silent_hub, records_dir=tmp_path / "other"))

    assert again.fingerprint == first.fingerprint
    assert elsewhere.fingerprint != first.fingerprint


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_whose_file_is_not_the_first_one_is_refused(
    silent_hub: Hub, tmp_path: Path, name: str
) -> None:
    snapshot = write_snapshot(tmp_path, "0" * 40)
    load_sam2_weights("someone/tiny", hub=silent_hub)
    change_last_byte(snapshot / name)

    with pytest.raises(
        ModelInvalidError, match=rf"{name} of someone/tiny is not the one .*delete the record"
    ):
        load_sam2_weights("someone/tiny", hub=silent_hub)


def test_a_pinned_file_must_have_the_sha256_of_its_pin(silent_hub: Hub, tmp_path: Path) -> None:
    weights = write_snapshot(tmp_path, "0" * 40) / "model.safetensors"
    key = ("someone/tiny", "model.safetensors")

    load_sam2_weights("someone/tiny", hub=replace(silent_hub, pins={key: file_sha256(weights)}))
    with pytest.raises(ModelInvalidError, match="catalog pins"):
        load_sam2_weights("someone/tiny", hub=replace(silent_hub, pins={key: "0" * 64}))
