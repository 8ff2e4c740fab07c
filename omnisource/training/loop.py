"""The steps of a run, and the validations and checkpoints between them."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence

from omnisource.data.lists.items import Items
from omnisource.data.loading.loader import Loader
from omnisource.data.loading.unreadable import LeftOut, UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.distributed import processes
from omnisource.evaluation.classifier import Scored
from omnisource.evaluation.evaluate import EvaluationTask, evaluate
from omnisource.evaluation.examples import Example, Examples, draw_examples
from omnisource.models.recognizer import Recognizer
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.null_report import NullReport
from omnisource.reporting.report import Report
from omnisource.training.plan import Plan
from omnisource.training.resume import Interrupted, StopAsked
from omnisource.training.saver import Saver
from omnisource.training.state import TrainState
from omnisource.training.step import Stepper


def do_steps(
    state: TrainState,
    plan: Plan,
    loader: Loader,
    stepper: Stepper,
    saver: Saver,
    report: Report | NullReport,
    validate: Callable[[], bool],
    awaits_validation: Callable[[], bool],
    stop: Sequence[int],
) -> bool:
    """Does the steps that are left, and validates and saves where it is due.

    Returns:
        Whether there was a step to do: a run can have stopped before its last validation.

    Raises:
        Interrupted: If a signal asked the run to stop; it is saved.
    """
    is_trained = False
    while state.step < plan.total_steps or awaits_validation():
        stop_signal, is_saving_due = 0, False
        is_made_up = awaits_validation()  # the run was stopped between the last step of an epoch and its validation
        if not is_made_up:
            is_trained = True
            with saver.saved_if_failing():
                saver.raise_failure()
                started = time.perf_counter()
                microbatches = next(loader)
                data_seconds = time.perf_counter() - started
                result = stepper.step(microbatches, data_seconds, asks_saving=saver.is_due_by_clock())
            step_seconds = time.perf_counter() - started
            # Another process may have begun to wait a little earlier than this one.
            data_seconds = min(result.record.data_seconds, step_seconds)
            report.step(dataclasses.replace(result.record, step_seconds=step_seconds, data_seconds=data_seconds))
            if result.skipped:
                report.message(result.skipped)
            stop_signal, is_saving_due = result.stop_signal, result.is_saving_asked or saver.is_due()

        is_best = False
        if awaits_validation() and not stop_signal:
            if is_saving_due or processes.world_size() > 1:
                # A validation is long, and the process may be killed in it; several do not stop within one.
                saver.save()
            saver.agree()
            try:
                with saver.saved_if_failing():
                    is_best = validate()
            except StopAsked:
                stop_signal = stop[0]
        if stop_signal or is_best or is_made_up or is_saving_due:
            saved = saver.save(is_best=is_best)
            if stop_signal and (state.step < plan.total_steps or awaits_validation()):
                processes.run_on_rank0(saver.wait)  # who leaves before it is saved may make a launcher end all
                report.stopped(stop_signal, saved)
                raise Interrupted(stop_signal, saved)
    return is_trained


def validate(
    recipe: Recipe,
    recognizer: Recognizer,
    state: TrainState,
    plan: Plan,
    validation_items: Mapping[str, Items],
    class_names: Mapping[str, Sequence[str]],
    workers: WorkerPool,
    unreadable: UnreadableLog,
    report: Report | NullReport,
    stop: Sequence[int],
) -> bool:
    """Validates every source that has validation items; returns whether the main one is better than ever.

    Raises:
        StopAsked: If a signal came before the end, and there is one process: several could not agree at once.
    """
    found: dict[str, dict[str, float]] = {}
    shown: dict[str, list[Example]] = {}
    left_out: dict[str, Sequence[LeftOut]] = {}
    for name, items in validation_items.items():
        examples = Examples(len(items))
        space = recipe.sources[name].label_space
        task = EvaluationTask(recipe, name, "validation", items)
        share = len(task.local_indices)
        advance = report.validating(name, share if state.ema is None else 2 * share)
        run = functools.partial(
            evaluate,
            recognizer,
            task,
            workers,
            unreadable,
            on_item=functools.partial(_after_item, stop, advance, examples, space),
        )
        evaluation = run()
        found[name], left_out[name] = evaluation.metrics.as_dict(), evaluation.left_out
        if state.ema is not None:
            with state.ema.applied(recognizer):
                averaged = run().metrics.as_dict()
            found[name] |= {f"ema_{figure}": value for figure, value in averaged.items() if figure != "count"}
        shown[name] = examples.gather()
    for name, metrics in found.items():
        report.validation(state.step, state.step // plan.epoch_steps, name, metrics)
        report.left_out(state.step, name, left_out[name])
        if shown[name]:
            names = class_names[recipe.sources[name].label_space]
            report.picture(state.step, f"examples/{name}", functools.partial(draw_examples, shown[name], names))
    # Who keeps an average uses it in the end, so it chooses the best.
    score = found.get(recipe.main_source, {}).get("top1" if state.ema is None else "ema_top1")
    is_best = score is not None and (state.best_score is None or score > state.best_score)
    if is_best:
        report.best(score, state.step)
        state.best_score, state.best_step = score, state.step
    state.validated_step = state.step  # last, so that a validation that failed at its end is done again
    return is_best


def _after_item(
    stop: Sequence[int], advance: Callable[[], None], examples: Examples, head: str, index: int, scored: Scored | None
) -> None:
    """Counts an item of a validation, and raises StopAsked if a signal has come and there is one process."""
    advance()
    if scored is not None:
        examples.add(index, scored.clip, scored.scores[head])
    if stop and processes.world_size() == 1:
        raise StopAsked
