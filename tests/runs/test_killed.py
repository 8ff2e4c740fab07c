from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.killing import assert_equal_to_uninterrupted, killed_run, uninterrupted_run

OVERRIDES = (
    "num_epochs=8",  # of 3 steps, of 2 microbatches of 3 sources
    "ema_decay=0.9",
    "checkpoints.interval_steps=2",
    "checkpoints.keep_last=2",
    "max_unreadable=1",
)


@pytest.mark.timeout(400)
def test_run_that_is_killed_again_and_again_equals_one_that_is_not(data: Path, tmp_path: Path) -> None:
    whole = uninterrupted_run(tmp_path, data, OVERRIDES)
    deaths = killed_run(tmp_path, data, OVERRIDES, kills=4, seed=3)
    assert deaths.moments.total() >= 3
    assert_equal_to_uninterrupted(tmp_path / "run", whole)
