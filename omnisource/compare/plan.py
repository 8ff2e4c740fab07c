"""The runs of an experiment: a function of the experiment, its lists, and what validation said so far."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from omnisource.checkpoints.file import checkpoint_path
from omnisource.compare.budget import Spent, step_cost, with_steps
from omnisource.compare.experiment import Change, Experiment
from omnisource.compare.lists import PlannedFiles, fold_rows, with_fold, with_stills
from omnisource.compare.subsets import Row
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.errors import UserError
from omnisource.recipe.keys import leaves
from omnisource.recipe.overrides import apply_overrides
from omnisource.recipe.plain import to_json
from omnisource.recipe.recipe import Recipe

Values = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Cell:
    """Where a run stands in the experiment; runs of one cell differ in seed and values only."""

    budget: str
    amount: int | None
    fold: str
    variant: str

    @property
    def name(self) -> str:
        """Its part of the names of runs."""
        return f"{self.budget}/{'all' if self.amount is None else self.amount}/{self.fold}/{self.variant}"


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        name: Folder of the run, below `runs`.
        spent: Its recipe, and what it costs, without a stage before.
        before: Name of the run whose weights it starts from; "" for none.
        splits: What is scored after it.
        cell: Where it stands; None for a stage before, which several cells may share.
        seed: Of the run.
        values: Keys of the grid and their values.
    """

    name: str
    spent: Spent
    before: str = ""
    splits: tuple[Literal["validation", "test"], ...] = ()
    cell: Cell | None = None
    seed: int = 0
    values: Values = ()


class Planner:
    """Makes the runs of an experiment.

    Args:
        experiment: What is compared.
        folder: Of the comparison.

    Attributes:
        files: What the runs will read and nobody has written yet.
    """

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        self._experiment = experiment
        self._folder = folder
        self.files = PlannedFiles(folder)
        self._rows: dict[str, dict[str, list[Row]]] = {}
        self._jobs: dict[tuple[Cell, int, Values], list[Job]] = {}
        known = dict(leaves(experiment.recipe))
        if missing := [key for key in experiment.grid if key not in known]:
            raise UserError(f"grid: {', '.join(missing)}: no keys of the base recipe")

    def cells(self) -> Iterator[Cell]:
        """Yields all cells."""
        e = self._experiment
        for budget, amount, fold, variant in itertools.product(e.budgets, e.amounts, e.folds, e.variants):
            yield Cell(budget, amount, fold, variant)

    def choices(self) -> list[Values]:
        """Returns all combinations of the grid."""
        grid = self._experiment.grid
        return [tuple(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]

    def tuning(self, cell: Cell) -> list[Job]:
        """Returns the runs that the values of a cell are chosen with, stages before them first; none for one choice."""
        choices = self.choices()
        seed = self._experiment.tuning_seed
        return [job for values in choices for job in self.runs(cell, seed, values)] if len(choices) > 1 else []

    def chosen(self, cell: Cell, score: Callable[[str], float | None]) -> Values | None:
        """Returns the values with the highest validation score, the first of equal ones; None while one is missing."""
        choices = self.choices()
        if len(choices) == 1:
            return choices[0]
        scores = [score(self.runs(cell, self._experiment.tuning_seed, values)[-1].name) for values in choices]
        known = [value for value in scores if value is not None]
        return choices[scores.index(max(known))] if len(known) == len(scores) else None

    def runs(self, cell: Cell, seed: int, values: Values) -> list[Job]:
        """Returns the run of a cell, seed and values, behind the stage before it where it has one."""
        key = (cell, seed, values)
        if key not in self._jobs:
            self._jobs[key] = self._made(cell, seed, values)
        return self._jobs[key]

    def _made(self, cell: Cell, seed: int, values: Values) -> list[Job]:
        variant = self._experiment.variants[cell.variant]
        budget = self._experiment.budgets[cell.budget]
        recipe, counts = self._recipe(variant.change, cell, seed, values)
        stage = self._recipe(variant.pretraining, cell, seed, values) if variant.pretraining else None
        steps, stage_steps = float(budget.video_steps), float(budget.video_steps)
        if budget.equal == "compute":
            of = self._recipe(self._experiment.variants[budget.of].change, cell, seed, values)
            total = budget.video_steps * step_cost(*of)
            share = variant.pretraining_share if stage else 0.0
            steps = (1 - share) * total / step_cost(recipe, counts)
            stage_steps = share * total / step_cost(*stage) if stage else 0.0
        jobs = []
        if stage is not None:
            spent = with_steps(stage[0], stage_steps, stage[1])
            name = f"pretraining/{hashlib.blake2b(to_json(spent.recipe).encode(), digest_size=6).hexdigest()}"
            jobs.append(Job(name, spent, seed=seed, values=values))
            weights = str(checkpoint_path(self._folder.absolute() / "runs" / name, spent.steps))
            recipe = replace(recipe, model=replace(recipe.model, weights=weights))
        label = ",".join(f"{key.split('.')[-1]}={value}" for key, value in values) or "base"
        is_tuning = seed == self._experiment.tuning_seed and seed not in self._experiment.seeds
        jobs.append(
            Job(
                f"{cell.name}/{label}/seed{seed}",
                with_steps(recipe, steps, counts),
                before=jobs[0].name if jobs else "",
                splits=("validation",) if is_tuning else ("validation", "test"),
                cell=cell,
                seed=seed,
                values=values,
            )
        )
        return jobs

    def _recipe(self, change: Change, cell: Cell, seed: int, values: Values) -> tuple[Recipe, dict[str, int]]:
        """Returns the recipe of a variant or stage in a cell, and the training items of its sources."""
        try:
            recipe = replace(change(self._experiment.recipe), seed=seed)
        except ValueError as error:
            raise UserError(f"variant {cell.variant}: {error}") from None
        known = dict(leaves(recipe))
        recipe = apply_overrides(recipe, [f"{key}={value}" for key, value in values if key in known])
        counts = {}
        if (main := self._experiment.recipe.main_source) in recipe.sources:
            if cell.fold not in self._rows:
                self._rows[cell.fold] = fold_rows(self._experiment, cell.fold)
            choice = (cell.amount, seed)
            rows = self._rows[cell.fold]
            recipe, counts[main] = with_fold(recipe, self._experiment, rows, choice, self.files)
        recipe, of_stills = with_stills(recipe, self.files)
        recipe, names = resolve_classes(recipe)
        if main in recipe.sources:
            self._check_groups(names[recipe.sources[main].label_space])
        counts |= of_stills
        for name in recipe.sources:
            if name not in counts:
                items = read_split(recipe, names, name, "train")
                assert items is not None
                counts[name] = len(items)
        return recipe, counts

    def _check_groups(self, classes: Sequence[str]) -> None:
        for name, group in self._experiment.class_groups.items():
            unknown = [member for member in group if member not in classes]
            if unknown or not group:
                said = ", ".join(map(repr, unknown)) or "it is empty"
                raise UserError(f"class_groups {name}: {said}; the classes are {', '.join(classes)}")
