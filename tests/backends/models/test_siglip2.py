"""SigLIP 2 and PE on small random weights: texts, pictures and precision as open_clip makes them by hand."""

import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.fakes.siglip2 import (
    CONTEXT,
    DIM,
    SIDE_PX,
    TEXTS,
    TINY_PE,
    TINY_SIGLIP2,
    write_tiny_pe,
    write_tiny_siglip2,
    write_tokenizer,
)
from tests.needs import photo
from tokenizers import Tokenizer

from segdex_backends.models.hub import Hub
from segdex_backends.models.open_clip.embedder import OpenClipEmbedder
from segdex_backends.models.open_clip.weights import load_weights
from segdex_backends.models.reading import UNREADABLE
from segdex_core.errors import ModelInvalidError, QueryError
from segdex_core.records import RGBImage, Vectors
from segdex_core.settings import ModelPrecision

PARITY = 0.9999
"""Least cosine of two vectors that should be the same."""

OTHER = 0.99
"""Largest cosine of two vectors that should differ: far below ``PARITY``, so that the tests can tell them."""

ENGLISH = ["a red umbrella", "Two Dogs on the beach!"]
END, PADDING = 1, 0  # Gemma's ids


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("siglip2")


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer(folder: Path) -> Path:
    return write_tokenizer(folder / "tokenizer")


@pytest.fixture(name="checkpoints", scope="module")
def _checkpoints(folder: Path, tokenizer: Path) -> Iterator[dict[str, Path]]:
    """Of both architectures, with the tags of the real models, whose preprocessing a local file takes."""
    with pytest.MonkeyPatch.context() as patch:
        registry = open_clip.pretrained._PRETRAINED
        patch.setitem(registry, TINY_SIGLIP2, registry["ViT-B-32-SigLIP2-256"])
        patch.setitem(registry, TINY_PE, registry["PE-Core-B-16"])
        yield {
            TINY_SIGLIP2: write_tiny_siglip2(folder, tokenizer=tokenizer),
            TINY_PE: write_tiny_pe(folder),
        }


def load(checkpoints: dict[str, Path], name: str, precision: ModelPrecision = "fp32") -> OpenClipEmbedder:
    return OpenClipEmbedder.load(
        name, pretrained=str(checkpoints[name]), precision=precision, prompt_template="{}"
    )


def model_of(checkpoints: dict[str, Path], name: str, precision: str = "fp32") -> torch.nn.Module:
    """Return the model as open_clip loads it."""
    model: torch.nn.Module = open_clip.create_model(
        name, pretrained=str(checkpoints[name]), precision=precision
    )
    return model.eval()


def unit(rows: torch.Tensor) -> Vectors:
    vectors: Vectors = torch.nn.functional.normalize(rows.float(), dim=-1).numpy()
    return vectors


@torch.inference_mode()
def text_vectors(model: torch.nn.Module, ids: torch.Tensor) -> Vectors:
    return unit(model.encode_text(ids))  # type: ignore[operator]


def cosines(first: Vectors, second: Vectors) -> npt.NDArray[np.float32]:
    rows: npt.NDArray[np.float32] = (first * second).sum(axis=1)
    return rows


def ids_by_hand(tokenizer: Path, text: str) -> list[int]:
    """Return the ids of a text without open_clip and transformers: canonical, with an end mark."""
    plain = " ".join(text.translate(str.maketrans("", "", string.punctuation)).lower().split())
    pieces = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).encode(plain, add_special_tokens=False)
    return [*pieces.ids, END]


def padded(rows: list[list[int]], length: int = CONTEXT) -> torch.Tensor:
    return torch.tensor([[*row, *[PADDING] * (length - len(row))] for row in rows])


@pytest.fixture(name="pictures", scope="module")
def _pictures() -> list[RGBImage]:
    with Image.open(photo("coffee.png")) as opened:
        picture = np.array(opened.convert("RGB"))
    boxes = [(0, 0, 400, 600), (10, 20, 200, 90), (50, 60, 66, 80), (0, 0, 20, 250)]
    return [picture[y1:y2, x1:x2] for y1, x1, y2, x2 in boxes]


