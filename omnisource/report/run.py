"""The page of a training run, from the files in its work dir."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omnisource.errors import UserError
from omnisource.files.jsonl import read_lines
from omnisource.report import charts
from omnisource.report.intervals import wilson
from omnisource.report.page import Figure, Page, Problem, Table, percent
from omnisource.report.recipes import recipe_rows, recipe_text, source_table
from omnisource.report.resources import energy, reproduction, usage_table
from omnisource.report.sources import SourceResult, read_results, tested_sources
from omnisource.reporting.lines import LOG, clock
from omnisource.reporting.metrics_file import METRICS, UNREADABLE, read_metrics
from omnisource.reporting.provenance.invocations import read_invocations
from omnisource.reporting.records import StepRecord, ValidationRecord
from omnisource.reporting.status_file import RunStatus, is_alive, read_status

RECIPE = "recipe.json"
TESTS = ("test", "checkpoints/test")
"""Where a test of a run may lie below its folder: as `omnisource demo` puts it, and as `omnisource test` does."""

MAX_PROBLEMS = 100
MAX_WARNINGS = 30
_LOG_BYTES = 4 * 2**20


def run_page(folder: Path) -> Page:
    """Returns the page of a run.

    Raises:
        UserError: A file of the run is damaged.
    """
    recipe = _read_recipe(folder)
    has_metrics = (folder / METRICS).exists()
    steps, validations = read_metrics(folder) if has_metrics else ([], [])
    status = read_status(folder)
    starts = read_invocations(folder)
    results = _test_results(folder)
    problems = _read_problems(folder)
    lacks = [lack for result in results for lack in result.lacks]
    if not steps:
        lacks.append("There is no step in metrics.jsonl: nothing was trained, or the file is gone.")
    if not recipe:
        lacks.append("There is no recipe.json.")
    if not starts:
        lacks.append("Command, versions, memory and energy were not noted: the run is of an earlier version.")
    if not results:
        lacks.append(
            "Classes, confusion, calibration and pictures are those of a test, and this run has none yet: "
            "omnisource test CONFIG CHECKPOINT, then omnisource report again."
        )
    return Page(
        kind="run",
        title=folder.resolve().name or str(folder),
        folder=str(folder.resolve()),
        state=_state(status),
        figures=(*_run_figures(steps, validations, status, starts), *test_figures(results)),
        lacks=tuple(lacks),
        recipe=recipe_rows(recipe),
        sources=source_table(recipe),
        recipe_text=recipe_text(recipe),
        charts=_charts(steps, validations),
        validations=_validation_table(validations),
        results=results,
        problems=tuple(problems[:MAX_PROBLEMS]),
        num_problems=len(problems),
        warnings=_warnings(folder),
        resources=tuple(filter(None, [_time_table(steps), usage_table(starts, "Each start of the run")])),
        reproduction=reproduction(starts[-1] if starts else {}),
    )


def test_figures(results: Sequence[SourceResult]) -> tuple[Figure, ...]:
    """Returns the top-1 of each tested source with its interval."""
    return tuple(
        Figure(
            f"{result.split or 'test'} top-1, {result.name}",
            percent(result.top1.value),
            f"95 %: {percent(result.top1.low)} to {percent(result.top1.high)}, {result.count} items",
        )
        for result in results
    )


def _test_results(folder: Path) -> tuple[SourceResult, ...]:
    places = [folder / name for name in TESTS if tested_sources(folder / name)]
    return read_results(places[0]) if places else ()


def _read_recipe(folder: Path) -> dict[str, Any]:
    path = folder / RECIPE
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    return recipe if isinstance(recipe, dict) else {}


def _state(status: RunStatus | None) -> tuple[str, str]:
    if status is None:
        return "", ""
    if status.state == "running" and not is_alive(status):
        return "killed", "its process is gone, and did not say how it ended"
    return status.state, status.reason


def _run_figures(
    steps: Sequence[StepRecord],
    validations: Sequence[ValidationRecord],
    status: RunStatus | None,
    starts: Sequence[Mapping[str, Any]],
) -> tuple[Figure, ...]:
    figures = []
    if status is not None and status.best_score is not None:
        figures.append(Figure("best validation top-1", percent(status.best_score), f"at step {status.best_step}"))
    if steps:
        last = steps[-1]
        figures.append(Figure("steps", f"{last.step}", f"of {last.total_steps}, epoch {last.epoch}"))
        seconds = sum(record.step_seconds for record in steps)
        waited = sum(record.data_seconds for record in steps)
        remark = f"{waited / seconds:.0%} of it waiting for data" if seconds else ""
        figures.append(Figure("time of training", clock(seconds), remark))
    counted = {}
    for start in starts:
        for name in ("processor_joules", "gpu_joules"):
            if name in start["usage"]:
                counted[name] = counted.get(name, 0.0) + start["usage"][name]
    if counted:
        figures.append(Figure("energy", energy(counted), "of the whole machine"))
    return tuple(figures)


def _charts(steps: Sequence[StepRecord], validations: Sequence[ValidationRecord]) -> tuple[charts.Chart, ...]:
    drawn = []
    losses = []
    for source in dict.fromkeys(source for record in steps for source in record.losses):
        records = [record for record in steps if source in record.losses]
        losses.append(charts.Series(source, [r.step for r in records], [r.losses[source] for r in records]))
    if losses:
        drawn.append(charts.draw("Training loss", losses))
    for metric, title in (("top1", "top-1"), ("top5", "top-5"), ("mean_class_accuracy", "mean class accuracy")):
        series = []
        for name in dict.fromkeys(name for record in validations for name in record.metrics):
            if name.removeprefix("ema_") != metric:
                continue
            for source in dict.fromkeys(record.source for record in validations):
                found = [r for r in validations if r.source == source and name in r.metrics]
                if found:
                    label = f"{source}, averaged weights" if name != metric else source
                    values = [100 * record.metrics[name] for record in found]
                    series.append(charts.Series(label, [record.step for record in found], values, has_marks=True))
        if series:
            drawn.append(charts.draw(f"Validation {title}, %", series, (0.0, 100.0)))
    if steps:
        rates = charts.Series("learning rate", [r.step for r in steps], [r.learning_rate for r in steps])
        norms = charts.Series("gradient norm", [r.step for r in steps], [r.gradient_norm for r in steps])
        drawn += [charts.draw("Learning rate", [rates]), charts.draw("Gradient norm, before clipping", [norms])]
    return tuple(drawn)


def _validation_table(validations: Sequence[ValidationRecord]) -> Table | None:
    rows = []
    for source in dict.fromkeys(record.source for record in validations):
        found = [record for record in validations if record.source == source and "top1" in record.metrics]
        best = max(found, key=lambda record: record.metrics["top1"], default=None)
        for which, record in (("last", found[-1] if found else None), ("best", best)):
            if record is not None:
                rows.append((source, which, record.step, *_shares(record.metrics)))
    columns = ("source", "which", "step", "top-1", "95 %", "top-5", "mean class", "items")
    remark = "Intervals are Wilson's, of items taken as independent. The best of many validations is too good a figure."
    return Table("Validations", columns, tuple(rows), remark) if rows else None


def _shares(metrics: Mapping[str, float]) -> tuple[Any, ...]:
    count = int(metrics.get("count", 0))
    share = wilson(metrics["top1"] * count, count) if count else None
    return (
        (percent(metrics["top1"]), metrics["top1"]),
        f"{percent(share.low)} to {percent(share.high)}" if share else "",
        *(
            (percent(metrics[name]), metrics[name]) if name in metrics else ""
            for name in ("top5", "mean_class_accuracy")
        ),
        count or "",
    )


def _time_table(steps: Sequence[StepRecord]) -> Table | None:
    if not steps:
        return None
    seconds = sum(record.step_seconds for record in steps) or 1e-9
    samples: dict[str, int] = {}
    for record in steps:
        for source, count in record.samples.items():
            samples[source] = samples.get(source, 0) + count
    rows = tuple((source, count, f"{count / seconds:.1f}") for source, count in samples.items())
    return Table("Samples of the steps", ("source", "samples", "samples/s"), rows)


def _read_problems(folder: Path) -> list[Problem]:
    """Returns each file that could not be read once, with how often that mattered."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in read_lines(folder / UNREADABLE):
        if "path" in line and "kind" in line:
            found.setdefault(str(line["path"]), []).append(line)
    problems = []
    for path, lines in found.items():
        replaced = sum(line["kind"] == "training" for line in lines)
        left_out = len(lines) - replaced
        parts = [f"replaced in {replaced} training samples"] if replaced else []
        parts += [f"left out of {left_out} validations"] if left_out else []
        problems.append(Problem(path, str(lines[-1].get("reason", "")), ", ".join(parts)))
    return problems


def _warnings(folder: Path) -> tuple[str, ...]:
    """Returns the warnings at the end of the log, each once."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, (folder / LOG).stat().st_size - _LOG_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ()
    texts = (line.partition("  ")[2] for line in lines)
    found = dict.fromkeys(text for text in texts if text.startswith("warning: "))
    return tuple(text.removeprefix("warning: ") for text in found)[-MAX_WARNINGS:]
