"""What the demo says of what it has seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omnisource.demo.results import VariantResult, paired_difference, sentence, share_interval
from omnisource.evaluation.evaluate import Evaluation
from omnisource.evaluation.metrics import classification_metrics


def result(correct: np.ndarray) -> VariantResult:
    labels = torch.zeros(len(correct), dtype=torch.int64)
    scores = torch.nn.functional.one_hot(torch.from_numpy(1 - correct.astype(int)), 2).float()
    metrics = classification_metrics(scores, labels, ["zero", "one"])
    evaluation = Evaluation("clips", "test", ("",) * len(correct), scores, labels, 40, metrics)
    return VariantResult("some way", evaluation, 250e9, 10.0)


def first(count: int, of: int = 200) -> np.ndarray:
    return np.arange(of) < count


def test_interval_of_a_share_is_wilsons() -> None:
    assert share_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    low, high = share_interval(1.0, 20)
    assert low == pytest.approx(0.8389, abs=1e-4) and high == pytest.approx(1)


def test_interval_of_a_paired_difference_covers_the_true_one() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        draw = rng.random(200)
        ours, theirs = draw < 0.8, (draw > 0.05) & (draw < 0.75)  # 80 % and 70 %, mostly of the same clips
        difference, low, high = paired_difference(ours, theirs)
        assert difference == pytest.approx(ours.mean() - theirs.mean())
        covered += low <= 0.1 <= high
    assert 930 <= covered <= 980


@pytest.mark.parametrize(
    ("joint", "verdict"),
    [(180, "joint training was the better one"), (120, "pre-training was the better one"), (151, "cannot tell")],
)
def test_sentence_says_no_more_than_was_seen(joint: int, verdict: str) -> None:
    results = {"scratch": result(first(100)), "pre-trained": result(first(150)), "joint": result(first(joint))}
    said = sentence(results)
    assert verdict in said and f"joint {joint / 2:.1f}%" in said and "pre-trained 75.0%" in said and "one seed" in said
    assert "\n" not in said
