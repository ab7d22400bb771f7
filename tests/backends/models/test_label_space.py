"""The label space: its head, its queries, and what is left of it in 8 bits."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.backends.index.stored_samples import unit_rows

from segdex_backends.models.conse.label_space import LabelSpace, quantize_rows
from segdex_core.networks import HiddenLayerNetwork

DIM, FEATURES, HIDDEN, CLASSES, LABELS = 24, 9, 5, 12, 6
ALL = CLASSES + LABELS
TEXTS = ALL + 4
"""Names of all labels, and four words that stand for several."""


def head(rng: np.random.Generator) -> HiddenLayerNetwork:
    shapes = ((FEATURES,), (FEATURES,), (FEATURES, HIDDEN), (HIDDEN,), (HIDDEN, LABELS), (LABELS,))
    return HiddenLayerNetwork(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def stands_for() -> npt.NDArray[np.float32]:
    """Return names that stand for themselves, and words that stand for four labels each."""
    shares = np.zeros((TEXTS, ALL), np.float32)
    shares[:ALL] = np.eye(ALL)
    for word in range(4):
        shares[ALL + word, 4 * word : 4 * word + 4] = 0.5
    return shares


def probabilities(rng: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
    """Return pictures that show one label or two."""
    shown = rng.random((count, ALL)).astype(np.float32) * 0.02
    for row in shown:
        row[rng.choice(ALL, 2, replace=False)] += np.array([0.8, 0.4], np.float32)
    return shown


def fitted(seed: int = 0) -> LabelSpace:
    rng = np.random.default_rng(seed)
    return LabelSpace.fit(
        head=head(rng),
        landmarks=unit_rows(rng, TEXTS, DIM),
        stands_for=stands_for(),
        label_landmarks=np.arange(ALL),
        label_probabilities=probabilities(rng, 400),
        ridge=1e-3,
    )


def test_the_head_is_the_network_that_torch_computes() -> None:
    one = head(np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(20, FEATURES)).astype(np.float32)
    first = torch.relu(
        torch.from_numpy((x - one.centre) * one.scale) @ torch.from_numpy(one.hidden_weight)
        + torch.from_numpy(one.hidden_bias)
    )
    expected = torch.sigmoid(first @ torch.from_numpy(one.weight) + torch.from_numpy(one.bias))

    np.testing.assert_allclose(one.probabilities(x), expected.numpy(), rtol=1e-4, atol=1e-6)
    assert one.probabilities(x[:0]).shape == (0, LABELS)


def test_label_vectors_are_centred_landmarks() -> None:
    space = fitted()

    vectors = space.label_vectors

    assert vectors.shape == (ALL, DIM)
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(vectors[3] - vectors[11], space.landmarks[3] - space.landmarks[11], atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(0, 8))
def test_queries_are_float32_unit_rows_also_of_texts_that_are_far_from_everything(
    seed: int, count: int
) -> None:
    space = fitted()

    rows = space.query(unit_rows(np.random.default_rng(seed), count, DIM))
    opposite = space.query(-space.landmarks.mean(axis=0, keepdims=True))

    assert rows.shape == (count, DIM)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(opposite, axis=1), 1, atol=1e-5)


def pictures_of(space: LabelSpace, label: int) -> npt.NDArray[np.float32]:
    """Return the vectors of pictures of one label that are a little unsure."""
    shown = np.random.default_rng(label).random((5, ALL)).astype(np.float32) * 0.02
    shown[:, label] += 0.8
    rows = shown @ space.label_vectors
    unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@pytest.mark.parametrize("label", range(0, ALL, 3))
def test_the_name_of_a_label_scores_its_pictures_above_all_others(label: int) -> None:
    space = fitted()

    [query] = space.query(space.landmarks[label : label + 1])

    mine = (pictures_of(space, label) @ query).min()
    assert mine > max((pictures_of(space, other) @ query).max() for other in range(ALL) if other != label)


@pytest.mark.parametrize("word", range(4))
def test_a_word_that_stands_for_several_labels_scores_their_pictures_above_all_others(word: int) -> None:
    space = fitted()
    meant = range(4 * word, 4 * word + 4)

    [query] = space.query(space.landmarks[ALL + word : ALL + word + 1])

    lowest = min((pictures_of(space, label) @ query).min() for label in meant)
    assert lowest > max(
        (pictures_of(space, other) @ query).max() for other in range(ALL) if other not in meant
    )


def test_what_was_saved_is_loaded_within_the_error_of_8_bits(tmp_path: Path) -> None:
    space = fitted()
    space.save(tmp_path / "space.npz")

    loaded = LabelSpace.load((tmp_path / "space.npz").read_bytes())

    for before, after in (
        (space.landmarks, loaded.landmarks),
        (space.readout, loaded.readout),
        (space.head.hidden_weight, loaded.head.hidden_weight),
        (space.head.weight, loaded.head.weight),
    ):
        assert after.dtype == np.float32
        error = np.abs(after - before).max(axis=1)
        assert (error <= np.abs(before).max(axis=1) / 127 * 0.501).all()
        assert error.max() > 0
    for name in ("centre", "scale", "hidden_bias", "bias"):
        np.testing.assert_array_equal(getattr(loaded.head, name), getattr(space.head, name))
    np.testing.assert_array_equal(loaded.label_landmarks, space.label_landmarks)
    np.testing.assert_allclose(loaded.stands_for, space.stands_for, rtol=1e-3)
    texts = unit_rows(np.random.default_rng(2), 50, DIM)
    assert (loaded.query(texts) * space.query(texts)).sum(axis=1).min() > 0.99


def test_a_label_space_that_was_loaded_saves_as_the_same(tmp_path: Path) -> None:
    fitted().save(tmp_path / "first.npz")
    first = LabelSpace.load((tmp_path / "first.npz").read_bytes())
    first.save(tmp_path / "second.npz")

    second = LabelSpace.load((tmp_path / "second.npz").read_bytes())

    np.testing.assert_allclose(second.readout, first.readout, rtol=1e-6)
    np.testing.assert_array_equal(second.stands_for, first.stands_for)


def test_what_is_no_label_space_is_refused(tmp_path: Path) -> None:
    fitted().save(tmp_path / "space.npz")
    good = (tmp_path / "space.npz").read_bytes()
    np.savez(tmp_path / "other.npz", landmarks=np.zeros((3, 4)))

    for content in (b"", b"text", good[:200], good[:-50], (tmp_path / "other.npz").read_bytes()):
        with pytest.raises(ValueError, match=r"label space|pickle|No data"):
            LabelSpace.load(content)


@given(arrays(np.float32, (4, 7), elements=st.floats(-1000, 1000, width=32)))
def test_rows_come_back_from_8_bits_within_half_a_step(matrix: npt.NDArray[np.float32]) -> None:
    small, scale = quantize_rows(matrix)

    assert small.dtype == np.int8
    assert scale.dtype == np.float32
    step = np.abs(matrix).max(axis=1, keepdims=True) / 127
    back = small.astype(np.float64) * scale[:, None]
    assert (np.abs(back - matrix) <= 0.5001 * step + 1e-9).all()
