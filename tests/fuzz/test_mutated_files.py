"""Damaged pictures of every format end in one outcome each, and end nothing else."""

import pytest
from tests.conftest import Tried
from tests.fuzz.fuzzing import LIMITS, files, fuzz

COUNT = 8_000


@pytest.mark.slow
@pytest.mark.promise("Pictures", "A damaged picture of any format ends in one outcome and ends nothing else.")
def test_damaged_pictures_end_in_one_outcome_each(tried: Tried) -> None:
    report = fuzz(1, COUNT)

    assert report.faults == []
    assert sum(report.outcomes.values()) == COUNT
    assert report.outcomes["decoded"] > COUNT / 20
    assert report.peak_mib < LIMITS.memory_mib
    assert report.left == 0
    tried(COUNT, "damaged pictures of all formats")


@pytest.mark.slow
def test_a_number_makes_the_same_file_each_time() -> None:
    assert list(files(95, 10)) == list(files(95, 10))