def test_texts_of_eleven_scripts_have_the_vectors_of_open_clip(checkpoints: dict[str, Path]) -> None:
    texts = list(TEXTS.values())
    tokens = open_clip.get_tokenizer(TINY_SIGLIP2)(texts)

    found = load(checkpoints, TINY_SIGLIP2).embed_texts(texts)

    assert len(TEXTS) >= 10
    assert cosines(found, text_vectors(model_of(checkpoints, TINY_SIGLIP2), tokens)).min() >= PARITY


@pytest.mark.parametrize("script", TEXTS)
def test_a_text_is_in_lower_case_with_an_end_mark_and_padded_to_the_context_length(
    checkpoints: dict[str, Path], tokenizer: Path, script: str
) -> None:
    ids = ids_by_hand(tokenizer, TEXTS[script])

    found = load(checkpoints, TINY_SIGLIP2).embed_texts([TEXTS[script]])

    expected = text_vectors(model_of(checkpoints, TINY_SIGLIP2), padded([ids]))
    assert cosines(found, expected).min() >= PARITY


def test_other_padding_would_be_other_vectors(checkpoints: dict[str, Path], tokenizer: Path) -> None:
    """So the test above fails for a text padded to the longest of its batch, or on the left."""
    model = model_of(checkpoints, TINY_SIGLIP2)
    rows = [ids_by_hand(tokenizer, text) for text in TEXTS.values()]
    found = load(checkpoints, TINY_SIGLIP2).embed_texts(list(TEXTS.values()))

    left = torch.tensor([[*[PADDING] * (CONTEXT - len(row)), *row] for row in rows])
    assert cosines(found, text_vectors(model, left)).max() < OTHER
    for row, vector in zip(rows, found, strict=True):
        short = text_vectors(model, padded([row], len(row)))  # its last place is the end mark
        assert cosines(vector[None], short).max() < OTHER


def test_texts_are_padded_at_the_end_whatever_the_files_of_the_tokenizer_say(
    checkpoints: dict[str, Path], tokenizer: Path, tmp_path: Path
) -> None:
    found = load(checkpoints, TINY_SIGLIP2).embed_texts(list(TEXTS.values()))
    left = write_tokenizer(tmp_path / "left", padding_side="left")
    try:
        moved = {TINY_SIGLIP2: write_tiny_siglip2(tmp_path, tokenizer=left)}
        again = load(moved, TINY_SIGLIP2).embed_texts(list(TEXTS.values()))
    finally:
        open_clip.add_model_config(checkpoints[TINY_SIGLIP2].parent / f"{TINY_SIGLIP2}.json")

    assert cosines(found, again).min() >= PARITY


def test_a_damaged_tokenizer_of_the_hub_is_named_with_the_folder_to_delete(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    home = tmp_path / "models--someone--tokenizer"
    snapshot = home / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "tokenizer_config.json").write_text("{")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    hub = Hub(endpoint="http://127.0.0.1:9", cache_dir=tmp_path, records_dir=tmp_path / "segdex")
    try:
        checkpoint = write_tiny_siglip2(tmp_path, tokenizer=Path("someone/tokenizer"))
        with pytest.raises(ModelInvalidError, match=rf"^{snapshot} has no .*; delete that folder") as caught:
            OpenClipEmbedder.load(TINY_SIGLIP2, pretrained=str(checkpoint), hub=hub)
    finally:
        open_clip.add_model_config(checkpoints[TINY_SIGLIP2].parent / f"{TINY_SIGLIP2}.json")
    assert "\n" not in str(caught.value)


def test_other_casing_would_be_other_vectors(checkpoints: dict[str, Path], tokenizer: Path) -> None:
    """So the tests above fail for a text whose capitals stay: in the scripts that have them."""
    model, raw = model_of(checkpoints, TINY_SIGLIP2), Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    embedder = load(checkpoints, TINY_SIGLIP2)

    for script in ("Latin", "Cyrillic", "Greek"):
        plain = TEXTS[script].translate(str.maketrans("", "", string.punctuation))
        assert plain != plain.lower()
        kept = text_vectors(model, padded([[*raw.encode(plain, add_special_tokens=False).ids, END]]))
        found = embedder.embed_texts([TEXTS[script]])
        assert cosines(found, kept).max() < OTHER
        for same in (plain.upper(), plain.lower(), f"  {plain}?! "):
            assert cosines(embedder.embed_texts([same]), found).min() >= PARITY


