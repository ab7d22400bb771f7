"""EVF-SAM2: equal to what the original code computed, and refused by name where it is something else."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.fakes.embedder import ColourEmbedder
from tests.fakes.segmenter import FloodSegmenter
from tests.needs import package, shared
from tests.real_models import sam2_folder
from torch.nn import functional

from segdex.wiring import build_settings, load_text_segmenter
from segdex_backends.models.evf_sam2.segmenter import (
    DecodeRule,
    EvfFeatures,
    EvfSam2,
    beit3_pixels,
    evf_preprocess,
)
from segdex_backends.models.evf_sam2.text import SEMANTIC, EvfTokenizer, pad_ids
from segdex_core.errors import ModelInvalidError, ModelMissingError, QueryError
from segdex_search.refine.encodings import EncodingCache
from segdex_search.refine.refiner import Refiner, segment_by_text

pytestmark = pytest.mark.models


@cache
def case() -> dict[str, np.ndarray]:
    """What the original code computed (shared/README.md)."""
    return dict(np.load(shared("models", "evf-mini") / "case.npz"))


@cache
def mini(rule: DecodeRule = "best") -> EvfSam2:
    return EvfSam2.load(str(shared("models", "evf-mini")), sam2_folder=sam2_folder(), decode_rule=rule)


@cache
def encoded(rule: DecodeRule = "best") -> EvfFeatures:
    """The picture as every model of these weights and this rule encodes it; that takes seconds."""
    return mini(rule).encode([case()["image"]])[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of evf-mini that may be damaged."""
    source = shared("models", "evf-mini")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    return tmp_path


def write_pieces(path: Path) -> Path:
    """Train a sentence-piece model of a few pieces."""
    import sentencepiece

    words = ["red umbrella", "a red dog", "blue umbrella and a dog", "umbrellas are blue", "the dog is red"]
    (path / "text.txt").write_text("\n".join(words * 20))
    sentencepiece.SentencePieceTrainer.Train(
        input=str(path / "text.txt"),
        model_prefix=str(path / "sentencepiece.bpe"),
        vocab_size=40,
        model_type="unigram",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return path / "sentencepiece.bpe.model"


def test_both_pictures_are_what_the_original_code_feeds() -> None:
    image = case()["image"]

    np.testing.assert_array_equal(beit3_pixels(image).numpy(), case()["images_evf"])
    np.testing.assert_array_equal(
        evf_preprocess(image)[:, :, ::64, ::64].numpy(), case()["images_sam_corner"]
    )


@pytest.mark.parametrize("batch", ["", "single_"], ids=["padded batch", "single"])
def test_tokens_logits_and_masks_equal_the_original(batch: str) -> None:
    wanted = {key: case()[batch + key] for key in ("cls", "token", "low_res_masks", "iou_predictions")}
    ids, real = (torch.from_numpy(case()[key]) for key in ("input_ids", "attention_mask"))
    if batch:
        ids, real = ids[:1, real[0]], real[:1, real[0]]
    n = len(ids)

    model, features = mini(), encoded()
    pixels = features.pixels.expand(n, -1, -1, -1)
    cls = model.beit3(pixels, ids, real)
    tokens = model.prompt_tokens([features] * n, ids, real)
    all_masks = [model.sam2.decode_tokens(features.sam2, token[None, None]) for token in tokens]
    chosen = model.decode_ids([features] * n, ids, real)

    np.testing.assert_allclose(cls.numpy(), wanted["cls"], atol=1e-4)
    np.testing.assert_allclose(tokens.numpy(), wanted["token"], atol=1e-4)
    for row, three in enumerate(all_masks):
        # stored in half precision, which is what sets this figure
        np.testing.assert_allclose(
            three.logits[0], wanted["low_res_masks"][row].astype(np.float32), atol=5e-3
        )
        np.testing.assert_allclose(three.predicted_iou[0], wanted["iou_predictions"][row], atol=1e-5)
        best = int(wanted["iou_predictions"][row].argmax())
        np.testing.assert_array_equal(chosen.logits[row, 0], three.logits[0, best])
    height, width = case()["image"].shape[:2]
    full = functional.interpolate(torch.from_numpy(chosen.logits), (height, width), mode="bilinear")
    packed = case()[batch + "pred_mask_packed"]
    masks = np.unpackbits(packed, axis=1)[:, : height * width].reshape(n, height, width).astype(bool)
    assert ((full[:, 0].numpy() > 0) == masks).mean() > 0.999


@pytest.mark.slow
def test_a_picture_of_a_batch_is_answered_as_alone() -> None:
    model, image = mini(), case()["image"]
    other = np.ascontiguousarray(image[:, ::-1])
    first, second = model.encode([image, other])
    ids, real = (torch.from_numpy(case()[key])[:2] for key in ("input_ids", "attention_mask"))

    together = model.decode_ids([first, second], ids, real)

    for row, features in enumerate((first, second)):
        alone = model.decode_ids([features], ids[row : row + 1], real[row : row + 1])
        np.testing.assert_allclose(together.logits[row], alone.logits[0], atol=1e-3)


def test_the_single_mask_rule_answers_with_one_mask() -> None:
    ids, real = (torch.from_numpy(case()[key])[:1] for key in ("input_ids", "attention_mask"))

    masks = mini("single").decode_ids([encoded("single")], ids, real)

    assert masks.logits.shape == (1, 1, 256, 256)
    assert mini("single").fingerprint != mini("best").fingerprint


def test_texts_are_numbered_as_xlm_roberta_does(tmp_path: Path) -> None:
    from transformers import XLMRobertaTokenizer

    ours = EvfTokenizer(write_pieces(tmp_path), semantic_id=None)
    theirs = XLMRobertaTokenizer.from_pretrained(tmp_path)

    for text in ("red umbrella", "  a dog ", "blue", "the umbrellas", "Zürich 犬 !"):
        assert ours.encode(text, semantic=False) == theirs(text)["input_ids"]


def test_the_semantic_mark_is_a_token_where_the_checkpoint_knows_it(tmp_path: Path) -> None:
    pieces = write_pieces(tmp_path)
    plain = EvfTokenizer.load(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({SEMANTIC: 64002}))
    multitask = EvfTokenizer.load(tmp_path)

    words = plain.encode("red dog", semantic=False)
    assert multitask.encode("red dog", semantic=True) == [words[0], 64002, *words[1:]]
    assert multitask.encode("red dog", semantic=False) == words
    assert plain.encode("red dog", semantic=True) == EvfTokenizer(pieces, semantic_id=None).encode(
        f"{SEMANTIC} red dog", semantic=False
    )


def test_padding_is_marked() -> None:
    ids, real = pad_ids([[0, 5, 2], [0, 5, 6, 7, 2]])

    assert ids.tolist() == [[0, 5, 2, 1, 1], [0, 5, 6, 7, 2]]
    assert real.sum(axis=1).tolist() == [3, 5]


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(QueryError, match="is empty"):
        EvfTokenizer(write_pieces(tmp_path), semantic_id=None).encode(text, semantic=False)


def test_a_text_that_is_too_long_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"2,0\d\d tokens, .* at most 1,022"):
        EvfTokenizer(write_pieces(tmp_path), semantic_id=None).encode("red " * 2000, semantic=False)


