from __future__ import annotations

import pytest

from omnisource.compare.subsets import Row, split_off, subset

ROWS: list[Row] = [(f"{label}_g{group}_{clip}", label) for label in (0, 1) for group in range(6) for clip in range(3)]


def cluster_of(path: str) -> str:
    return path.rpartition("_")[0]


@pytest.mark.parametrize(("unit", "clips"), [("clips", 1), ("clusters", 3)])
def test_a_smaller_amount_is_in_a_larger_one_and_a_function_of_the_seed(unit: str, clips: int) -> None:
    chosen = [set(subset(ROWS, amount, unit, cluster_of, seed=3)) for amount in (1, 2, 4)]  # type: ignore[arg-type]
    assert [len(rows) for rows in chosen] == [2 * clips * amount for amount in (1, 2, 4)]
    assert chosen[0] < chosen[1] < chosen[2]
    assert chosen[1] == set(subset(ROWS, 2, unit, cluster_of, seed=3))  # type: ignore[arg-type]
    assert len({tuple(subset(ROWS, 2, unit, cluster_of, seed)) for seed in range(8)}) > 4  # type: ignore[arg-type]


def test_no_cluster_is_both_trained_and_validated_on() -> None:
    training, validation = split_off(ROWS, 0.3, cluster_of, "fold0")
    assert sorted([*training, *validation]) == sorted(ROWS) and len(validation) == 12
    assert not {cluster_of(path) for path, _ in training} & {cluster_of(path) for path, _ in validation}
    with pytest.raises(ValueError, match="too few clusters"):
        split_off([("a_1", 0), ("b_1", 1)], 0.5, cluster_of, "fold0")
