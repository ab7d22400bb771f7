"""Shares of colours are valid, and words name colours."""

import pytest

from segdex_core.colours import COLOUR_NAMES, SHARE_STEPS, ColourAtLeast, ColourShares, colour_named

HALF_RED = ColourShares((0, 250, 0, 500, 0, 0, 0, 250, 0, 0, 0))


@pytest.mark.parametrize("thousandths", [(1000,), (0,) * 11, (-1, 1001, *[0] * 9), (500,) * 11])
def test_shares_that_are_not_eleven_or_do_not_add_up_are_refused(thousandths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="colours must"):
        ColourShares(thousandths)


def test_shares_by_name_leave_out_what_is_not_there() -> None:
    assert HALF_RED.by_name() == {"red": 0.5, "white": 0.25, "blue": 0.25}
    assert sum(HALF_RED.share(name) for name in COLOUR_NAMES) == 1


def test_a_condition_holds_from_its_share_on() -> None:
    assert ColourAtLeast("red", SHARE_STEPS[-1]).holds(HALF_RED)
    assert not ColourAtLeast("white", SHARE_STEPS[-1]).holds(HALF_RED)
    assert ColourAtLeast("white", SHARE_STEPS[0]).holds(HALF_RED)
    assert not ColourAtLeast("red", SHARE_STEPS[0]).holds(None)


def test_a_condition_that_no_index_stores_is_refused() -> None:
    with pytest.raises(ValueError, match="a share must be one of"):
        ColourAtLeast("red", 0.33)
    with pytest.raises(ValueError, match="a colour must be one of"):
        ColourAtLeast("teal", SHARE_STEPS[0])  # type: ignore[arg-type]


def test_words_name_colours_in_any_case() -> None:
    assert [colour_named(name.upper()) for name in COLOUR_NAMES] == list(COLOUR_NAMES)
    assert [colour_named(word) for word in ("gray", "violet", "Magenta", "rose", "")] == [
        "grey", "purple", "purple", None, None,
    ]  # fmt: skip
