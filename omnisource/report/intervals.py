"""Intervals of shares: between which values the share of all items of the kind lies, at 95 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z = 1.959963984540054  # 97.5th percentile of the normal distribution


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval, 0 to 1."""

    value: float
    low: float
    high: float


def wilson(right: float, count: int) -> Share:
    """Returns the share of right ones among `count` independent items, with Wilson's score interval.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Raises:
        ValueError: There are no items.
    """
    if count < 1:
        raise ValueError("a share needs items")
    share = right / count
    factor = 1 + _Z**2 / count
    middle = (share + _Z**2 / (2 * count)) / factor
    half = _Z / factor * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    # At 0 and at 1 an end is the share itself, but for rounding.
    return Share(share, min(max(0.0, middle - half), share), max(min(1.0, middle + half), share))


def mean_of_shares(right: Sequence[int], counts: Sequence[int]) -> Share:
    """Returns the mean of the shares of classes, each of which counts the same, with a normal interval.

    The variance of a class is that of (right + 1) / (count + 2): a class of few items that are all right is not taken
    to be without error. A class without items has the share 0, and no error.

    Raises:
        ValueError: There are no classes.
    """
    if not counts:
        raise ValueError("a mean needs classes")
    mean = sum(r / max(n, 1) for r, n in zip(right, counts, strict=True)) / len(counts)
    smoothed = [((r + 1) / (n + 2), n) for r, n in zip(right, counts, strict=True) if n]
    half = _Z * math.sqrt(sum(share * (1 - share) / n for share, n in smoothed)) / len(counts)
    return Share(mean, max(0.0, mean - half), min(1.0, mean + half))
