"""Which item comes at which position of a source's endless stream: a pure function, so that seeking is arithmetic.

A source is the endless concatenation of its epochs, each a permutation of its items. The permutation is a keyed
bijection that is computed for the positions asked for and never stored: a Feistel network over the smallest even
number of bits that holds the count, walked on until it falls below the count again.

Where classes are to be balanced, positions draw items with replacement instead: each position hashes to a class and
to an item of it.

Source: the construction of the permutation is that of Black and Rogaway, "Ciphers with Arbitrary Finite Domains"
(CT-RSA 2002), cycle walking over a balanced Feistel network.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from omnisource.randomness import derived_seed

NUM_ROUNDS = 12
"""Rounds of the Feistel network; four make it a strong pseudorandom permutation in theory, small domains want more."""


def items_at(seed: int, source: str, count: int, first: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which items stand at the positions `first` to `first + length - 1` of a source's endless stream.

    Args:
        seed: Seed of the run.
        source: Name of the source: two sources of one length have different orders.
        count: Number of items in the source, at least 1.
        first: First position, 0-based; may lie in any epoch.
        length: Number of positions.

    Returns:
        Epochs [length] int64 and item indices [length] int64, 0-based.
    """
    positions = np.arange(first, first + length, dtype=np.int64)
    epochs = positions // count
    indices = np.empty(length, dtype=np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = permuted(_round_keys(seed, source, int(epoch)), count, positions[here] % count)
    return epochs, indices


@dataclass(frozen=True, eq=False)
class ClassTable:
    """The items of a source by class, and the probabilities of the classes.

    Attributes:
        items: [N] int32 or int64 item indices, those of one class beside one another.
        starts: [K + 1] int64, where each class begins in `items`.
        cumulative: [K] float64, the probability of each class and all before it; the last is 1.
    """

    items: np.ndarray
    starts: np.ndarray
    cumulative: np.ndarray


def class_table(labels: np.ndarray, power: float) -> ClassTable:
    """Returns the table from which classes are drawn in proportion to count^power; empty classes are never drawn.

    Args:
        labels: [N] class indices, at least one.
        power: 1 draws as the items are, 0 all classes alike.
    """
    counts = np.bincount(labels)
    # As logarithms: the power of a large count could overflow.
    logarithms = power * np.log(np.maximum(counts, 1))
    weights = np.where(counts > 0, np.exp(logarithms - logarithms[counts > 0].max()), 0.0)
    cumulative = np.cumsum(weights)
    cumulative /= cumulative[-1]
    index_type = np.int32 if len(labels) < 2**31 else np.int64
    items = np.argsort(labels, kind="stable").astype(index_type)
    return ClassTable(items, np.concatenate([[0], np.cumsum(counts)]), cumulative)


def drawn_at(seed: int, source: str, table: ClassTable, first: int, length: int) -> np.ndarray:
    """Returns the items that are drawn, with replacement, at the positions `first` to `first + length - 1`.

    A class is drawn by the probabilities of the table, then one of its items, all alike.

    Args:
        seed: Seed of the run.
        source: Name of the source.
        table: Its items by class.
        first: First position, 0-based.
        length: Number of positions.

    Returns:
        Item indices [length] int64, 0-based.
    """
    positions = np.arange(first, first + length, dtype=np.uint64)
    class_key, item_key = (np.uint64(derived_seed(seed, "draw", source, part)) for part in ("class", "item"))
    classes = np.searchsorted(table.cumulative, _uniform(positions, class_key), side="right")
    starts, counts = table.starts[classes], np.diff(table.starts)[classes]
    # A float64 has 53 bits, far more than any class has items: no item is favored noticeably.
    positions_in_table = starts + (_uniform(positions, item_key) * counts).astype(np.int64)
    return table.items[positions_in_table].astype(np.int64)


def permuted(keys: tuple[int, ...], count: int, positions: np.ndarray) -> np.ndarray:
    """Returns the images of `positions` under the permutation of 0 .. count - 1 that the round keys choose.

    Args:
        keys: One 64-bit key a round.
        count: Size of the permutation.
        positions: [N] int64, each below `count`.

    Returns:
        [N] int64, each below `count`, different for different positions.
    """
    half_bits = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
    values = positions.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        values[outside] = _feistel(values[outside], half_bits, keys)
        outside = values >= np.uint64(count)
    return values.astype(np.int64)


def _feistel(values: np.ndarray, half_bits: np.uint64, keys: tuple[int, ...]) -> np.ndarray:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ np.uint64(key)) & mask)
    return (left << half_bits) | right


def _uniform(positions: np.ndarray, key: np.uint64) -> np.ndarray:
    """Returns one number in [0, 1) for each position, [N] float64: splitmix64 of counter and key."""
    values = _mixed(_mixed(positions * np.uint64(0x9E3779B97F4A7C15) + key) ^ key)
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(x: np.ndarray) -> np.ndarray:
    # The finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014); its low bits depend on all bits of the input.
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@functools.lru_cache(maxsize=64)
def _round_keys(seed: int, source: str, epoch: int) -> tuple[int, ...]:
    keys = []
    for number in range(NUM_ROUNDS):
        text = f"order\x1f{seed}\x1f{source}\x1f{epoch}\x1f{number}"
        keys.append(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))
    return tuple(keys)
