"""The results of an experiment: comparison.json, runs.csv, scores.npz, a figure and a table. docs/comparing.md."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omnisource.compare.experiment import Experiment
from omnisource.compare.figure import draw_comparison
from omnisource.compare.job_files import is_done, score_files
from omnisource.compare.plan import Cell, Job
from omnisource.compare.run import Runner
from omnisource.compare.statistics import Estimate, estimate, mcnemar
from omnisource.errors import UserError
from omnisource.files.atomic import atomic_path, atomic_write
from omnisource.printing import show
from omnisource.reporting.metrics_file import read_metrics
from omnisource.reporting.tables import print_table

FORM = 1
"""Version of comparison.json."""


@dataclass(frozen=True)
class _Run:
    """A run that is done: its jobs, and [items] keys, labels and predictions of its test items."""

    job: Job
    stage: Job | None
    keys: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray


def write_comparison(experiment: Experiment, runner: Runner, folder: Path) -> None:
    """Writes what is there of an experiment, and prints the table."""
    runs, classes = _read_runs(experiment, runner)
    if not runs:
        show("no run is done: nothing to compare")
        return
    rows = [_row(run, runner) for run in runs.values()]
    missing = len(runner.left(of_all=True))
    groups_of = {name: [classes.index(member) for member in group] for name, group in experiment.class_groups.items()}
    groups, differences = [], []
    for budget, amount in itertools.product(experiment.budgets, experiment.amounts):
        stacked = {v: _stacked(experiment, runs, (budget, amount, v)) for v in experiment.variants}
        whole = {variant: value for variant, value in stacked.items() if value is not None}
        where = {"budget": budget, "amount": amount}
        for variant, (correct, clusters, labels, _) in whole.items():
            of_seeds = dict(zip(map(str, experiment.seeds), correct.mean(axis=1).tolist(), strict=True))
            groups.append(
                {
                    **where,
                    "variant": variant,
                    **_plain(estimate(correct, clusters, lowest=0.0)),
                    "seeds": of_seeds,
                    "spread": _finite(float(correct.mean(axis=1).std(ddof=1))) if len(correct) > 1 else None,
                    "classes": _by_class(correct, labels, classes),
                    "groups": _by_group(correct, clusters, labels, groups_of, lowest=0.0),
                }
            )
        for ours, theirs in itertools.combinations(whole, 2):
            difference = whole[ours][0] - whole[theirs][0]
            pairs = [mcnemar(a, b) for a, b in zip(whole[ours][0], whole[theirs][0], strict=True)]
            tests = [
                {"seed": s, "won": w, "lost": lost, "p": p}
                for s, (w, lost, p) in zip(experiment.seeds, pairs, strict=True)
            ]
            _, clusters, labels, _ = whole[ours]
            differences.append(
                {
                    **where,
                    "ours": ours,
                    "theirs": theirs,
                    **_plain(estimate(difference, clusters)),
                    "mcnemar": tests,
                    "classes": _by_class(difference, labels, classes),
                    "groups": _by_group(difference, clusters, labels, groups_of, lowest=-1.0),
                }
            )
    content = {
        "form": FORM,
        "seeds": list(experiment.seeds),
        "folds": list(experiment.folds),
        "amount_unit": experiment.amount_unit,
        "classes": classes,
        "class_groups": {name: list(group) for name, group in experiment.class_groups.items()},
        "tuning": _tuning(runner),
        "runs": rows,
        "variants": groups,
        "differences": differences,
        "failed": runner.failed,
        "missing": missing,
    }
    with atomic_write(folder / "comparison.json") as file:
        file.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    _write_csv(folder / "runs.csv", rows)
    arrays = {
        f"{name}/{part}": getattr(run, part) for name, run in runs.items() for part in ("keys", "labels", "predicted")
    }
    with atomic_path(folder / "scores.npz") as path, open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
    figure = draw_comparison(content, folder / "comparison.svg")
    _print(groups, differences)
    if missing:
        show(f"{missing} runs are not done; a variant with a missing run is in none of the tables above")
    _print_edges(experiment, rows)
    _print_cost(rows)
    show(f"results: {folder / 'comparison.json'}, {folder / 'runs.csv'}, {folder / 'scores.npz'}, {figure}")


def _read_runs(experiment: Experiment, runner: Runner) -> tuple[dict[str, _Run], list[str]]:
    runs, classes = {}, []
    tested: dict[str, tuple[np.ndarray, Path]] = {}
    for cell in runner.planner.cells():
        values = runner.planner.chosen(cell, runner.score)
        if values is None:
            continue
        for seed in experiment.seeds:
            *stages, job = runner.planner.runs(cell, seed, values)
            folder = runner.folder_of(job.name)
            if is_done(folder, job.splits):
                scores, summary = score_files(folder, "test")
                classes = json.loads(summary.read_text())["classes"]
                with np.load(scores) as arrays:
                    found = [arrays[part] for part in ("keys", "labels", "predicted")]
                keys, first = tested.setdefault(cell.fold, (found[0], scores))
                if not np.array_equal(keys, found[0]):
                    raise UserError(
                        f"{scores}: other items were tested than for {first}; perhaps files could not be read. Remove "
                        "the one with fewer items, and the same command tests that run again."
                    )
                runs[job.name] = _Run(job, stages[0] if stages else None, *found)
    return runs, classes


def _tuning(runner: Runner) -> list[dict[str, Any]]:
    """Returns what was tried to choose values, and how it did on validation."""
    jobs = [job for cell in runner.planner.cells() for job in runner.planner.tuning(cell) if job.cell]
    return [
        {**asdict(job.cell), "values": dict(job.values), "validation_top1": runner.score(job.name)}
        for job in jobs
        if job.cell and runner.score(job.name) is not None
    ]


def _stacked(
    experiment: Experiment, runs: dict[str, _Run], place: tuple[str, int | None, str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Returns correct [seeds, items], clusters, labels and keys [items] of all folds; None where a run is missing."""
    budget, amount, variant = place
    of_cell = {(run.job.cell, run.job.seed): run for run in runs.values()}
    cells = [Cell(budget, amount, fold, variant) for fold in experiment.folds]
    wanted = [[of_cell.get((cell, seed)) for cell in cells] for seed in experiment.seeds]
    first = wanted[0]
    if any(run is None for row in wanted for run in row):
        return None
    correct = np.stack([np.concatenate([run.predicted == run.labels for run in row if run]) for row in wanted])
    keys = np.concatenate([run.keys for run in first if run])
    labels = np.concatenate([run.labels for run in first if run])
    # A cluster may be tested in several folds, as where one set is tested under several conditions: it is one cluster.
    return correct.astype(float), np.array([experiment.cluster_of(str(key)) for key in keys]), labels, keys