def test_a_text_alone_has_the_vector_that_it_has_among_others(checkpoints: dict[str, Path]) -> None:
    embedder = load(checkpoints, TINY_SIGLIP2)
    together = embedder.embed_texts(list(TEXTS.values()))

    alone = np.concatenate([embedder.embed_texts([text]) for text in TEXTS.values()])

    assert cosines(together, alone).min() >= PARITY


def test_texts_of_eleven_scripts_are_read(checkpoints: dict[str, Path]) -> None:
    embedder = load(checkpoints, TINY_SIGLIP2)

    assert [embedder.reading_hint(text) for text in TEXTS.values()] == [None] * len(TEXTS)


def test_a_text_longer_than_the_context_is_refused(checkpoints: dict[str, Path]) -> None:
    embedder = load(checkpoints, TINY_SIGLIP2)

    with pytest.raises(QueryError, match=rf"at most {CONTEXT}"):
        embedder.embed_texts(["красный зонт " * CONTEXT])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", [TINY_SIGLIP2, TINY_PE])
def test_pictures_and_texts_in_each_precision_are_those_of_open_clip(
    checkpoints: dict[str, Path], pictures: list[RGBImage], name: str, precision: ModelPrecision
) -> None:
    [tag_name] = open_clip.list_pretrained_tags_by_model(name)
    tag = open_clip.get_pretrained_cfg(name, tag_name)
    model, _, preprocess = open_clip.create_model_and_transforms(
        name,
        pretrained=str(checkpoints[name]),
        precision=precision,
        # what open_clip takes from the tag of the real model, which a local file does not name
        image_mean=tag["mean"],
        image_std=tag["std"],
        image_interpolation=tag["interpolation"],
        image_resize_mode=tag["resize_mode"],
    )
    model.eval()
    dtype = open_clip.get_input_dtype(precision)
    with torch.inference_mode():
        pixels = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])
        images = unit(model.encode_image(pixels.to(dtype)))
        texts = unit(model.encode_text(open_clip.get_tokenizer(name)(ENGLISH)))

    found = load(checkpoints, name, precision)

    assert cosines(found.embed_images(pictures), images).min() >= PARITY
    assert cosines(found.embed_texts(ENGLISH), texts).min() >= PARITY


@pytest.mark.parametrize("name", [TINY_SIGLIP2, TINY_PE])
def test_half_precision_stays_near_single_precision(
    checkpoints: dict[str, Path], pictures: list[RGBImage], name: str
) -> None:
    single, half = load(checkpoints, name), load(checkpoints, name, "bf16")

    assert cosines(single.embed_images(pictures), half.embed_images(pictures)).min() >= 0.99


@pytest.mark.parametrize("name", [TINY_SIGLIP2, TINY_PE])
def test_a_picture_is_squashed_and_its_values_lie_from_minus_one_to_one(
    checkpoints: dict[str, Path], pictures: list[RGBImage], name: str
) -> None:
    """By hand, without open_clip's transform: the resize of Pillow, and mean and deviation of 0.5."""
    resample = Image.Resampling.BICUBIC if name == TINY_SIGLIP2 else Image.Resampling.BILINEAR
    squashed = [
        np.asarray(Image.fromarray(picture).resize((SIDE_PX, SIDE_PX), resample), np.float32)
        for picture in pictures
    ]
    pixels = torch.from_numpy(np.stack(squashed)).permute(0, 3, 1, 2) / 255 * 2 - 1

    found = load(checkpoints, name).embed_images(pictures)

    with torch.inference_mode():
        expected = unit(model_of(checkpoints, name).encode_image(pixels))  # type: ignore[operator]
    assert cosines(found, expected).min() >= PARITY


