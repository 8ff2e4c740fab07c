from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest

from omnisource.data.loading.order import items_at

COUNTS = [1, 2, 3, 4, 5, 15, 16, 17, 60, 63, 64, 65, 255, 256, 257, 1000, 1023, 1024, 1025]


def epoch_order(count: int, epoch: int = 0, seed: int = 0, source: str = "videos") -> list[int]:
    epochs, indices = items_at(seed, source, count, epoch * count, count)
    assert (epochs == epoch).all()
    return indices.tolist()


def assert_equally_likely(counts: np.ndarray) -> None:
    """Checks counts against their mean by a chi-square test that a fair order fails once in 30 000 times."""
    expected = counts.sum() / counts.size
    statistic = float(((counts - expected) ** 2).sum() / expected)
    freedom = counts.size - 1
    # The cube root of chi-square is nearly normal (Wilson and Hilferty, 1931). Too even is not random either.
    deviations = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    assert abs(deviations) < 4.2, f"chi-square {statistic:.1f} with {freedom} degrees of freedom"


@pytest.mark.parametrize("count", COUNTS)
def test_each_epoch_is_a_permutation(count: int) -> None:
    for epoch in (0, 1, 2, 1000):
        assert sorted(epoch_order(count, epoch)) == list(range(count))


def test_all_orders_of_four_items_are_equally_likely() -> None:
    seen = Counter(tuple(epoch_order(4, epoch, seed)) for seed in range(20) for epoch in range(240))
    assert_equally_likely(np.array([seen[order] for order in permutations(range(4))]))


def test_all_orders_of_three_and_of_two_items_are_equally_likely() -> None:
    for count in (2, 3):
        seen = Counter(tuple(epoch_order(count, epoch, seed)) for seed in range(8) for epoch in range(100))
        assert_equally_likely(np.array([seen[order] for order in permutations(range(count))]))


@pytest.mark.parametrize("count", [10, 16, 60])
def test_every_item_comes_equally_often_at_every_position(count: int) -> None:
    seen = np.zeros((count, count))
    for epoch in range(600):
        seen[np.arange(count), epoch_order(count, epoch)] += 1
    # Each row and each column sums to the epochs, which leaves (count - 1)^2 degrees of freedom.
    expected = 600 / count
    statistic = ((seen - expected) ** 2).sum() / expected
    freedom = (count - 1) ** 2
    assert abs(statistic - freedom) < 4.5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("count", [10, 16, 60])
def test_every_item_is_followed_by_every_other_equally_often(count: int) -> None:
    seen = np.zeros((count, count))
    for epoch in range(600):
        for one, next_one in pairwise(epoch_order(count, epoch)):
            seen[one, next_one] += 1
    assert (np.diag(seen) == 0).all()
    assert_equally_likely(seen[~np.eye(count, dtype=bool)])


def test_positions_in_neighboring_epochs_are_independent() -> None:
    count = 12
    seen = np.zeros((count, count))
    orders = [epoch_order(count, epoch) for epoch in range(601)]
    for one, other in pairwise(orders):
        for item in range(count):
            seen[one.index(item), other.index(item)] += 1
    assert_equally_likely(seen)


def test_a_long_order_has_about_as_many_rises_as_a_fair_one() -> None:
    order = np.array(epoch_order(100_000))
    rises = (np.diff(order) > 0).sum()
    assert abs(rises - 50_000) < 4.5 * math.sqrt(100_000 / 12)
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 4.5 / math.sqrt(len(order))


def test_epochs_sources_and_seeds_have_different_orders() -> None:
    orders = {
        tuple(epoch_order(60, epoch, seed, source))
        for epoch in (0, 1, 2)
        for seed in (0, 1, -1, 10)
        for source in ("videos", "images", "video", "")
    }
    assert len(orders) == 3 * 4 * 4


def test_the_order_is_the_same_on_every_machine_and_in_every_version() -> None:
    # Stored when it was first written: a run that is resumed with a later version goes on with the same samples.
    assert items_at(7, "kinetics400", 10, 5, 12)[1].tolist() == [9, 8, 0, 7, 3, 9, 5, 8, 7, 2, 0, 4]


@pytest.mark.parametrize("count", [3, 60, 1000, 10_000_019])
def test_far_positions_are_as_near_as_the_first(count: int) -> None:
    first = 10**15 // count * count - 2  # two positions before the border of an epoch
    epochs, indices = items_at(0, "videos", count, first, 4)
    assert epochs.tolist() == [10**15 // count - 1] * 2 + [10**15 // count] * 2
    assert (indices >= 0).all() and (indices < count).all()
    if count == 3:
        assert sorted(items_at(0, "videos", count, first + 2, 3)[1].tolist()) == [0, 1, 2]


def test_positions_do_not_depend_on_how_they_are_asked_for() -> None:
    epochs, indices = items_at(3, "videos", 7, 0, 50)
    assert epochs.tolist() == [position // 7 for position in range(50)]
    for position in range(50):
        epoch, index = items_at(3, "videos", 7, position, 1)
        assert (epoch[0], index[0]) == (epochs[position], indices[position])


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (3, 8), (1, 5), (64, 60), (5, 5)])
def test_batches_across_the_borders_of_epochs_lose_and_repeat_nothing(count: int, batch_size: int) -> None:
    batches = [items_at(0, "videos", count, number * batch_size, batch_size) for number in range(count)]
    pairs = Counter(
        (int(epoch), int(index)) for epochs, indices in batches for epoch, index in zip(epochs, indices, strict=True)
    )
    # `count` batches are `batch_size` epochs: each item comes once in each.
    assert pairs == Counter((epoch, index) for epoch in range(batch_size) for index in range(count))


def test_no_positions_give_no_items() -> None:
    epochs, indices = items_at(0, "videos", 5, 12, 0)
    assert epochs.tolist() == indices.tolist() == []