def _by_class(values: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    return {name: float(values[:, labels == k].mean()) for k, name in enumerate(classes) if (labels == k).any()}


def _by_group(
    values: np.ndarray, clusters: np.ndarray, labels: np.ndarray, groups: Mapping[str, Sequence[int]], lowest: float
) -> dict[str, Any]:
    chosen = {name: np.isin(labels, group) for name, group in groups.items()}
    return {name: _plain(estimate(values[:, of], clusters[of], lowest)) for name, of in chosen.items() if of.any()}


def _row(run: _Run, runner: Runner) -> dict[str, Any]:
    job, cell = run.job, run.job.cell
    assert cell is not None
    steps, validations = read_metrics(runner.folder_of(job.name))
    seconds = sum(record.step_seconds for record in steps)
    stage_seconds = 0.0
    if run.stage is not None:
        stage_seconds = sum(record.step_seconds for record in read_metrics(runner.folder_of(run.stage.name))[0])
    main = job.spent.recipe.main_source
    return {
        **asdict(cell),
        "seed": job.seed,
        "values": {key: value for key, value in job.values},
        "test_top1": float((run.predicted == run.labels).mean()),
        "validation_top1": runner.score(job.name),
        "steps": job.spent.steps,
        "stage_steps": run.stage.spent.steps if run.stage else 0,
        "multiply_adds": job.spent.multiply_adds + (run.stage.spent.multiply_adds if run.stage else 0),
        "training_seconds": seconds,
        "stage_seconds": stage_seconds,
        "curve": [[record.step, record.metrics["top1"]] for record in validations if record.source == main],
        "folder": f"runs/{job.name}",
    }


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [key for key in rows[0] if key != "curve"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows({**row, "values": json.dumps(row["values"])} for row in rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _plain(result: Estimate) -> dict[str, Any]:
    return {key: _finite(value) if isinstance(value, float) else value for key, value in asdict(result).items()}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _print(groups: list[dict[str, Any]], differences: list[dict[str, Any]]) -> None:
    """Prints means and differences, of all classes and of groups of them, and why some have no interval."""
    names = ("mean", "low", "high", "seed_deviation", "sampling_deviation")
    header = ["budget", "amount", "mean", "low", "high", "of seeds", "of items"]
    reasons: dict[str, list[str]] = {}

    def line(name: str, place: dict[str, Any], numbers: dict[str, Any], *more: str) -> list[str]:
        where = [place["budget"], _amount(place)]
        if numbers["no_interval"]:
            reasons.setdefault(numbers["no_interval"], []).append(f"{name} ({', '.join(where)})")
        shown = ["-" if numbers[key] is None else f"{100 * numbers[key]:.1f}" for key in (*names, *more)]
        return [name, *where, *shown]

    pairs = [(f"{row['ours']} - {row['theirs']}", row) for row in differences]
    rows = [line(row["variant"], row, row, "spread") for row in groups]
    print_table("Top-1 on test items, %", ["variant", *header, "spread"], rows)
    rows = [line(name, row, row) for name, row in pairs]
    print_table("Paired differences, points, 95 % intervals", ["difference", *header], rows)
    parts = [(row["variant"], row) for row in groups] + pairs
    if rows := [line(f"{name}: {of}", row, part) for name, row in parts for of, part in row["groups"].items()]:
        print_table("Groups of classes, % and points, 95 % intervals", ["classes", *header], rows)
    for reason, of in reasons.items():
        show(f"no interval can be estimated, {reason}: {', '.join(of[:3])}{' ...' if len(of) > 3 else ''}")


def _print_edges(experiment: Experiment, runs: list[dict[str, Any]]) -> None:
    """Prints where the highest or the lowest number of a grid was chosen, since one beyond it might be better."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for key, value in run["values"].items():
            tried = experiment.grid[key]
            numbers = [v for v in tried if isinstance(v, int | float) and not isinstance(v, bool)]
            if len(tried) > 1 and len(numbers) == len(tried) and value in (min(numbers), max(numbers)):
                where = f"{run['variant']} ({run['budget']}, {_amount(run)}, {run['fold']})"
                names = found.setdefault(f"{key}={value}", [])
                if where not in names:
                    names.append(where)
    for what, names in found.items():
        show(f"chosen at the edge of the grid, so a value beyond it might be better: {what}: {', '.join(names)}")


def _amount(row: dict[str, Any]) -> str:
    return "all" if row["amount"] is None else str(row["amount"])


def _print_cost(runs: list[dict[str, Any]]) -> None:
    """Prints what a run of each variant costs on average, both stages together."""
    rows = []
    for budget, variant in dict.fromkeys((run["budget"], run["variant"]) for run in runs):
        of_variant = [run for run in runs if (run["budget"], run["variant"]) == (budget, variant)]
        cost = np.mean([run["multiply_adds"] for run in of_variant]) / 1e9
        seconds = np.mean([run["training_seconds"] + run["stage_seconds"] for run in of_variant])
        rows.append([variant, budget, str(len(of_variant)), f"{cost:.1f} G", f"{seconds:.0f} s"])
    print_table("Cost of a run", ["variant", "budget", "runs", "multiply-adds", "training"], rows)
