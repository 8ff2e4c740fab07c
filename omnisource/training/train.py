"""Training: build, resume, loop, end. Reads from top to bottom."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

import torch
from torch.amp.grad_scaler import GradScaler

from omnisource.checkpoints.file import best_path, checkpoint_path, read_checkpoint
from omnisource.data.datasets import read_splits, require_data, resolve_classes
from omnisource.data.loading.loader import Loader
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.distributed import processes
from omnisource.errors import UserError, shortened
from omnisource.models.batch_norm import synchronize_batch_norm
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.load import load_initial_weights
from omnisource.randomness import make_deterministic, seed_initialization
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.curves import CURVES, draw_curves
from omnisource.reporting.metrics_file import METRICS, UNREADABLE
from omnisource.reporting.report import open_report
from omnisource.reporting.status_file import note_complete
from omnisource.signals import noted_signals
from omnisource.training.ema import Ema
from omnisource.training.loop import do_steps, validate
from omnisource.training.optimizer import build_optimizer
from omnisource.training.plan import Plan, describe_plan, make_plan, with_scaled_learning_rate
from omnisource.training.resume import (
    discard_later_checkpoints,
    explain_disk_errors,
    find_checkpoint,
    prepare_work_dir,
)
from omnisource.training.run_lock import RunLock
from omnisource.training.same_run import check_same_run, resume_notes, run_facts, with_same_microbatches
from omnisource.training.saver import Saver
from omnisource.training.state import TrainState
from omnisource.training.step import Stepper


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
        UserError: For everything that a user can fix.
        Interrupted: If SIGINT or SIGTERM asked the run to stop; it is saved.
    """
    # 1. Who we are.
    device = processes.choose_device()
    processes.start(device)
    if recipe.deterministic:
        make_deterministic()
    else:
        torch.backends.cudnn.benchmark = True  # every step has the same shapes: looking for the best kernel pays
    _refuse_precision(recipe, device)

    with RunLock(work_dir) as lock:
        return _train(recipe, work_dir, lock, device, resume, auto_scale_lr, config_name)


def _train(
    recipe: Recipe,
    work_dir: Path,
    lock: RunLock,
    device: torch.device,
    resume: str,
    auto_scale_lr: bool,
    config_name: str,
) -> TrainState:
    """Does what `train` says, on a device, while it has the work dir for itself."""
    is_first = processes.rank() == 0

    # 2. Where we continue.
    processes.run_on_rank0(lock.take)
    checkpoint_file, faults = processes.run_on_rank0(lambda: find_checkpoint(work_dir, resume))
    checkpoint = read_checkpoint(checkpoint_file) if checkpoint_file else None
    if checkpoint and checkpoint_file:
        recipe, note = with_same_microbatches(recipe, checkpoint, checkpoint_file, processes.world_size())
        faults = [*faults, *note]
    if auto_scale_lr:
        recipe = with_scaled_learning_rate(recipe, processes.world_size())

    # 3. What we train on.
    require_data(recipe, ("train", "validation") if recipe.validation.interval_epochs else ("train",), config_name)
    recipe, class_names = resolve_classes(recipe)
    train_items = read_splits(recipe, class_names, "train")
    validation_items = read_splits(recipe, class_names, "validation") if recipe.validation.interval_epochs else {}
    plan = make_plan(recipe, {name: len(items) for name, items in train_items.items()}, processes.world_size())
    facts = run_facts(plan, train_items)
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
    model = processes.in_parallel(recognizer)
    awaits_validation = functools.partial(_awaits_validation, recipe, plan, state, bool(validation_items))
    if state.step == plan.total_steps and not awaits_validation():
        if is_first:
            print(f"{checkpoint_file}: the run is complete already, all {state.step} steps; nothing was done")
            _make_up_ending(work_dir, state)
        return state

    with explain_disk_errors(work_dir), contextlib.ExitStack() as stack:
        # 5. What people see.
        processes.run_on_rank0(lambda: prepare_work_dir(work_dir, recipe, lock))
        if resume and not processes.run_on_rank0(lambda: discard_later_checkpoints(work_dir, checkpoint_file, state)):
            notes += _forget_best(state)
        resumed_step = state.step if resume else None
        report = stack.enter_context(
            open_report(
                work_dir,
                processes.rank(),
                total_steps=plan.total_steps,
                resumed_step=resumed_step,
                validated_step=state.validated_step if resume else None,
                interval_steps=recipe.log_interval_steps,
                num_workers=recipe.num_workers,
            )
        )
        report.best(state.best_score, state.best_step)
        beginning = f"continuing from {checkpoint_file}" if checkpoint_file else "new run"
        words = (initial, f"{beginning}, seed {recipe.seed}", describe_plan(recipe, plan, train_items), *notes)
        for text in filter(None, words):
            report.message(text)

        # 6. Where samples come from, and where the state goes.
        notice = report.message if is_first else processes.say
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
            Stream(name, source, train_items[name], plan.batch_sizes[name], recipe.seed)
            for name, source in recipe.sources.items()
        ]
        mine = [processes.rank() * recipe.accumulation + place for place in range(recipe.accumulation)]
        loader = Loader(streams, workers, plan.microbatches, mine, unreadable)
        loader.seek(state.step)
        stop = stack.enter_context(noted_signals())
        stepper = Stepper(recipe, plan, state, model, mine, device, stop, work_dir)
        saver = Saver(recipe, plan, class_names, facts, state, work_dir, unreadable, report)
        stack.callback(saver.wait)

        # 7. The loop.
        validate_now = functools.partial(
            validate,
            recipe,
            recognizer,
            state,
            plan,
            validation_items,
            class_names,
            workers,
            unreadable,
            report,
            stop,
        )
        is_trained = do_steps(state, plan, loader, stepper, saver, report, validate_now, awaits_validation, stop)
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


def _awaits_validation(recipe: Recipe, plan: Plan, state: TrainState, has_items: bool) -> bool:
    """Returns whether the last step ended an epoch that is to be validated, and has not been."""
    is_missing = has_items and state.validated_step < state.step
    return is_missing and plan.ends_epoch(state.step, recipe.validation.interval_epochs)


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


def _make_up_ending(work_dir: Path, state: TrainState) -> None:
    """Does what the process of a complete run did not come to that was killed after its last checkpoint."""
    if not (work_dir / METRICS).exists():  # the run is in another folder, of which a checkpoint was given
        return
    note_complete(work_dir, state.step, state.best_score, state.best_step)
    if not (work_dir / CURVES).exists():
        try:
            print(f"curves: {draw_curves(work_dir)}")
        except UserError as error:  # the run is complete without them
            print(f"the curves cannot be drawn: {error}")


def _ending(state: TrainState, work_dir: Path) -> str:
    lines = [f"the run is complete: {state.step} steps"]
    if state.skipped_steps:
        numbers = ", ".join(map(str, state.skipped_steps[:20])) + (", ..." if len(state.skipped_steps) > 20 else "")
        count = "1 step" if len(state.skipped_steps) == 1 else f"{len(state.skipped_steps)} steps"
        lines.append(f"{count} changed no weights, not being finite: {numbers}; see {work_dir / 'not_finite'}")
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