@pytest.mark.parametrize("name", [TINY_SIGLIP2, TINY_PE])
def test_a_region_of_all_with_even_attention_is_the_picture(checkpoints: dict[str, Path], name: str) -> None:
    """With keys of zero the head's query reads all patches alike, which is a region that covers all."""
    model, preprocess = load_weights(name, checkpoints[name], precision="fp32", device="cpu")
    trunk: Any = model.get_submodule("visual.trunk")
    width = trunk.attn_pool.kv.out_features // 2
    with torch.no_grad():
        trunk.attn_pool.kv.weight[:width] = 0
        trunk.attn_pool.kv.bias[:width] = 0
    if trunk.num_prefix_tokens:  # PE's query also reads its class token, which is no part of any region
        trunk.attn_pool.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, 1:],))
    embedder = OpenClipEmbedder(
        model.eval(),
        preprocess,
        tokenizer=open_clip.get_tokenizer(name),
        name=name,
        fingerprint=name,
        dim=DIM,
        batch_size=16,
        precision="fp32",
        prompt_template="{}",
    )
    colour = np.full((SIDE_PX, SIDE_PX, 3), (200, 60, 20), np.uint8)

    [region] = embedder.embed_regions(colour, [np.ones(colour.shape[:2], dtype=bool)])

    assert float(region @ embedder.embed_images([colour])[0]) >= PARITY


@pytest.mark.parametrize("name", [TINY_SIGLIP2, TINY_PE])
def test_a_map_has_a_cell_for_each_patch_of_four_quarters(checkpoints: dict[str, Path], name: str) -> None:
    embedder = load(checkpoints, name)
    rng = np.random.default_rng(1)
    texts = embedder.embed_texts(["a dog", "a sea"])

    maps = embedder.relevance(rng.integers(0, 256, (50, 90, 3)).astype(np.uint8), texts)

    assert maps.shape == (2, 8, 8)
    assert np.abs(maps).max() <= 1
    assert embedder.region_share == 0.0


@pytest.mark.parametrize("name", [TINY_SIGLIP2, TINY_PE])
def test_a_region_of_one_cell_is_what_the_map_says_there(checkpoints: dict[str, Path], name: str) -> None:
    embedder = load(checkpoints, name)
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 256, (80, 80, 3)).astype(np.uint8)
    texts = embedder.embed_texts(["a dog"])
    mask = np.zeros((80, 80), dtype=bool)
    mask[20:30, 50:60] = True  # the cell (2, 5) of 8x8

    [region] = embedder.embed_regions(picture, [mask])

    np.testing.assert_allclose(region @ texts[0], embedder.relevance(picture, texts)[0, 2, 5], atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_word_table_that_stays_in_the_file_changes_no_vector(
    checkpoints: dict[str, Path], tmp_path: Path, precision: ModelPrecision, caplog: pytest.LogCaptureFixture
) -> None:
    state = torch.load(checkpoints[TINY_SIGLIP2], weights_only=True)
    path = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    caplog.clear()

    model, _ = load_weights(TINY_SIGLIP2, path, precision=precision, device="cpu", large_table_bytes=0)

    assert not caplog.records
    ordinary = model_of(checkpoints, TINY_SIGLIP2, precision)
    assert model.state_dict().keys() == ordinary.state_dict().keys()
    for name, value in ordinary.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    tokens = open_clip.get_tokenizer(TINY_SIGLIP2)(list(TEXTS.values()))
    np.testing.assert_array_equal(text_vectors(model.eval(), tokens), text_vectors(ordinary, tokens))


@pytest.mark.parametrize("change", ["no table", "other table", "missing weight", "cut"])
def test_a_damaged_file_is_refused_by_either_way_to_load(
    checkpoints: dict[str, Path], tmp_path: Path, change: str
) -> None:
    state = torch.load(checkpoints[TINY_SIGLIP2], weights_only=True)
    table, path = "text.token_embedding.weight", tmp_path / "weights.safetensors"
    if change == "other table":
        state[table] = state[table][:10].clone()
    elif change != "cut":
        del state[table if change == "no table" else "text.ln_final.weight"]
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    if change == "cut":
        path.write_bytes(path.read_bytes()[:1000])

    for large_table_bytes in (0, 1 << 40):
        with pytest.raises(UNREADABLE):
            load_weights(
                TINY_SIGLIP2, path, precision="fp32", device="cpu", large_table_bytes=large_table_bytes
            )
