"""The gate lets pass what is the same thing and better, and says why it keeps the rest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdex_core.masks import MaskRLE, encode_mask
from segdex_search.refine.gate import Decision, GateSettings, decide

SETTINGS = GateSettings()


def square(x: int, side: int = 40) -> MaskRLE:
    mask = np.zeros((100, 200), bool)
    mask[20 : 20 + side, x : x + side] = True
    return encode_mask(mask)


def judged(new: MaskRLE, *, new_iou: float, stored_iou: float = 0.8, may_grow: bool = False) -> Decision:
    return decide(
        square(10), new, stored_iou=stored_iou, new_iou=new_iou, settings=SETTINGS, may_grow=may_grow
    )


def test_the_same_mask_with_a_better_estimate_passes() -> None:
    decision = judged(square(10), new_iou=0.9)

    assert decision.accepted
    assert decision.iou == 1
    assert decision.gain == pytest.approx(0.1)


@pytest.mark.parametrize("new_iou", [0.1, 0.8, 0.8 + SETTINGS.gain_threshold - 1e-6])
def test_a_mask_that_is_no_better_is_kept_out(new_iou: float) -> None:
    decision = judged(square(10), new_iou=new_iou)

    assert not decision.accepted
    assert "no better" in decision.reason


def test_another_thing_is_kept_out_however_good_it_is() -> None:
    decision = judged(square(100), new_iou=1.0)

    assert not decision.accepted
    assert "another object" in decision.reason
    assert decision.iou == decision.containment == 0


def test_a_mask_around_the_stored_one_passes_only_where_it_may_grow() -> None:
    whole = square(10, side=80)

    assert not judged(whole, new_iou=0.95).accepted
    assert judged(whole, new_iou=0.95, may_grow=True).accepted
    assert judged(whole, new_iou=0.95).containment == 1


@given(st.integers(0, 120), st.floats(0, 1), st.floats(0, 0.5))
def test_a_better_estimate_never_closes_the_gate(x: int, new_iou: float, more: float) -> None:
    if judged(square(x), new_iou=new_iou).accepted:
        assert judged(square(x), new_iou=new_iou + more).accepted
