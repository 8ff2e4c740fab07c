from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.killing import (
    RUNS,
    SAVING,
    STEPPING,
    VALIDATING,
    assert_equal_to_uninterrupted,
    assert_killed_enough,
    killed_run,
    uninterrupted_run,
)

OVERRIDES = (
    "num_epochs=12",  # of 3 steps, of 2 microbatches of 3 sources
    "checkpoints.interval_steps=2",
    "checkpoints.keep_last=2",
    "max_unreadable=1",
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", list(RUNS))
def test_run_that_is_killed_again_and_again_equals_one_that_is_not(data: Path, tmp_path: Path, kind: str) -> None:
    settings = (*OVERRIDES, *RUNS[kind])
    whole = uninterrupted_run(tmp_path, data, settings)
    moments = killed_run(tmp_path, data, settings, kills=5, seed=3)
    assert_killed_enough(moments, kills=5)
    assert_equal_to_uninterrupted(tmp_path / "run", whole)


def test_too_few_kills_or_none_at_the_moments_that_matter_count_as_a_failure() -> None:
    assert_killed_enough(Counter({STEPPING: 3, SAVING: 1, VALIDATING: 1}), kills=5)
    with pytest.raises(AssertionError, match="killed 5 times, not 6"):
        assert_killed_enough(Counter({STEPPING: 3, SAVING: 1, VALIDATING: 1}), kills=6)
    with pytest.raises(AssertionError, match=f"never killed {SAVING}, in 5 kills"):
        assert_killed_enough(Counter({STEPPING: 4, VALIDATING: 1}), kills=5)
    with pytest.raises(AssertionError, match=f"never killed {SAVING} nor {VALIDATING}"):
        assert_killed_enough(Counter({STEPPING: 5}), kills=5)
