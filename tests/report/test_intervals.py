from __future__ import annotations

import numpy as np
import pytest

from omnisource.report.intervals import mean_of_shares, wilson


def test_wilson_interval_is_that_of_the_literature() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    for right, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        share = wilson(right, count)
        assert (round(share.low, 4), round(share.high, 4)) == (low, high)
    assert wilson(29, 29).high == 1.0
    with pytest.raises(ValueError, match="needs items"):
        wilson(0, 0)


def test_interval_of_the_mean_class_accuracy_holds_the_truth() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.2, 0.95, 30)
    counts = rng.integers(3, 30, 30)
    found = [mean_of_shares(rng.binomial(counts, truth).tolist(), counts.tolist()) for _ in range(500)]
    missed = sum(not share.low <= truth.mean() <= share.high for share in found)
    assert missed / 500 < 0.06, "at most 5 % of the intervals miss it; 1 % for chance"


def test_classes_without_items_count_as_zero_and_perfect_ones_are_not_certain() -> None:
    assert mean_of_shares([4, 0], [4, 0]).value == 0.5
    assert mean_of_shares([2, 2], [2, 2]).low < 1.0
