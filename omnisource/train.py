"""Training: build, resume, loop, validate. Reads from top to bottom."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch.amp.grad_scaler import GradScaler

from omnisource import distributed
from omnisource.data.annotations import Items
from omnisource.data.loader import Loader
from omnisource.data.stream import Stream
from omnisource.data.unreadable import LeftOut, UnreadableLog
from omnisource.data.workers import WorkerPool
from omnisource.errors import UserError, shortened
from omnisource.evaluate import evaluate
from omnisource.examples import Example, Examples, draw_examples
from omnisource.models.batch_norm import synchronize_batch_norm
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights import load_initial_weights
from omnisource.plan import (
    Plan,
    describe_plan,
    plan,
    read_splits,
    require_data,
    resolve_classes,
    with_scaled_learning_rate,
)
from omnisource.randomness import make_deterministic, seed_initialization
from omnisource.recipe import Recipe
from omnisource.resume import (
    Interrupted,
    StopAsked,
    check_same_run,
    find_checkpoint,
    full_disk_named,
    prepare_work_dir,
    resume_notes,
    run_facts,
    set_aside_later_files,
    stop_signals,
    with_same_microbatches,
)
from omnisource.saving import Saver
from omnisource.step import Stepper
from omnisource.training.checkpoint import best_path, checkpoint_path, read_checkpoint
from omnisource.training.ema import Ema
from omnisource.training.optimizer import build_optimizer
from omnisource.training.report import UNREADABLE, NullReport, Report, draw_curves, open_report
from omnisource.training.state import TrainState


def train(
    recipe: Recipe, work_dir: Path, *, resume: str = "", auto_scale_lr: bool = False, config_name: str = ""
) -> TrainState:
    """Trains a recognizer as the recipe says and returns the state at the end of the run.

    Args:
        recipe: The whole run.
        work_dir: Where checkpoints, metrics.jsonl, tensorboard files and the log go.
        resume: "" starts a new run; "auto" continues from the newest checkpoint of `work_dir`, or starts where there
            is none; anything else is the checkpoint to continue from.
        auto_scale_lr: Whether the learning rate is multiplied by the real number of clips of the main source a step
            and divided by `optimizer.base_batch_size`.
        config_name: How errors name the recipe.

    Raises:
        UserError: For everything that a user can mend.
        Interrupted: If SIGINT or SIGTERM asked the run to stop; it is saved.
    """
    # 1. Who we are.
    device = distributed.choose_device()
    distributed.start(device)
    is_first = distributed.rank() == 0
    if recipe.deterministic:
        make_deterministic()
    else:
        torch.backends.cudnn.benchmark = True  # every step has the same shapes: looking for the best kernel pays
    _refuse_precision(recipe, device)

    # 2. Where we continue.
    checkpoint_file, faults = distributed.from_first(lambda: find_checkpoint(work_dir, resume))
    checkpoint = read_checkpoint(checkpoint_file) if checkpoint_file else None
    if checkpoint and checkpoint_file:
        recipe, note = with_same_microbatches(recipe, checkpoint, checkpoint_file, distributed.world_size())
        faults = [*faults, *note]
    if auto_scale_lr:
        recipe = with_scaled_learning_rate(recipe, distributed.world_size())

    # 3. What we train on.
    require_data(recipe, ("train", "validation") if recipe.validation.interval_epochs else ("train",), config_name)
    recipe, class_names = resolve_classes(recipe)
    train_items = read_splits(recipe, class_names, "train")
    validation_items = read_splits(recipe, class_names, "validation") if recipe.validation.interval_epochs else {}
    numbers = plan(recipe, {name: len(items) for name, items in train_items.items()}, distributed.world_size())
    facts = run_facts(numbers, train_items)
    if checkpoint and checkpoint_file:
        check_same_run(checkpoint, checkpoint_file, recipe, facts)

    # 4. What is trained.
    seed_initialization(recipe.seed)
    recognizer = Recognizer(recipe.model, recipe.label_spaces)
    initial = ""
    if recipe.model.weights and not checkpoint:
        heads = recipe.only_head("image"), recipe.only_head("video")
        initial = load_initial_weights(recognizer, recipe.model.weights, *heads).describe(limit=1000)
    if recipe.sync_batch_norm:
        synchronize_batch_norm(recognizer)
    recognizer.to(device, torch.float64 if recipe.precision == "float64" else torch.float32)
    state = new_state(recipe, recognizer, device)
    if checkpoint:
        state.load_state_dict(checkpoint.state)
    notes = [*faults, *resume_notes(checkpoint)]
    del checkpoint  # its tensors are in the model and the optimizer
    model = distributed.in_parallel(recognizer)
    awaits_validation = functools.partial(_awaits_validation, recipe, numbers, state, bool(validation_items))
    if state.step == numbers.total_steps and not awaits_validation():
        if is_first:
            print(f"{checkpoint_file}: the run is complete already, all {state.step} steps; nothing was done")
        return state

    with full_disk_named(work_dir), contextlib.ExitStack() as stack:
        # 5. What people see.
        distributed.from_first(lambda: prepare_work_dir(work_dir, recipe))
        if resume and not distributed.from_first(lambda: set_aside_later_files(work_dir, checkpoint_file, state)):
            notes += _forget_best(state)
        resumed_step = state.step if resume else None
        report = stack.enter_context(
            open_report(
                work_dir,
                distributed.rank(),
                total_steps=numbers.total_steps,
                resumed_step=resumed_step,
                validated_step=state.validated_step if resume else None,
                interval_steps=recipe.log_interval_steps,
                num_workers=recipe.num_workers,
            )
        )
        report.best(state.best_score, state.best_step)
        beginning = f"continuing from {checkpoint_file}" if checkpoint_file else "new run"
        words = (initial, f"{beginning}, seed {recipe.seed}", describe_plan(recipe, numbers, train_items), *notes)
        for text in filter(None, words):
            report.message(text)

        # 6. Where samples come from, and where the state goes.
        notice = report.message if is_first else distributed.say
        num_items = sum(len(of_source) for of_source in (*train_items.values(), *validation_items.values()))
        permitted = recipe.permitted_unreadable(num_items)
        unreadable = UnreadableLog(permitted, state.unreadable, notice, state.replacements)
        workers = stack.enter_context(
            WorkerPool(
                recipe.num_workers,
                recipe.item_timeout_seconds,
                notice,
                item_processor_seconds=recipe.item_processor_seconds,
            )
        )
        report.watch_memory_of(lambda: workers.process_ids)
        streams = [
            Stream(name, source, train_items[name], numbers.batch_sizes[name], recipe.seed)
            for name, source in recipe.sources.items()
        ]
        mine = [distributed.rank() * recipe.accumulation + place for place in range(recipe.accumulation)]
        loader = Loader(streams, workers, numbers.microbatches, mine, unreadable)
        loader.seek(state.step)
        stop = stack.enter_context(stop_signals())
        stepper = Stepper(recipe, numbers, state, model, mine, device, stop, work_dir)
        saver = Saver(recipe, numbers, class_names, facts, state, work_dir, unreadable, report)
        stack.callback(saver.wait)

        # 7. The loop.
        is_trained = False
        while state.step < numbers.total_steps or awaits_validation():
            stop_signal, is_saving_due = 0, False
            is_made_up = awaits_validation()  # the run was stopped between the last step of an epoch and its validation
            if not is_made_up:
                is_trained = True
                with saver.saved_if_failing():
                    saver.raise_failure()
                    started = time.perf_counter()
                    microbatches = next(loader)
                    data_seconds = time.perf_counter() - started
                    result = stepper.step(microbatches, asks_saving=saver.is_due_by_clock())
                step_seconds = time.perf_counter() - started
                report.step(dataclasses.replace(result.record, step_seconds=step_seconds, data_seconds=data_seconds))
                if result.skipped:
                    report.message(result.skipped)
                stop_signal, is_saving_due = result.stop_signal, result.is_saving_asked or saver.is_due()

            is_best = False
            if awaits_validation() and not stop_signal:
                if is_saving_due or distributed.world_size() > 1:
                    # A validation is long, and the process may be killed in it; several do not stop within one.
                    saver.save()
                saver.agree()
                try:
                    with saver.saved_if_failing():
                        is_best = _validate(
                            recipe,
                            recognizer,
                            state,
                            numbers,
                            validation_items,
                            class_names,
                            workers,
                            unreadable,
                            report,
                            stop,
                        )
                except StopAsked:
                    stop_signal = stop[0]
            if stop_signal or is_best or is_made_up or is_saving_due:
                saved = saver.save(is_best=is_best)
                if stop_signal and (state.step < numbers.total_steps or awaits_validation()):
                    saver.wait()
                    report.stopped(stop_signal, saved)
                    raise Interrupted(stop_signal, saved)
        saver.wait()
        report.message(_ending(state, work_dir))
        if is_first and is_trained:
            report.message(f"curves: {draw_curves(work_dir)}")
    return state


def new_state(recipe: Recipe, recognizer: Recognizer, device: torch.device) -> TrainState:
    """Returns the state of a run before its first step, around a recognizer that is on `device`."""
    state = TrainState(recognizer, build_optimizer(recipe.optimizer, recognizer))
    state.samples_seen = dict.fromkeys(recipe.sources, 0)
    state.scaler = GradScaler(device.type, enabled=recipe.precision == "float16")
    if recipe.ema_decay is not None:
        state.ema = Ema(recipe.ema_decay, recognizer)
    return state


def _validate(
    recipe: Recipe,
    recognizer: Recognizer,
    state: TrainState,
    numbers: Plan,
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
        share = len(range(distributed.rank(), len(items), distributed.world_size()))
        advance = report.validating(name, share if state.ema is None else 2 * share)
        run = functools.partial(
            evaluate,
            recognizer,
            recipe,
            name,
            "validation",
            items,
            workers,
            unreadable,
            on_item=functools.partial(_after_item, stop, advance),
            on_scores=examples.add,
        )
        evaluation = run()
        found[name], left_out[name] = evaluation.metrics.as_dict(), evaluation.left_out
        if state.ema is not None:
            with state.ema.applied(recognizer):
                averaged = run().metrics.as_dict()
            found[name] |= {f"ema_{figure}": value for figure, value in averaged.items() if figure != "count"}
        shown[name] = examples.gather()
    state.validated_step = state.step
    for name, metrics in found.items():
        report.validation(state.step, state.step // numbers.epoch_steps, name, metrics)
        report.left_out(state.step, name, left_out[name])
        if shown[name]:
            names = class_names[recipe.sources[name].label_space]
            report.picture(state.step, f"examples/{name}", functools.partial(draw_examples, shown[name], names))
    if recipe.main_source not in found:
        return False
    # Who keeps an average uses it in the end, so it chooses the best.
    score = found[recipe.main_source]["top1" if state.ema is None else "ema_top1"]
    if state.best_score is not None and score <= state.best_score:
        return False
    state.best_score, state.best_step = score, state.step
    report.best(score, state.step)
    return True


def _after_item(stop: Sequence[int], advance: Callable[[], None]) -> None:
    """Counts an item of a validation, and raises StopAsked if a signal has come and there is one process."""
    advance()
    if stop and distributed.world_size() == 1:
        raise StopAsked


def _forget_best(state: TrainState) -> list[str]:
    """Forgets the best validation, whose file is gone, and says so: best.pt is to be the file of the best score."""
    if state.best_score is None:
        return []
    note = (
        f"best.pt of step {state.best_step} (validation top-1 {state.best_score:.4f}) is gone; it will be the best of"
        " the validations from here on"
    )
    state.best_score = state.best_step = None
    return [note]


def _awaits_validation(recipe: Recipe, numbers: Plan, state: TrainState, has_items: bool) -> bool:
    """Returns whether the last step ended an epoch that is to be validated, and has not been."""
    is_missing = has_items and state.validated_step < state.step
    return is_missing and numbers.ends_epoch(state.step, recipe.validation.interval_epochs)


def _refuse_precision(recipe: Recipe, device: torch.device) -> None:
    """Raises a UserError for arithmetic that the device has not, or in which torch 2.13 gets gradients wrong."""
    if recipe.precision == "float16" and device.type == "cpu":
        raise UserError("precision=float16 needs a GPU: on a CPU use precision=bfloat16 or float32.")
    two_frames = [n for n, s in recipe.sources.items() if s.media == "video" and s.sampling.clip_length == 2]
    if recipe.precision == "bfloat16" and device.type == "cpu" and two_frames:
        raise UserError(
            f"sources.{two_frames[0]}.sampling.clip_length=2 with precision=bfloat16: on a CPU torch's bfloat16 "
            "gradients of 3-D convolutions over two frames can be wrong. Use other clips or precision=float32."
        )


def _ending(state: TrainState, work_dir: Path) -> str:
    lines = [f"the run is complete: {state.step} steps"]
    if state.best_score is not None:
        lines.append(f"best validation top-1 {state.best_score:.4f} at step {state.best_step}: {best_path(work_dir)}")
    lines.append(f"last checkpoint: {checkpoint_path(work_dir, state.step)}")
    if state.unreadable:
        times = sum(state.replacements.values())
        count = "1 file" if len(state.unreadable) == 1 else f"{len(state.unreadable)} files"
        lines.append(f"{count} could not be read, training samples replaced: {times}")
        files = [
            f"  {path}: {reason}; replaced {state.replacements.get(path, 0)} times"
            for path, reason in state.unreadable.items()
        ]
        lines.append(shortened(files))
        if (work_dir / UNREADABLE).exists():
            lines.append(f"every replacement and every item left out of a validation: {work_dir / UNREADABLE}")
    return "\n".join(lines)
