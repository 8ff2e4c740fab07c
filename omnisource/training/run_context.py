"""What stays as it is while a run trains: all that its parts share, in one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from omnisource.data.lists.items import Items
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.report import Report
from omnisource.training.plan import Plan


@dataclass(frozen=True)
class RunContext:
    """A run but for what its steps change, which is in the `TrainState`.

    Attributes:
        recipe: The run.
        plan: What follows from the recipe and the counts of its items.
        class_names: Class names by label space.
        facts: What checkpoints remember of how the run was made.
        train_items: Training items by source.
        validation_items: Validation items by source, for those that have any.
        device: Where the model is.
        work_dir: Where checkpoints, and batches that are not finite, go.
        report: Is told what happens; on all processes but the first it tells nobody.
        workers: Load the samples.
        unreadable: The files that could not be read.
        stop: The signals that this process has received.
    """

    recipe: Recipe
    plan: Plan
    class_names: Mapping[str, tuple[str, ...]]
    facts: dict[str, Any]
    train_items: Mapping[str, Items]
    validation_items: Mapping[str, Items]
    device: torch.device
    work_dir: Path
    report: Report
    workers: WorkerPool
    unreadable: UnreadableLog
    stop: Sequence[int]
