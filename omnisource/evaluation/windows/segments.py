"""From the scores of windows to segments: which class a video shows from when to when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from torch import Tensor

from omnisource.evaluation.windows.scoring import WindowScores


@dataclass(frozen=True)
class SegmentRules:
    """What counts as a segment.

    Attributes:
        smooth_seconds: Scores are averaged over this time around each moment.
        min_seconds: Shorter segments, and shorter gaps in one, are none.
        threshold: Score from which the best class of a moment counts, in [0, 1].
        class_thresholds: Those of single classes, by name.
    """

    smooth_seconds: float = 0.0
    min_seconds: float = 0.0
    threshold: float = 0.0
    class_thresholds: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Segment:
    """A part of a video that shows one class.

    Attributes:
        label_space: Whose class.
        class_name: The class.
        score: Mean over the segment.
        start_frame: First frame, 0-based.
        end_frame: First frame behind it.
        start_seconds: When the first frame is shown.
        end_seconds: When that behind it is shown, or the video ends.
    """

    label_space: str
    class_name: str
    score: float
    start_frame: int
    end_frame: int
    start_seconds: float
    end_seconds: float


def segments_of(found: WindowScores, class_names: Mapping[str, Sequence[str]], rules: SegmentRules) -> list[Segment]:
    """Returns the segments of a video, for each head in the order of time."""
    return [
        segment
        for head, scores in found.scores.items()
        for segment in _segments_of_head(found, head, scores, class_names[head], rules)
    ]


def cell_scores(found: WindowScores, scores: Tensor) -> np.ndarray:
    """Returns scores by time: [cells, classes] float64; a cell is a stride of frames, the last one what remains.

    A cell has the mean of all windows that its middle lies in, and of the one that starts with it.
    """
    length, stride = found.span.length, found.span.stride
    num_cells = -(-found.num_frames // stride)
    begins = np.arange(num_cells) * stride
    middles = (begins + np.minimum(begins + stride, found.num_frames)) / 2
    sums = np.zeros((num_cells, scores.shape[1]))
    counts = np.zeros((num_cells, 1))
    for start, row in zip(found.starts, scores.double().numpy(), strict=True):
        covered = (middles >= start) & (middles < start + length)
        covered[min(start // stride, num_cells - 1)] = True
        sums[covered] += row
        counts[covered] += 1
    known = np.flatnonzero(counts[:, 0])  # behind damage cells may have no window: they have that of the nearest
    nearest = known[np.abs(known[:, None] - np.arange(num_cells)).argmin(axis=0)]
    return sums[nearest] / counts[nearest]


def _segments_of_head(
    found: WindowScores, head: str, scores: Tensor, names: Sequence[str], rules: SegmentRules
) -> list[Segment]:
    by_cell = cell_scores(found, scores)
    stride, rate = found.span.stride, found.frames_per_second
    by_cell = _smoothed(by_cell, round(rules.smooth_seconds * rate / stride))
    thresholds = np.full(len(names), rules.threshold)
    for name, threshold in (rules.class_thresholds or {}).items():
        thresholds[[index for index, one in enumerate(names) if one == name]] = threshold
    best = by_cell.argmax(axis=1)
    labels = np.where(by_cell.max(axis=1) >= thresholds[best], best, -1)
    labels = _without_short(labels, by_cell, thresholds, rules.min_seconds * rate / stride)
    segments = []
    for first, end, label in _runs(labels):
        if label >= 0:
            segments.append(
                Segment(
                    label_space=head,
                    class_name=names[label],
                    score=float(by_cell[first:end, label].mean()),
                    start_frame=first * stride,
                    end_frame=min(end * stride, found.num_frames),
                    start_seconds=found.border_seconds[first],
                    end_seconds=found.border_seconds[min(end, len(found.border_seconds) - 1)],
                )
            )
    return segments


def _smoothed(scores: np.ndarray, num_cells: int) -> np.ndarray:
    """Returns the mean of so many cells around each, fewer at the ends."""
    half = num_cells // 2
    if half == 0:
        return scores
    sums = np.concatenate([np.zeros((1, scores.shape[1])), np.cumsum(scores, axis=0)])
    cells = np.arange(len(scores))
    first, end = np.maximum(cells - half, 0), np.minimum(cells + half + 1, len(scores))
    return (sums[end] - sums[first]) / (end - first)[:, None]


def _without_short(labels: np.ndarray, scores: np.ndarray, thresholds: np.ndarray, min_cells: float) -> np.ndarray:
    """Returns labels whose runs have the least length: shorter ones go to a neighbor that counts there, or to none.

    A gap closes where both of its neighbors are the same class.
    """
    labels = labels.copy()
    while True:
        runs = _runs(labels)
        for number, (first, end, label) in sorted(enumerate(runs), key=lambda one: one[1][1] - one[1][0]):
            left = runs[number - 1][2] if number else -1
            right = runs[number + 1][2] if number + 1 < len(runs) else -1
            if end - first >= min_cells or (label < 0 and left != right) or (label < 0 and left < 0):
                continue
            means = scores[first:end].mean(axis=0)
            fitting = [one for one in (left, right) if one >= 0 and (left == right or means[one] >= thresholds[one])]
            labels[first:end] = max(fitting, key=lambda one: means[one], default=-1)
            break
        else:
            return labels


def _runs(labels: np.ndarray) -> list[tuple[int, int, int]]:
    """Returns (first cell, first cell behind it, label) of all runs."""
    runs, first = [], 0
    for label, cells in groupby(labels.tolist()):
        end = first + len(list(cells))
        runs.append((first, end, label))
        first = end
    return runs