def test_texts_are_answered_by_a_checkpoint_with_its_tokenizer(folder: Path) -> None:
    write_pieces(folder)
    model = EvfSam2.load(str(folder), sam2_folder=sam2_folder())

    masks = model.decode([encoded("single")] * 2, ["red umbrella", "a dog"])

    assert masks.logits.shape == (2, 1, 256, 256)
    assert model.decode_rule == "single"  # [semantic] is none of its tokens


def test_a_checkpoint_without_a_tokenizer_says_so(folder: Path) -> None:
    model = EvfSam2.load(str(folder), sam2_folder=sam2_folder())

    with pytest.raises(ModelMissingError, match=r"has no sentencepiece\.bpe\.model"):
        model.decode([encoded()], ["a dog"])


@pytest.mark.slow
def test_the_published_layout_loads_with_the_weights_of_video(folder: Path) -> None:
    package("sam2", "reference")
    from tests.reference.meta_sam2 import build_meta_sam2

    meta = build_meta_sam2(sam2_folder()).state_dict()
    fuser = "memory_encoder.fuser.layers.0"
    # the one name that EVF changed, and half precision, as in the files that are published
    renamed = {key.replace(f"{fuser}.gamma", f"{fuser}.weight"): value for key, value in meta.items()}
    visual = {f"visual_model.{key}": value.half().contiguous() for key, value in renamed.items()}
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, **visual}, folder / "model.safetensors")

    model = EvfSam2.load(str(folder), decode_rule="best")

    ids, real = (torch.from_numpy(case()[key])[:1] for key in ("input_ids", "attention_mask"))
    masks = model.decode_ids(model.encode([case()["image"]]), ids, real)
    reference = mini().decode_ids([encoded()], ids, real)
    assert ((masks.logits > 0) == (reference.logits > 0)).mean() > 0.999  # half precision of the weights

    write_pieces(folder)
    loaded = load_text_segmenter(build_settings(device="cpu", precision="fp32"), str(folder))
    refiner = Refiner(FloodSegmenter(), ColourEmbedder(), np.zeros((1, 16), np.float32), EncodingCache(0))
    refiner = replace(refiner, text_segmenter=loaded)
    mask, relevance = segment_by_text(case()["image"], "red umbrella", refiner=refiner)
    assert mask.mask.size_hw == case()["image"].shape[:2]
    assert relevance is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "sam2"}, "type sam2, but EVF-SAM2's is evf"),
        ({"architectures": ["EvfSamModel"]}, "EvfSamModel, which is on another SAM"),
        (
            {"encoder_attention_heads": None, "mm_extractor_scale": "huge"},
            "mm_extractor_scale as one of base",
        ),
    ],
)
def test_another_model_is_refused_by_name(folder: Path, change: dict[str, object], message: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))

    with pytest.raises(ModelInvalidError, match=message):
        EvfSam2.load(str(folder), sam2_folder=sam2_folder())


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("mm_extractor.beit3.encoder.layers.1.ffn.B.fc1.bias", "lacks weights of BEiT-3"),
        ("mm_extractor.beit3.text_embed.weight", "lacks weights of BEiT-3"),
        ("text_hidden_fcs.0.2.weight", "lacks weights text_hidden_fcs"),
        ("mm_extractor", "is no EVF-SAM2 checkpoint"),
    ],
)
def test_missing_weights_are_an_error_and_never_random(folder: Path, missing: str, message: str) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {key: value for key, value in weights.items() if not key.startswith(missing)},
        folder / "model.safetensors",
    )

    with pytest.raises(ModelInvalidError, match=message):
        EvfSam2.load(str(folder), sam2_folder=sam2_folder())


def test_a_checkpoint_without_its_sam2_is_refused(folder: Path) -> None:
    with pytest.raises(ModelInvalidError, match=r"no weights visual_model"):
        EvfSam2.load(str(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_a_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()

    with pytest.raises(ModelMissingError, match=f"has no {name}"):
        EvfSam2.load(str(folder), sam2_folder=sam2_folder())


def test_a_name_that_is_no_folder_and_no_repository_is_refused() -> None:
    with pytest.raises(ModelMissingError, match="neither an existing path nor a name"):
        EvfSam2.load("no such thing at all")
