"""Training: build, resume, loop, validate. Reads from top to bottom."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from omnisource import config, distributed
from omnisource.data.annotations import Items
from omnisource.data.loader import Loader
from omnisource.data.stream import Stream
from omnisource.data.unreadable import UnreadableLog
from omnisource.data.workers import WorkerPool
from omnisource.errors import UserError, shortened
from omnisource.evaluate import autocast, evaluate
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
from omnisource.randomness import make_deterministic, seed_initialization, seed_microbatch
from omnisource.recipe import Recipe
from omnisource.resume import (
    STOP_SIGNALS,
    Interrupted,
    StopAsked,
    agree,
    check_same_run,
    find_checkpoint,
    full_disk_named,
    prepare_work_dir,
    resume_notes,
    run_facts,
    saved_if_failing,
    set_aside_later_files,
    stop_signals,
)
from omnisource.training.checkpoint import (
    Checkpoint,
    best_path,
    checkpoint_path,
    copy_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from omnisource.training.optimizer import build_optimizer, learning_rate
from omnisource.training.report import UNREADABLE, NullReport, Report, StepRecord, draw_curves, open_report
from omnisource.training.state import TrainState
from omnisource.types import Batch


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
    _refuse_wrong_gradients(recipe, device)
    if auto_scale_lr:
        recipe = with_scaled_learning_rate(recipe, distributed.world_size())

    # 2. Where we continue.
    checkpoint_file, faults = distributed.from_first(lambda: find_checkpoint(work_dir, resume))
    checkpoint = read_checkpoint(checkpoint_file) if checkpoint_file else None

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
    recognizer.to(device)
    state = TrainState(recognizer, build_optimizer(recipe.optimizer, recognizer))
    state.samples_seen = dict.fromkeys(recipe.sources, 0)
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
            state.best_score = state.best_step = None  # the file of the best is gone: the next validation makes one
        resumed_step = state.step if resume else None
        report = stack.enter_context(
            open_report(
                work_dir, distributed.rank(), resumed_step=resumed_step, interval_steps=recipe.log_interval_steps
            )
        )
        beginning = f"continuing from {checkpoint_file}" if checkpoint_file else "new run"
        words = (initial, f"{beginning}, seed {recipe.seed}", describe_plan(recipe, numbers, train_items), *notes)
        for text in filter(None, words):
            report.message(text)

        # 6. Where samples come from.
        num_items = sum(len(of_source) for of_source in (*train_items.values(), *validation_items.values()))
        permitted = recipe.permitted_unreadable(num_items)
        unreadable = UnreadableLog(permitted, state.unreadable, report.message, state.replacements)
        workers = stack.enter_context(
            WorkerPool(
                recipe.num_workers,
                recipe.item_timeout_seconds,
                report.message,
                item_processor_seconds=recipe.item_processor_seconds,
            )
        )
        streams = [
            Stream(name, source, train_items[name], numbers.batch_sizes[name], recipe.seed)
            for name, source in recipe.sources.items()
        ]
        mine = [distributed.rank() * recipe.accumulation + place for place in range(recipe.accumulation)]
        loader = Loader(streams, workers, numbers.microbatches, mine, unreadable)
        loader.seek(state.step)
        stop = stack.enter_context(stop_signals())

        def agree_and_tell() -> None:
            report.replacements(agree(recognizer, unreadable, state.step))

        def save(is_alone: bool = False) -> Path:
            path = checkpoint_path(work_dir, state.step)
            if is_alone:
                report.replacements(unreadable.settle(unreadable.untold, state.step))
            else:
                agree_and_tell()
            if is_first or is_alone:
                names = {space: list(of_space) for space, of_space in class_names.items()}
                content = Checkpoint(config.to_plain(recipe), names, facts, state.state_dict())
                save_checkpoint(content, path, recipe.checkpoints.keep_last)
            return path

        # 7. The loop.
        is_trained = False
        while state.step < numbers.total_steps or awaits_validation():
            stop_signal = 0
            is_made_up = awaits_validation()  # the run was stopped between the last step of an epoch and its validation
            if not is_made_up:
                is_trained = True
                started = time.perf_counter()
                with saved_if_failing(state, save, work_dir):
                    microbatches = next(loader)
                data_seconds = time.perf_counter() - started
                record, stop_signal = _train_step(recipe, numbers, model, state, microbatches, mine, device, stop)
                step_seconds = time.perf_counter() - started
                report.step(dataclasses.replace(record, step_seconds=step_seconds, data_seconds=data_seconds))

            is_best = False
            is_saving_due = _is_saving_due(recipe, numbers, state.step)
            if awaits_validation() and not stop_signal:
                if is_saving_due:
                    save()  # a validation is long, and the process may be killed in it
                try:
                    with saved_if_failing(state, save, work_dir):
                        agree_and_tell()
                        is_best = _validate(
                            recipe, recognizer, state, numbers, validation_items, workers, unreadable, report, stop
                        )
                except StopAsked:
                    stop_signal = stop[0]
            if stop_signal or is_best or is_made_up or is_saving_due:
                saved = save()
                if is_best and is_first:
                    copy_checkpoint(saved, best_path(work_dir))
                if stop_signal and (state.step < numbers.total_steps or awaits_validation()):
                    raise Interrupted(stop_signal, saved)
        report.message(_ending(state, work_dir))
        if is_first and is_trained:
            report.message(f"curves: {draw_curves(work_dir)}")
    return state


def _train_step(
    recipe: Recipe,
    numbers: Plan,
    model: nn.Module,
    state: TrainState,
    microbatches: Sequence[Sequence[Batch]],
    mine: Sequence[int],
    device: torch.device,
    stop: Sequence[int],
) -> tuple[StepRecord, int]:
    """Does one step: forward and backward over this process's microbatches, one change of the weights.

    Returns:
        What was done, and the signal that asked any of the processes to stop, or 0: all of them stop at one step.
    """
    rate = learning_rate(recipe.optimizer, recipe.schedule, state.step, numbers.epoch_steps, recipe.num_epochs)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    model.train()
    state.optimizer.zero_grad(set_to_none=True)
    losses = torch.zeros(len(recipe.sources), dtype=torch.float64, device=device)
    for number, (place, batches) in enumerate(zip(mine, microbatches, strict=True)):
        is_last = number == len(microbatches) - 1
        seed_microbatch(recipe.seed, state.step, place)
        with _gradient_sync(model, is_last):
            with autocast(device, recipe.precision):
                by_source: dict[str, Tensor] = model([_on_device(batch, device) for batch in batches])
            total = sum((recipe.sources[name].loss_weight * loss for name, loss in by_source.items()), torch.zeros(()))
            (total / len(microbatches)).backward()
        losses += torch.stack([loss.detach().double() for loss in by_source.values()]) / len(microbatches)
        _require_finite(by_source, batches, state.step)
    gradient_norm = nn.utils.clip_grad_norm_(
        state.model.parameters(), recipe.optimizer.max_gradient_norm or math.inf, error_if_nonfinite=False
    )
    if not torch.isfinite(gradient_norm):
        raise UserError(
            f"step {state.step}: the gradient is not finite, so the weights would be lost. Lower "
            f"optimizer.learning_rate (now {recipe.optimizer.learning_rate:g}) or continue from an earlier checkpoint."
        )
    state.optimizer.step()

    # The signals travel with the losses: a collective of their own would cost every step a wait.
    asked = torch.tensor([float(number in stop) for number in STOP_SIGNALS], dtype=torch.float64)
    averages = distributed.average(torch.cat([losses, asked.to(device)])).tolist()
    by_name = dict(zip(recipe.sources, averages, strict=False))
    stop_signal = max((n for n, share in zip(STOP_SIGNALS, averages[len(by_name) :], strict=True) if share), default=0)
    seen_before, seen = numbers.samples_before(state.step), numbers.samples_before(state.step + 1)
    samples = {name: seen[name] - seen_before[name] for name in seen}
    for name, count in samples.items():
        state.samples_seen[name] += count
    state.step += 1
    record = StepRecord(
        step=state.step,
        epoch=(state.step - 1) // numbers.epoch_steps + 1,
        losses=by_name,
        total_loss=sum(recipe.sources[name].loss_weight * loss for name, loss in by_name.items()),
        learning_rate=rate,
        gradient_norm=float(gradient_norm),
        step_seconds=0.0,  # the loop, which also waits for the data, knows
        data_seconds=0.0,
        samples=samples,
        total_steps=numbers.total_steps,
    )
    return record, stop_signal


def _validate(
    recipe: Recipe,
    recognizer: Recognizer,
    state: TrainState,
    numbers: Plan,
    validation_items: Mapping[str, Items],
    workers: WorkerPool,
    unreadable: UnreadableLog,
    report: Report | NullReport,
    stop: Sequence[int],
) -> bool:
    """Validates every source that has validation items; returns whether the main one is better than ever.

    Raises:
        StopAsked: If a signal came before the end, and there is one process: several could not agree at once.
    """

    def look_for_signal() -> None:
        if stop and distributed.world_size() == 1:
            raise StopAsked

    evaluations = {
        name: evaluate(recognizer, recipe, name, "validation", items, workers, unreadable, on_item=look_for_signal)
        for name, items in validation_items.items()
    }
    state.validated_step = state.step
    epoch = state.step // numbers.epoch_steps
    for name, evaluation in evaluations.items():
        report.validation(state.step, epoch, name, evaluation.metrics.as_dict())
    main = evaluations.get(recipe.main_source)
    if main is None or (state.best_score is not None and main.metrics.top1 <= state.best_score):
        return False
    state.best_score, state.best_step = main.metrics.top1, state.step
    return True


def _awaits_validation(recipe: Recipe, numbers: Plan, state: TrainState, has_items: bool) -> bool:
    """Returns whether the last step ended an epoch that is to be validated, and has not been."""
    is_missing = has_items and state.validated_step < state.step
    return is_missing and _is_epoch_due(numbers, state.step, recipe.validation.interval_epochs)


def _is_saving_due(recipe: Recipe, numbers: Plan, step: int) -> bool:
    every = recipe.checkpoints.interval_steps
    return (every > 0 and step % every == 0) or _is_epoch_due(numbers, step, recipe.checkpoints.interval_epochs)


def _is_epoch_due(numbers: Plan, step: int, interval_epochs: int) -> bool:
    """Returns whether a step ends an epoch after which something is done every `interval_epochs`, and at the end."""
    epoch, rest = divmod(step, numbers.epoch_steps)
    return rest == 0 and interval_epochs > 0 and (step == numbers.total_steps or epoch % interval_epochs == 0)


def _refuse_wrong_gradients(recipe: Recipe, device: torch.device) -> None:
    """Raises a UserError where torch 2.13 leaves gradients unwritten: two frames under a temporal kernel of three."""
    two_frames = [n for n, s in recipe.sources.items() if s.media == "video" and s.sampling.clip_length == 2]
    if recipe.precision == "bfloat16" and device.type == "cpu" and two_frames:
        raise UserError(
            f"sources.{two_frames[0]}.sampling.clip_length=2 with precision=bfloat16: on a CPU torch's bfloat16 "
            "gradients of 3-D convolutions over two frames can be wrong. Use other clips or precision=float32."
        )


def _on_device(batch: Batch, device: torch.device) -> Batch:
    return batch.pin_memory().to(device) if device.type == "cuda" else batch


def _gradient_sync(model: nn.Module, is_last_microbatch: bool) -> contextlib.AbstractContextManager[Any]:
    if isinstance(model, DistributedDataParallel) and not is_last_microbatch:
        return model.no_sync()
    return contextlib.nullcontext()


def _require_finite(losses: Mapping[str, Tensor], batches: Sequence[Batch], step: int) -> None:
    for batch in batches:
        if not torch.isfinite(losses[batch.source]):
            raise UserError(
                f"step {step}: the loss of source {batch.source} is not finite. Its samples:\n"
                f"{shortened(list(batch.keys), 10)}\nLower optimizer.learning_rate, or continue from an earlier "
                "checkpoint with --resume."
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
        lines += [shortened(files), f"every replacement: {work_dir / UNREADABLE}"] if times else [shortened(files)]
    return "\n".join(lines)
