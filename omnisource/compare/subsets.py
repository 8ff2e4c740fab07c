"""Which labeled clips a run may use: whole clusters in a random order, so that a smaller amount is in a larger one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from omnisource.randomness import derived_seed

Row = tuple[str, int]
"""Path and label of a clip."""


def subset(
    rows: Sequence[Row],
    amount: int | None,
    unit: Literal["clips", "clusters"],
    cluster_of: Callable[[str], str],
    seed: int,
) -> list[Row]:
    """Returns so many clips, or all clips of so many clusters, of each class, in the order of the list.

    Args:
        rows: The clips.
        amount: How many of each class; all of a class that has fewer. None: all.
        unit: What is counted. Of clips, whole clusters are taken, and a part of the last.
        cluster_of: Gives the cluster of a path.
        seed: Decides the order of the clusters.
    """
    if amount is None:
        return list(rows)
    chosen: set[int] = set()
    for label in sorted({label for _, label in rows}):
        clusters = _clusters(rows, label, cluster_of)
        order = [clusters[name] for name in shuffled(sorted(clusters), seed, "subset", label)]
        if unit == "clusters":
            order = order[:amount]
        positions = [position for cluster in order for position in cluster]
        chosen.update(positions if unit == "clusters" else positions[:amount])
    return [row for position, row in enumerate(rows) if position in chosen]


def split_off(
    rows: Sequence[Row], share: float, cluster_of: Callable[[str], str], name: str
) -> tuple[list[Row], list[Row]]:
    """Returns (training, validation) rows: of each class a share of the clusters, at least one, is set apart.

    A cluster with clips of several classes goes as a whole. `name` decides which.

    Raises:
        ValueError: A class would have nothing left to train on.
    """
    apart: set[str] = set()
    for label in sorted({label for _, label in rows}):
        names = shuffled(sorted(_clusters(rows, label, cluster_of)), 0, "validation", name, label)
        apart.update(names[: max(1, round(share * len(names)))])
    training = [row for row in rows if cluster_of(row[0]) not in apart]
    if missing := {label for _, label in rows} - {label for _, label in training}:
        raise ValueError(f"fold {name}: classes {sorted(missing)} have too few clusters to set a part apart")
    return training, [row for row in rows if cluster_of(row[0]) in apart]


def shuffled(names: Sequence[str], *parts: int | str) -> list[str]:
    """Returns the names in an order that the parts decide."""
    order = np.random.Generator(np.random.PCG64(derived_seed(*parts))).permutation(len(names))
    return [names[int(position)] for position in order]


def _clusters(rows: Sequence[Row], label: int, cluster_of: Callable[[str], str]) -> dict[str, list[int]]:
    clusters: dict[str, list[int]] = {}
    for position, (path, of_row) in enumerate(rows):
        if of_row == label:
            clusters.setdefault(cluster_of(path), []).append(position)
    return clusters
