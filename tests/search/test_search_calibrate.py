"""What scores mean belongs to an embedder: which calibration is taken, and what a question makes of it."""

import json
import math
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdex_core.errors import UsageError
from segdex_search.calibrate import (
    UNKNOWN,
    Calibration,
    calibration_file,
    load_calibration,
    object_weight,
    save_calibration,
    shipped_calibration,
)
from segdex_search.queries import ImageTerm, SearchQuery, SegmentTerm, Term, TextTerm

FINITE = st.floats(-100, 100)
CALIBRATIONS = st.builds(Calibration, object_weight=st.floats(0, 100), threshold=FINITE, growth=FINITE)
PIXELS = np.zeros((4, 4, 3), np.uint8)
ONE = Calibration(object_weight=0.2, threshold=1.4, growth=0.15)


@given(CALIBRATIONS, st.text(min_size=1, max_size=30).filter(str.isprintable))
def test_what_was_saved_is_loaded_for_the_same_embedder_alone(
    tmp_path_factory: pytest.TempPathFactory, calibration: Calibration, fingerprint: str
) -> None:
    folder = tmp_path_factory.mktemp("calibrations") / "made anew"

    path = save_calibration(folder, fingerprint, calibration)

    assert path == calibration_file(folder, fingerprint)
    assert load_calibration(folder, fingerprint) == calibration
    assert load_calibration(folder, f"{fingerprint} of another") == shipped_calibration(
        f"{fingerprint} of another"
    )


def test_saving_again_replaces_and_the_file_names_the_embedder(tmp_path: Path) -> None:
    save_calibration(tmp_path, "clip/1", ONE)

    path = save_calibration(tmp_path, "clip/1", UNKNOWN)

    assert load_calibration(tmp_path, "clip/1") == UNKNOWN
    assert json.loads(path.read_text())["embedder"] == "clip/1"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"object_weight": 0.1, "threshold": 1}',
        '{"object_weight": "much", "threshold": 1, "growth": 0}',
        '{"object_weight": -1, "threshold": 1, "growth": 0}',
        '{"object_weight": 0.1, "threshold": NaN, "growth": 0}',
        '{"object_weight": null, "threshold": 1, "growth": 0}',
    ],
)
def test_a_damaged_file_is_named_with_the_command_that_makes_it_anew(tmp_path: Path, content: str) -> None:
    path = calibration_file(tmp_path, "clip/1")
    path.write_text(content)

    with pytest.raises(UsageError, match="segdex calibrate") as caught:
        load_calibration(tmp_path, "clip/1")

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_an_earlier_segdex_has_the_shipped_numbers_that_it_lacks(tmp_path: Path) -> None:
    for embedder in ("clip/1", "conse/2"):
        path = calibration_file(tmp_path, embedder)
        path.write_text('{"object_weight": 0.1, "threshold": 1, "growth": 0}')

        found = load_calibration(tmp_path, embedder)

        shipped = shipped_calibration(embedder)
        assert found == replace(shipped, object_weight=0.1, threshold=1.0, growth=0.0)


def test_an_embedder_that_nobody_calibrated_takes_the_cautious_one_and_the_offline_one_its_own() -> None:
    assert shipped_calibration("open_clip ViT-B-32") == UNKNOWN
    assert shipped_calibration("") == UNKNOWN
    assert shipped_calibration("conse/2 efficientnet") == shipped_calibration("conse/3 other") != UNKNOWN


@pytest.mark.parametrize(
    "numbers",
    [
        (-0.1, 1.0, 0.0),
        (math.nan, 1.0, 0.0),
        (0.1, math.inf, 0.0),
        (0.1, 1.0, math.nan),
        (0.1, 1.0, 0.0, -0.1),
        (0.1, 1.0, 0.0, 0.1, 0.0),
        (0.1, 1.0, 0.0, math.inf),
        (0.1, 1.0, 0.0, 0.1, math.inf),
    ],
)
def test_numbers_that_mean_nothing_are_refused(numbers: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        Calibration(*numbers)


@given(CALIBRATIONS, st.integers(1, 10**6), st.integers(2, 50))
def test_the_threshold_grows_by_the_logarithm_of_the_pictures(
    calibration: Calibration, pictures: int, times: int
) -> None:
    more = calibration.threshold_of(pictures * times) - calibration.threshold_of(pictures)

    assert calibration.threshold_of(1) == calibration.threshold_of(0) == calibration.threshold
    assert more == pytest.approx(calibration.growth * math.log(times), abs=1e-9)


@pytest.mark.parametrize(
    ("terms", "share"),
    [
        ((TextTerm("dog"),), 1),
        ((TextTerm("dog", 7.0), TextTerm("cat", -0.5)), 1),
        ((TextTerm("dog", 3.0), ImageTerm(PIXELS)), 0.75),
        ((TextTerm("dog"), SegmentTerm(UUID(int=1), 3.0)), 0.25),
        ((ImageTerm(PIXELS), TextTerm("cat", -5.0)), 0),
        ((SegmentTerm(UUID(int=1)),), 0),
    ],
)
def test_the_object_score_counts_by_the_share_of_texts_and_by_the_level(
    terms: tuple[Term, ...], share: float
) -> None:
    assert object_weight(SearchQuery(terms), ONE) == pytest.approx(0.2 * share)
    assert object_weight(SearchQuery(terms, level="whole"), ONE) == pytest.approx(0.6 * share)
    assert object_weight(SearchQuery(terms, level="part"), ONE) == 0
