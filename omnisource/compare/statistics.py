"""What a comparison says: differences of means over seeds and clusters of test items, with intervals that hold.

A percentile bootstrap of three or five seeds is too narrow where seeds differ much: it knows n - 1 degrees of freedom
only as n. Here the variances over seeds and over clusters are estimated apart, with these degrees of freedom, and
joined in a t interval. `benchmarks/intervals.py` simulates both.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ROUNDING = 1e-20
"""Variances of shares below it are rounding errors."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, as shares.

    Attributes:
        mean: Over seeds and items.
        low: Lower end; NaN where no interval can be made.
        high: Upper end.
        seed_deviation: Standard error of the mean that comes from the seeds.
        sampling_deviation: Standard error of the mean that comes from which items are tested.
        degrees_of_freedom: Of the interval.
        no_interval: Why there is none; None where there is one.
    """

    mean: float
    low: float
    high: float
    seed_deviation: float
    sampling_deviation: float
    degrees_of_freedom: float
    no_interval: str | None = None


def estimate(values: np.ndarray, clusters: Sequence[str] | np.ndarray, lowest: float = -1.0) -> Estimate:
    """Returns the mean of values with an interval over new seeds and new clusters of items.

    Seeds and clusters are crossed random effects. The variance is V(seeds) + V(clusters) - V(both), as of two-way
    clustered errors, and not below the larger of the first two; its degrees of freedom are Satterthwaite's. They are
    too many where three seeds by chance lie close together, so the interval is at least as wide as Student's of the
    seeds' means.

    Where all seeds and clusters are equal no spread was seen, which is not the same as none: [0, 0] would say that two
    variants are known to be equal, so there is no interval then.

    Args:
        values: [seeds, items], one row a seed, the items of all folds beside each other: 0 or 1 of accuracies, -1 to 1
            of paired differences.
        clusters: [items], the cluster of each; clusters of different folds must have different names.
        lowest: That a mean can be, 0 or -1; the highest is 1. The interval ends there.

    Source: A. C. Cameron, J. B. Gelbach, D. L. Miller, Robust inference with multiway clustering, 2011, section 2.
    """
    num_seeds, num_items = values.shape
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((num_seeds, len(names)))
    sizes = np.bincount(codes, minlength=len(names))
    for row, of_seed in zip(sums, values, strict=True):
        row += np.bincount(codes, weights=of_seed, minlength=len(names))
    mean = float(values.mean())
    residual = (sums - mean * sizes) / num_items  # [seeds, clusters], their sum over clusters: deviation of a seed
    if num_seeds < 2 or len(names) < 2:
        why = "one seed" if num_seeds < 2 else "one cluster of test items"
        return Estimate(mean, math.nan, math.nan, math.nan, math.nan, 0, why)
    s, c = num_seeds, len(names)
    of_seeds = float((residual.sum(axis=1) ** 2).sum()) / (s * (s - 1))
    of_clusters = float((residual.mean(axis=0) ** 2).sum()) * c / (c - 1)
    centered = residual - residual.mean(axis=0) - residual.mean(axis=1, keepdims=True)
    of_both = float((centered**2).sum()) * c / (s * (s - 1) * (c - 1))
    variance = max(of_seeds + of_clusters - of_both, of_seeds, of_clusters)
    if variance < _ROUNDING:
        return Estimate(mean, math.nan, math.nan, 0.0, 0.0, 0, "all seeds and clusters are equal")
    spread = of_seeds**2 / (s - 1) + of_clusters**2 / (c - 1)
    freedom = max(1.0, min((of_seeds + of_clusters) ** 2 / spread if spread else c - 1, c - 1.0))
    half = t_quantile(0.975, freedom) * math.sqrt(variance)
    if (of_seeds_alone := t_quantile(0.975, s - 1) * math.sqrt(of_seeds)) > half:
        half, freedom = of_seeds_alone, s - 1.0
    low, high = max(lowest, mean - half), min(1.0, mean + half)
    return Estimate(mean, low, high, math.sqrt(of_seeds), math.sqrt(of_clusters), freedom)


@functools.lru_cache(maxsize=256)
def t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Returns the quantile of Student's t above the median, to 4 digits; 1 degree of freedom or more."""
    angles = np.linspace(0, math.pi / 2, 5001)  # t = sqrt(n) tan(angle): the density becomes cos^(n - 1)
    density = np.maximum(np.cos(angles), 0.0) ** (degrees_of_freedom - 1)
    distribution = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    angle = np.interp((probability - 0.5) * 2, distribution / distribution[-1], angles)
    return float(math.sqrt(degrees_of_freedom) * math.tan(angle))


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, int, float]:
    """Returns (only we are right, only they are, exact two-sided p) of two runs: [items] bool each, of the same items.

    Items of one cluster are no independent trials, so where there are clusters p is too small.
    """
    ours, theirs = ours.astype(bool), theirs.astype(bool)
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1))
    return won, lost, min(1.0, float(2 * tail / 2 ** (won + lost)))
