from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from omnisource.evaluation.windows.plan import WindowSpan, window_starts
from omnisource.evaluation.windows.scoring import WindowScores
from omnisource.evaluation.windows.segments import Segment, SegmentRules, segments_of

NAMES = {"actions": ("run", "jump", "rest")}
RATE, STRIDE = 10.0, 5


def scored(by_frame: list[int], length: int = 10, share: float = 0.9) -> WindowScores:
    """Returns windows that see the share of each class among their frames."""
    span = WindowSpan(length, STRIDE)
    starts = window_starts(len(by_frame), span)
    rows = [np.bincount(by_frame[start : start + length], minlength=3) for start in starts]
    scores = torch.tensor(np.array(rows) / length * share, dtype=torch.float32)
    borders = (*(number / RATE for number in range(0, len(by_frame), STRIDE)), len(by_frame) / RATE)
    return WindowScores("x.mp4", len(by_frame), RATE, span, tuple(starts), {"actions": scores}, borders)


def found(scores: WindowScores, **rules: object) -> list[tuple[str, int, int]]:
    segments = segments_of(scores, NAMES, SegmentRules(**rules))  # type: ignore[arg-type]
    return [(one.class_name, one.start_frame, one.end_frame) for one in segments]


def test_borders_of_concatenated_clips_are_found_to_half_a_window() -> None:
    truth = [0] * 63 + [1] * 44 + [2] * 80
    segments = segments_of(scored(truth), NAMES, SegmentRules())
    assert [one.class_name for one in segments] == ["run", "jump", "rest"]
    assert segments[0].start_frame == 0 and segments[-1].end_frame == 187
    for one, border in zip(segments[1:], (63, 107), strict=True):
        assert abs(one.start_frame - border) <= 5
    assert all(ours.end_frame == theirs.start_frame for ours, theirs in pairwise(segments))
    assert segments[1].start_seconds == segments[1].start_frame / RATE and segments[-1].end_seconds == 18.7
    assert segments[0].score == pytest.approx(0.9, abs=0.05)
    assert isinstance(segments[0], Segment)


def test_thresholds_leave_out_what_is_uncertain() -> None:
    scores = scored([0] * 60 + [1] * 60)
    assert found(scores, threshold=0.95) == []
    assert found(scores, threshold=0.5, class_thresholds={"jump": 0.95}) == [("run", 0, 60)]
    assert found(scores, class_thresholds={"run": 0.95}) == [("jump", 60, 120)]


def test_short_segments_and_gaps_are_left_out() -> None:
    blip = scored([0] * 60 + [1] * 10 + [0] * 60)
    assert [name for name, _, _ in found(blip)] == ["run", "jump", "run"]
    assert found(blip, min_seconds=2) == [("run", 0, 130)]
    assert found(blip, smooth_seconds=5) == [("run", 0, 130)]
    gap = scored([0] * 60 + [2] * 10 + [0] * 60)
    assert found(gap, min_seconds=2, class_thresholds={"rest": 0.99}) == [("run", 0, 130)]
    alone = scored([2] * 60 + [1] * 10 + [2] * 60)
    assert found(alone, min_seconds=2, class_thresholds={"rest": 0.99}) == []


@pytest.mark.parametrize("num_frames", [1, 4, 5, 6, 11])
def test_short_videos_are_one_segment(num_frames: int) -> None:
    assert found(scored([1] * num_frames)) == [("jump", 0, num_frames)]
