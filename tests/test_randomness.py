"""Generators are functions of where they are used, and their values may never move."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from omnisource.randomness import (
    derived_seed,
    make_deterministic,
    sample_generator,
    seed_initialization,
    seed_microbatch,
)


def test_derived_seeds_are_pinned() -> None:
    # A run that was stopped may be resumed by a later version: these numbers are part of its checkpoint.
    assert derived_seed(0, "order", "videos", 3) == 10157236123586575454
    assert sample_generator(1, "videos", 2, 3).integers(0, 2**32, 3).tolist() == [1973545633, 4104350381, 3575526921]


def test_derived_seed_depends_on_every_part_its_type_and_the_order() -> None:
    parts = [(0, "a", 1), (0, "a", 2), (1, "a", 1), (0, "b", 1), ("a", 0, 1), (0, "a", "1"), (0, "a"), ("0", "a", 1)]
    seeds = [derived_seed(*part) for part in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_neighboring_parts_do_not_run_into_each_other() -> None:
    assert derived_seed("ab", "c") != derived_seed("a", "bc")
    assert derived_seed(1, 23) != derived_seed(12, 3)


def test_samples_have_their_own_generators() -> None:
    positions = itertools.product((0, 1), ("a", "b"), (0, 1), (0, 1))
    draws = {tuple(sample_generator(*position).integers(0, 2**60, 2).tolist()) for position in positions}
    assert len(draws) == 16


def test_sample_generator_leaves_the_global_ones_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # the global generator, which must not move
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    sample_generator(0, "a", 0, 0).random(10)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index]


def test_dropout_is_a_function_of_seed_step_and_microbatch() -> None:
    def drawn(seed: int, step: int, microbatch: int) -> list[float]:
        seed_microbatch(seed, step, microbatch)
        return torch.rand(4).tolist()

    assert drawn(0, 1, 2) == drawn(0, 1, 2)
    assert len({tuple(drawn(*position)) for position in itertools.product((0, 1), (0, 1), (0, 1))}) == 8


def test_initial_weights_are_a_function_of_the_seed() -> None:
    def weight(seed: int) -> torch.Tensor:
        seed_initialization(seed)
        return torch.nn.Linear(4, 4).weight.detach()

    assert torch.equal(weight(3), weight(3))
    assert not torch.equal(weight(3), weight(4))


def test_deterministic_algorithms_are_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    try:
        make_deterministic()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
