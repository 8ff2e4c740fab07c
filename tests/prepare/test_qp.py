"""The qp of a video: how it is searched for, and the sample that it is chosen on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnisource.prepare.qp import COARSEST, DECIBELS_A_STEP, FINEST, SAMPLE_FRAMES, fitting_qp, sample_positions


@given(
    at_first=st.floats(20, 60),
    falls=st.lists(st.floats(0.05, 2.5), min_size=COARSEST, max_size=COARSEST),
    target=st.floats(30, 45),
)
def test_qp_is_fine_enough_and_not_much_finer(at_first: float, falls: list[float], target: float) -> None:
    values = {FINEST: at_first}
    for qp in range(FINEST + 1, COARSEST + 1):
        values[qp] = values[qp - 1] - falls[qp - 1]
    tried: list[int] = []

    def psnr_at(qp: int) -> float:
        tried.append(qp)
        return values[qp]

    found = fitting_qp(psnr_at, target)
    assert len(tried) == len(set(tried))  # nothing is encoded twice
    if values[FINEST] < target:
        assert found == FINEST
    else:
        assert values[found] >= target
        assert found == COARSEST or values[found] - target < DECIBELS_A_STEP or values[found + 1] < target


def test_usual_video_takes_two_tries() -> None:
    tried: list[int] = []

    def psnr_at(qp: int) -> float:
        tried.append(qp)
        return 60 - 0.72 * qp

    assert fitting_qp(psnr_at, 35.1) == 34
    assert len(tried) == 2


def test_frames_that_nothing_changes_take_the_coarsest() -> None:
    assert fitting_qp(lambda _: math.inf, 38.0) == COARSEST


@given(num_frames=st.integers(1, 5000), group_length=st.integers(1, 400))
def test_sample_has_whole_groups_from_the_first_to_the_last(num_frames: int, group_length: int) -> None:
    positions = sample_positions(num_frames, group_length)
    assert positions == sorted(set(positions))
    assert positions[0] == 0 and positions[-1] < num_frames
    assert len(positions) <= SAMPLE_FRAMES
    if group_length <= SAMPLE_FRAMES:
        groups = {position // group_length for position in positions}
        whole = [p for group in sorted(groups) for p in range(group * group_length, (group + 1) * group_length)]
        assert positions == [position for position in whole if position < num_frames]
        assert len(groups) == 1 or max(groups) == (num_frames - 1) // group_length


@pytest.mark.parametrize(("num_frames", "group_length"), [(96, 4), (95, 4), (50, 50), (1, 4)])
def test_short_video_is_its_own_sample(num_frames: int, group_length: int) -> None:
    assert sample_positions(num_frames, group_length) == list(range(num_frames))
