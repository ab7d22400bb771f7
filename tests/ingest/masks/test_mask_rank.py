"""The learned score: its network, its features, and whose weights it belongs to."""

import numpy as np
import pytest
from tests.fakes.segmenter import FloodSegmenter

from segdex_core.geometry import BoxXYXY
from segdex_core.networks import HiddenLayerNetwork
from segdex_ingest.masks.compare import alike_pairs, lay_out
from segdex_ingest.masks.decode import Candidates, Thresholds, decode_points, join_candidates
from segdex_ingest.masks.grid import CropWindow, point_grid
from segdex_ingest.masks.rank import (
    find_object_ranker,
    find_ranker,
    ranked_scores,
    ranker_fingerprint,
    ranking_features,
)

SAM2_HIERA_TINY = "80f6a6a308c93db8"
NUMBERS, TOKEN_LENGTH = 22, 512


def some_candidates() -> Candidates:
    image = np.full((256, 256, 3), 230, np.uint8)
    image[40:100, 40:100] = (200, 30, 30)
    segmenter = FloodSegmenter()
    [features] = segmenter.encode([image])
    points = point_grid((256, 256), points_per_side=4)
    thresholds = Thresholds(predicted_iou=0, stability=0, stability_offset=1)
    return join_candidates(list(decode_points(segmenter, features, points, thresholds=thresholds)))


@pytest.mark.models
def test_the_network_is_the_one_that_torch_computes() -> None:
    import torch

    rng = np.random.default_rng(0)
    features, hidden = 7, 5
    ranker = HiddenLayerNetwork(
        *(
            rng.normal(size=shape).astype(np.float32)
            for shape in ((features,), (features,), (features, hidden), (hidden,), (hidden,), (1,))
        )
    )
    x = rng.normal(size=(20, features)).astype(np.float32)
    scaled = torch.from_numpy((x - ranker.centre) * ranker.scale)
    first = torch.relu(scaled @ torch.from_numpy(ranker.hidden_weight) + torch.from_numpy(ranker.hidden_bias))
    expected = torch.sigmoid(first @ torch.from_numpy(ranker.weight) + torch.from_numpy(ranker.bias))

    np.testing.assert_allclose(ranker.probabilities(x), expected.numpy(), rtol=1e-4)


def test_features_are_finite_and_the_level_and_the_layer_are_in_them() -> None:
    candidates = some_candidates()
    found = [
        (CropWindow(BoxXYXY(0, 0, 300, 200), 0), candidates),
        (CropWindow(BoxXYXY(100, 50, 300, 200), 3), candidates),
    ]
    canvas = lay_out(found, (200, 300))

    features = ranking_features(found, canvas, alike_pairs(canvas))

    count = len(candidates)
    assert features.shape == (2 * count, NUMBERS + candidates.tokens.shape[1])
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features[:, 9:12], [[1, 0, 0]] * count + [[0, 0, 1]] * count)
    np.testing.assert_array_equal(features[:count, 12], candidates.level == 0)
    np.testing.assert_array_equal(features[count:, 13], candidates.level == 1)


def test_a_ranker_changes_the_score_where_there_is_one() -> None:
    candidates = some_candidates()
    found = [(CropWindow(BoxXYXY(0, 0, 256, 256), 0), candidates)]
    canvas = lay_out(found, (256, 256))
    pairs = alike_pairs(canvas)

    without = ranked_scores(found, canvas, pairs, ranker=None)
    width = NUMBERS + candidates.tokens.shape[1]
    likes_the_first_level = np.zeros((width, 1), np.float32)
    likes_the_first_level[12] = 9
    constant = HiddenLayerNetwork(
        centre=np.zeros(width, np.float32),
        scale=np.ones(width, np.float32),
        hidden_weight=likes_the_first_level,
        hidden_bias=np.zeros(1, np.float32),
        weight=np.ones(1, np.float32),
        bias=np.full(1, -4.5, np.float32),
    )
    with_one = ranked_scores(found, canvas, pairs, ranker=constant)

    assert without.scores.dtype == with_one.scores.dtype == np.float32
    first = candidates.level == 0
    assert with_one.scores[first].min() > with_one.scores[~first].max()
    assert not without.scores[first].min() > without.scores[~first].max()
    features = ranking_features(found, canvas, pairs)
    good = candidates.predicted_iou * candidates.stability
    np.testing.assert_allclose(with_one.likelihood, constant.probabilities(features), rtol=1e-6)
    np.testing.assert_allclose(without.likelihood, good, rtol=1e-6)
    for ranked in (with_one, without):
        assert ranked.likelihood.dtype == np.float32
        np.testing.assert_array_equal(ranked.numbers, features[:, :NUMBERS])


