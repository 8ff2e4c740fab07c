"""What the demo's variants came to, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from omnisource.evaluation.evaluate import Evaluation

Z95 = 1.96
"""Deviations of a normal distribution within which 95 % of it lie, on both sides."""


@dataclass(frozen=True)
class VariantResult:
    """What a variant came to.

    Attributes:
        description: What it does, in a few words.
        evaluation: Of its held-out clips, the same in all variants.
        multiply_adds: Of its training.
        seconds: That its training took.
    """

    description: str
    evaluation: Evaluation
    multiply_adds: float
    seconds: float

    @cached_property
    def correct(self) -> np.ndarray:
        """Which of the N clips are recognized, [N] bool."""
        return (self.evaluation.scores.argmax(dim=1) == self.evaluation.labels).numpy()

    @property
    def top1(self) -> float:
        """Share of the clips that are recognized."""
        return float(self.correct.mean())


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share of `count` clips.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    square = Z95 * Z95 / count
    middle = (share + square / 2) / (1 + square)
    half = Z95 * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return middle - half, middle + half


def paired_difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Returns the difference of two shares of the same clips, and its 95 % interval over clips.

    Args:
        ours: Which clips are recognized, [N] bool.
        theirs: The same.

    Source: Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions".
    """
    only_ours, only_theirs, count = int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), len(ours)
    middle = (only_ours - only_theirs) / (count + 2)
    half = Z95 * math.sqrt(only_ours + only_theirs + 1 - (only_ours - only_theirs) ** 2 / (count + 2)) / (count + 2)
    return (only_ours - only_theirs) / count, middle - half, middle + half


def sentence(results: Mapping[str, VariantResult]) -> str:
    """Returns what was seen, and how much one run says of it."""
    joint, pretrained = results["joint"], results["pre-trained"]
    difference, low, high = paired_difference(joint.correct, pretrained.correct)
    if low > 0:
        verdict = "on these clips joint training was the better one"
    elif high < 0:
        verdict = "on these clips pre-training was the better one"
    else:
        verdict = "which of the two is better, this run cannot tell"
    shares = ", ".join(f"{name} {result.top1:.1%}" for name, result in results.items())
    interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
    return (
        f"Seen with one seed on {len(joint.correct)} held-out clips, after the same multiply-adds of training "
        f"({joint.multiply_adds / 1e9:.0f} G): {shares}. Joint - pre-trained is {100 * difference:+.1f} points (95 % "
        f"interval over clips {interval}): {verdict}."
    )
