from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnisource.data.lists.items import Items, PackedStrings
from omnisource.data.loading.stream import Stream, first_position
from omnisource.recipe.data import Source, Split


def stream(
    labels: list[int], batch_size: int | Fraction, class_power: float = 1.0, seed: int = 0, name: str = "clips"
) -> Stream:
    items = Items(
        "/data", PackedStrings(f"file{index}" for index in range(len(labels))), np.array(labels, dtype=np.int32)
    )
    source = Source("video", "classes", "/data", Split(), class_power=class_power)
    return Stream(name, source, items, batch_size, seed)


def drawn(one: Stream, microbatches: range) -> list[tuple[int, int]]:
    """Returns the (epoch, index) of every sample of some microbatches."""
    return [(request.epoch, request.index) for number in microbatches for request in one.requests(number)]


class TestBrokenBatchSize:
    def test_batches_have_the_number_below_or_above_it(self) -> None:
        sizes = [len(stream([0] * 50, Fraction("2.4")).requests(number)) for number in range(10)]
        assert set(sizes) == {2, 3}
        assert sum(sizes) == 24

    @given(st.fractions(min_value=1, max_value=40, max_denominator=1000), st.integers(0, 10**7))
    def test_share_is_kept_to_less_than_one_sample_at_any_time(self, batch_size: Fraction, microbatch: int) -> None:
        assert 0 <= microbatch * batch_size - first_position(batch_size, microbatch) < 1

    def test_positions_are_neither_left_out_nor_repeated(self) -> None:
        one = stream([0] * 7, Fraction(7, 3))
        samples = drawn(one, range(6))
        assert [epoch for epoch, _ in samples] == [0] * 7 + [1] * 7
        assert sorted(index for _, index in samples[:7]) == list(range(7))
        assert sorted(index for _, index in samples[7:]) == list(range(7))

    def test_ratio_between_two_streams_holds_over_a_run(self) -> None:
        clips, web = stream([0] * 30, 16), stream([0] * 1000, 16 * Fraction("0.3"))
        counts = [sum(len(one.requests(number)) for number in range(500)) for one in (clips, web)]
        assert counts == [8000, 2400]


class TestClassPower:
    labels = [0] * 600 + [1] * 300 + [3] * 100  # class 2 is empty

    def shares(self, power: float, count: int = 40_000) -> np.ndarray:
        indices = [index for _, index in drawn(stream(self.labels, 100, power), range(count // 100))]
        return np.bincount(np.array(self.labels)[indices], minlength=4) / count

    @pytest.mark.parametrize("power", [0.0, 0.5, 2.0, -1.0])
    def test_classes_are_drawn_in_proportion_to_the_power_of_their_counts(self, power: float) -> None:
        weights = np.array([600.0**power, 300.0**power, 0, 100.0**power])
        expected = weights / weights.sum()
        # Five standard deviations of a share of 40,000 draws.
        assert np.all(np.abs(self.shares(power) - expected) < 5 * np.sqrt(expected * (1 - expected) / 40_000) + 1e-12)

    def test_items_of_a_class_are_drawn_alike(self) -> None:
        counts = Counter(index for _, index in drawn(stream(self.labels, 100, class_power=0.0), range(600)))
        of_class = np.array([counts[index] for index in range(600, 900)])  # 300 items share a third of 60,000 draws
        chi_square = ((of_class - of_class.mean()) ** 2).sum() / of_class.mean()
        assert 180 < chi_square < 450  # 299 degrees of freedom: a deviation of 24, taken five times

    def test_draws_are_independent_of_the_ones_before(self) -> None:
        classes = np.array(self.labels)[[index for _, index in drawn(stream(self.labels, 100, 0.0), range(400))]]
        rows = {0: 0, 1: 1, 3: 2}
        table = np.zeros((3, 3))
        for one, following in zip(classes[:-1:2], classes[1::2], strict=True):
            table[rows[one], rows[following]] += 1
        expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
        assert ((table - expected) ** 2 / expected).sum() < 23.5  # 4 degrees of freedom: one in ten thousand is higher

    def test_a_sample_is_a_function_of_its_position(self) -> None:
        whole = drawn(stream(self.labels, 10, 0.5), range(40))
        assert drawn(stream(self.labels, 10, 0.5), range(25, 40)) == whole[250:]
        assert drawn(stream(self.labels, 40, 0.5), range(10)) == whole

    def test_seeds_and_sources_draw_differently(self) -> None:
        one = drawn(stream(self.labels, 50, 0.5), range(2))
        assert one != drawn(stream(self.labels, 50, 0.5, seed=1), range(2))
        assert one != drawn(stream(self.labels, 50, 0.5, name="others"), range(2))

    def test_an_item_that_is_drawn_twice_is_augmented_twice(self) -> None:
        samples = drawn(stream([0, 0, 1], 30, 0.0), range(10))
        assert len(set(samples)) == len(samples) == 300  # nothing but epoch and index decides the augmentation

    def test_power_1_is_the_permutation_of_every_epoch(self) -> None:
        samples = drawn(stream(self.labels, 100), range(10))
        assert sorted(index for _, index in samples) == list(range(1000))

    def test_large_powers_of_large_counts_do_not_overflow(self) -> None:
        indices = [index for _, index in drawn(stream(self.labels, 100, 400.0), range(3))]
        assert max(indices) < 600  # the largest class alone