def test_a_window_without_masks_is_ranked_as_nothing() -> None:
    some = some_candidates()
    segmenter = FloodSegmenter()
    [features] = segmenter.encode([np.full((256, 256, 3), 230, np.uint8)])
    nothing_passes = Thresholds(predicted_iou=2, stability=0, stability_offset=1)
    points = point_grid((256, 256), points_per_side=1)
    empty = join_candidates(list(decode_points(segmenter, features, points, thresholds=nothing_passes)))
    found = [(CropWindow(BoxXYXY(0, 0, 256, 256), 0), empty)]
    canvas = lay_out(found, (256, 256))

    ranked = ranked_scores(found, canvas, alike_pairs(canvas), ranker=None)

    assert len(some) > len(empty) == 0
    assert ranked.scores.shape == ranked.likelihood.shape == (0,)
    assert ranked.numbers.shape == (0, NUMBERS)


def test_the_shipped_ranker_reads_these_features() -> None:
    ranker = find_ranker(SAM2_HIERA_TINY)

    assert ranker is not None
    assert len(ranker.centre) == NUMBERS + TOKEN_LENGTH


def test_no_masks_have_no_likelihood() -> None:
    ranker = find_ranker(SAM2_HIERA_TINY)
    assert ranker is not None

    assert ranker.probabilities(np.zeros((0, NUMBERS + TOKEN_LENGTH), np.float32)).shape == (0,)


def test_a_decoder_that_nothing_was_fitted_for_has_no_ranker() -> None:
    assert find_ranker("flood") is None
    assert find_object_ranker("flood") is None
    assert ranker_fingerprint("flood") == "none"
    assert len(ranker_fingerprint(SAM2_HIERA_TINY)) == 16


def test_each_of_the_two_rankers_changes_the_fingerprint() -> None:
    prints = set()
    shipped: dict[str, bytes]
    for shipped in (
        {"a.npz": b"1"},
        {"a.npz": b"2"},
        {"a.npz": b"1", "a-objects.npz": b"1"},
        {"a-objects.npz": b"3"},
    ):
        prints.add(ranker_fingerprint("a", read=shipped.get))

    assert len(prints) == 4
    assert all(len(one) == 16 for one in prints)


@pytest.mark.models
def test_the_fit_learns_which_feature_matters() -> None:
    from tests.reference.fit_ranker import fit

    rng = np.random.default_rng(1)
    features = rng.normal(size=(4000, 6)).astype(np.float32)
    best_iou = (0.55 + 0.2 * features[:, 2]).clip(0, 1).astype(np.float32)
    train, held_out = slice(0, 3000), slice(3000, None)

    ranker = fit(features[train], best_iou[train])

    likelihood = ranker.probabilities(features[held_out])
    assert np.corrcoef(likelihood, best_iou[held_out])[0, 1] > 0.9


@pytest.mark.models
def test_the_shipped_ranker_is_found_by_the_weights_however_they_were_loaded() -> None:
    from tests.real_models import onnx_sam2

    assert onnx_sam2().decoder_id == SAM2_HIERA_TINY


@pytest.mark.models
def test_the_torch_adapter_has_the_same_id() -> None:
    from tests.real_models import torch_sam2

    assert torch_sam2().decoder_id == SAM2_HIERA_TINY
