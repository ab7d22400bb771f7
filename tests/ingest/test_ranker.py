"""The learned score: its network, its features, and whose weights it belongs to."""

import numpy as np
import pytest
import torch
from tests.fakes.segmenter import FloodSegmenter
from tests.reference.fit_ranker import fit

from segdex.ingest.candidates import Candidates, Floors, decode_points, join_candidates
from segdex.ingest.prompts import point_grid
from segdex.ingest.ranker import MaskRanker, find_ranker, ranker_fingerprint, ranking_features

SAM2_HIERA_TINY = "80f6a6a308c93db8"
TOKEN_LENGTH = 512


def some_candidates() -> Candidates:
    image = np.full((256, 256, 3), 230, np.uint8)
    image[40:100, 40:100] = (200, 30, 30)
    segmenter = FloodSegmenter()
    [features] = segmenter.encode([image])
    points = point_grid((256, 256), points_per_side=4)
    floors = Floors(predicted_iou=0, stability=0, stability_offset=1)
    return join_candidates(list(decode_points(segmenter, features, points, floors=floors)))


def test_the_network_is_the_one_that_torch_computes() -> None:
    rng = np.random.default_rng(0)
    features, hidden = 7, 5
    ranker = MaskRanker(
        *(
            rng.normal(size=shape).astype(np.float32)
            for shape in ((features,), (features,), (features, hidden), (hidden,), (hidden,), (1,))
        )
    )
    x = rng.normal(size=(20, features)).astype(np.float32)
    scaled = torch.from_numpy((x - ranker.centre) * ranker.scale)
    first = torch.relu(scaled @ torch.from_numpy(ranker.hidden_weight) + torch.from_numpy(ranker.hidden_bias))
    expected = torch.sigmoid(first @ torch.from_numpy(ranker.weight) + torch.from_numpy(ranker.bias))

    np.testing.assert_allclose(ranker.likelihood(x), expected.numpy(), rtol=1e-4)


def test_features_are_finite_and_the_level_and_the_layer_are_in_them() -> None:
    candidates = some_candidates()
    agreeing = np.arange(len(candidates))

    features = ranking_features(candidates, agreeing, frame_share=0.25, layer=1)

    assert features.shape == (len(candidates), 10 + candidates.tokens.shape[1])
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features[:, 7], 1)
    np.testing.assert_array_equal(features[:, 8], candidates.level == 0)
    np.testing.assert_array_equal(features[:, 9], candidates.level == 1)


def test_no_masks_have_no_likelihood() -> None:
    ranker = find_ranker(SAM2_HIERA_TINY)
    assert ranker is not None

    assert ranker.likelihood(np.zeros((0, 10 + TOKEN_LENGTH), np.float32)).shape == (0,)


def test_a_decoder_that_nothing_was_fitted_for_has_no_ranker() -> None:
    assert find_ranker("flood") is None
    assert ranker_fingerprint("flood") == "none"
    assert len(ranker_fingerprint(SAM2_HIERA_TINY)) == 16


def test_the_fit_learns_which_feature_matters() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(4000, 6)).astype(np.float32)
    best_iou = (0.55 + 0.2 * features[:, 2]).clip(0, 1).astype(np.float32)
    train, held_out = slice(0, 3000), slice(3000, None)

    ranker = fit(features[train], best_iou[train])

    likelihood = ranker.likelihood(features[held_out])
    assert np.corrcoef(likelihood, best_iou[held_out])[0, 1] > 0.9


@pytest.mark.models
def test_the_shipped_ranker_is_found_by_the_weights_however_they_were_loaded() -> None:
    from tests.real_models import onnx_sam2

    assert onnx_sam2().decoder_id == SAM2_HIERA_TINY


@pytest.mark.models
def test_the_torch_adapter_has_the_same_id() -> None:
    from tests.real_models import torch_sam2

    assert torch_sam2().decoder_id == SAM2_HIERA_TINY
