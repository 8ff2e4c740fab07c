"""Confusion matrices that can be read with many classes: classes that are confused stand side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omnisource.evaluation.results.predictions import Prediction
from omnisource.printing import printable_name

MAX_NAMED = 60
"""Classes whose names stand at the axes."""

MAX_ORDERED = 1500
"""Classes that are put in order by what they are confused with: it takes a second."""

MAX_CELLS = 20_000
"""Cells that are drawn; with more of them, those with the most items."""

LEVELS = (0.05, 0.15, 0.35, 0.65)
"""Shares of a class at which the color of a cell changes."""

MAX_PAIRS = 40


@dataclass(frozen=True)
class Pair:
    """Two classes, one of which is taken for the other: how many items, and of how many."""

    label: str
    prediction: str
    count: int
    of: int


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix as it is drawn; one unit of length is a class.

    Attributes:
        size: Number of classes.
        names: Names of the classes in the order of rows and columns.
        right: Data of an SVG path for each level of color: cells of the diagonal.
        wrong: The same for all other cells.
        cells: Row, column and count of all cells that are drawn.
        counts: Items of each row.
        pairs: The most frequent confusions.
        is_ordered: Whether classes that are confused stand side by side; else they have the order of the recipe.
        num_hidden: Cells with items that are not drawn.
    """

    size: int
    names: tuple[str, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    cells: tuple[tuple[int, int, int], ...]
    counts: tuple[int, ...]
    pairs: tuple[Pair, ...]
    is_ordered: bool
    num_hidden: int

    @property
    def is_named(self) -> bool:
        """Returns whether there is place for the names of the classes."""
        return self.size <= MAX_NAMED


def confusion_of(rows: Sequence[Prediction], classes: Sequence[str]) -> Confusion:
    """Returns the confusion matrix of predictions."""
    cells = Counter((row.label, row.top[0][0]) for row in rows)
    counts = Counter(row.label for row in rows)
    is_ordered = 3 <= len(classes) <= MAX_ORDERED
    order = _order(cells, counts, len(classes)) if is_ordered else np.arange(len(classes))
    place = np.empty(len(classes), int)
    place[order] = np.arange(len(classes))
    frequent = cells.most_common()
    paths: dict[bool, list[list[str]]] = {kind: [[] for _ in range(len(LEVELS) + 1)] for kind in (True, False)}
    drawn = [(int(place[label]), int(place[taken]), count) for (label, taken), count in frequent[:MAX_CELLS]]
    placed_counts = tuple(counts[int(index)] for index in order)
    for row, column, count in drawn:
        level = int(np.searchsorted(LEVELS, count / placed_counts[row], side="right"))
        paths[row == column][level].append(f"M{column} {row}h1v1h-1z")
    names = [printable_name(name) for name in classes]
    mistakes = [((label, taken), count) for (label, taken), count in frequent if label != taken][:MAX_PAIRS]
    return Confusion(
        size=len(classes),
        names=tuple(names[int(index)] for index in order),
        right=tuple(map("".join, paths[True])),
        wrong=tuple(map("".join, paths[False])),
        cells=tuple(drawn),
        counts=placed_counts,
        pairs=tuple(Pair(names[label], names[taken], count, counts[label]) for (label, taken), count in mistakes),
        is_ordered=is_ordered,
        num_hidden=len(frequent) - len(drawn),
    )


def _order(cells: Counter[tuple[int, int]], counts: Counter[int], num_classes: int) -> np.ndarray:
    """Returns class indices such that classes which are confused are near one another.

    Classes are joined to chains, ends first that are confused most, until one chain is left; those that are confused
    with none keep their order.
    """
    weights: dict[tuple[int, int], float] = {}
    for (label, taken), count in cells.items():
        if label != taken:
            pair = min(label, taken), max(label, taken)
            weights[pair] = weights.get(pair, 0.0) + count / counts[label]
    chains = {index: [index] for index in range(num_classes)}  # by each of their members
    for (one, other), _ in sorted(weights.items(), key=lambda entry: (-entry[1], entry[0])):
        first, second = chains[one], chains[other]
        if first is second:
            continue
        # The two members come as near to one another as they can.
        if first.index(one) < len(first) / 2:
            first.reverse()
        if second.index(other) > (len(second) - 1) / 2:
            second.reverse()
        first.extend(second)
        for member in second:
            chains[member] = first
    done: dict[int, list[int]] = {}
    for index in range(num_classes):
        done.setdefault(id(chains[index]), chains[index])
    return np.array([member for chain in done.values() for member in chain])
