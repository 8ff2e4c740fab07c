from __future__ import annotations

import math

import numpy as np
import pytest

from omnisource.compare.statistics import estimate, mcnemar, t_quantile

TRIALS = 1500


@pytest.mark.parametrize(
    ("seeds", "seed_effect", "cluster_effect"),
    [(3, 0.0, 0.3), (3, 0.03, 0.3), (3, 0.1, 0.1), (5, 0.05, 0.1), (5, 0.01, 0.3), (10, 0.03, 0.2)],
)
def test_a_true_difference_of_zero_is_called_significant_in_five_percent_of_the_cases(
    seeds: int, seed_effect: float, cluster_effect: float
) -> None:
    rng = np.random.default_rng(7)
    clusters = np.repeat(np.arange(60), rng.integers(1, 6, size=60))
    significant = 0
    for _ in range(TRIALS):
        of_seeds = rng.normal(0, seed_effect, (seeds, 1))
        of_items = rng.normal(0, cluster_effect, 60)[clusters]
        values = of_seeds + of_items + rng.normal(0, 0.5, (seeds, len(clusters)))
        result = estimate(values, clusters)
        significant += not result.low <= 0 <= result.high
    # Four standard deviations of a binomial of 5 %; and no interval is so wide that it says nothing.
    deviation = math.sqrt(TRIALS * 0.05 * 0.95)
    assert 0.01 * TRIALS < significant < 0.05 * TRIALS + 4 * deviation


def test_t_quantiles_are_those_of_the_tables() -> None:
    assert [round(t_quantile(0.975, n), 2) for n in (1, 2, 4, 10, 1000)] == [12.71, 4.30, 2.78, 2.23, 1.96]


def test_mcnemar_is_the_exact_binomial_test_of_the_items_that_one_alone_got_right() -> None:
    ours, theirs = np.array([1] * 9 + [0] + [1] * 5), np.array([0] * 9 + [1] + [1] * 5)
    won, lost, p = mcnemar(ours, theirs)
    assert (won, lost) == (9, 1) and p == pytest.approx(2 * 11 / 1024)


@pytest.mark.parametrize(
    ("values", "clusters", "why"),
    [
        ([[1, 0]], "ab", "one seed"),
        ([[1, 0], [1, 1]], "aa", "one cluster"),
        ([[0, 0, 0], [0, 0, 0]], "abc", "equal"),
        ([[1, 1, 1], [1, 1, 1]], "aab", "equal"),
        ([[1, -1, 0], [-1, 1, 0]], "aab", "equal"),
    ],
)
def test_what_shows_no_spread_gives_a_mean_without_an_interval(
    values: list[list[int]], clusters: str, why: str
) -> None:
    result = estimate(np.array(values, dtype=float), list(clusters))
    assert result.mean == np.mean(values) and math.isnan(result.low) and math.isnan(result.high)
    assert result.no_interval is not None and why in result.no_interval


def test_an_interval_ends_where_no_mean_can_be() -> None:
    values = np.array([[1.0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]])
    result = estimate(values, list("abcd"), lowest=0.0)
    assert 0 < result.low < result.mean < result.high == 1.0 and result.no_interval is None
