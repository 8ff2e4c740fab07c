"""Calibration: how often those predictions are right that have a score of about so much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from omnisource.evaluation.results.predictions import Prediction
from omnisource.report.intervals import Share, wilson

NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """The items whose highest score is between two tenths.

    Attributes:
        low: Lowest score.
        high: Highest score.
        count: Items.
        score: Their mean score.
        accuracy: The share of them that was recognized.
    """

    low: float
    high: float
    count: int
    score: float
    accuracy: Share


@dataclass(frozen=True)
class Calibration:
    """How well scores tell what will be right.

    Attributes:
        bins: Those that have items.
        error: Expected calibration error: the mean over items of the distance between score and accuracy of their bin.
        mean_score: Mean of the highest scores.
        log_loss: Mean of -log of the label's score, with scores of at least 1e-6.
    """

    bins: tuple[Bin, ...]
    error: float
    mean_score: float
    log_loss: float


def calibration_of(rows: Sequence[Prediction]) -> Calibration:
    """Returns the calibration of predictions, at least one.

    Source: Guo et al. 2017, "On calibration of modern neural networks", section 2.
    """
    groups: list[list[Prediction]] = [[] for _ in range(NUM_BINS)]
    for row in rows:
        groups[min(int(row.top[0][1] * NUM_BINS), NUM_BINS - 1)].append(row)
    bins = tuple(
        Bin(
            index / NUM_BINS,
            (index + 1) / NUM_BINS,
            len(group),
            sum(row.top[0][1] for row in group) / len(group),
            wilson(sum(row.is_right for row in group), len(group)),
        )
        for index, group in enumerate(groups)
        if group
    )
    return Calibration(
        bins=bins,
        error=sum(one.count * abs(one.score - one.accuracy.value) for one in bins) / len(rows),
        mean_score=sum(row.top[0][1] for row in rows) / len(rows),
        log_loss=sum(-math.log(max(row.label_score, 1e-6)) for row in rows) / len(rows),
    )
