"""Training a recipe: who we are, where we continue, what we train on, what is trained; then the trainer's steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.data.notes import run_notes
from omnisource.data.run_data import read_run_data
from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.models.backbones.backbone import Backbone
from omnisource.models.backbones.build import build_backbone
from omnisource.models.batch_norm import synchronize_batch_norm
from omnisource.models.load_weights import load_initial_weights
from omnisource.models.recognizer import Recognizer
from omnisource.printing import show
from omnisource.randomness import make_deterministic, seed_initialization
from omnisource.recipe.data import SplitName
from omnisource.recipe.model import Model
from omnisource.recipe.plain import from_plain, with_former_values
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.curves import draw_curves
from omnisource.reporting.progress import counted_progress
from omnisource.reporting.report import Report, ReportSettings, open_report
from omnisource.signals import noted_signals
from omnisource.training.plan import Plan, describe_plan, make_plan, with_scaled_learning_rate
from omnisource.training.resuming.ending import describe_ending, make_up_ending
from omnisource.training.resuming.resume import (
    discard_later_checkpoints,
    explain_disk_errors,
    prepare_work_dir,
    read_resumed,
)
from omnisource.training.resuming.run_lock import RunLock
from omnisource.training.resuming.same_run import check_same_run, resume_notes, run_facts, with_same_microbatches
from omnisource.training.run_context import RunContext
from omnisource.training.state import TrainState, new_state
from omnisource.training.trainer import Trainer


@dataclass(frozen=True)
class Invocation:
    """What a command line says of a run besides its recipe.

    Attributes:
        config_name: How errors name the recipe.
        auto_scale_lr: Whether the learning rate is multiplied by the real number of clips of the main source a step
            and divided by `optimizer.base_batch_size`.
    """

    config_name: str = ""
    auto_scale_lr: bool = False


@dataclass(frozen=True)
class Start:
    """How a run starts.

    Attributes:
        work_dir: Where it goes.
        device: Where the model is trained.
        resume: As for `train`.
        invocation: As for `train`.
        build_backbone: As for `train`.
    """

    work_dir: Path
    device: torch.device
    resume: str = ""
    invocation: Invocation = field(default_factory=Invocation)
    build_backbone: Callable[[Model], Backbone] = build_backbone


def train(
    recipe: Recipe,
    work_dir: Path,
    *,
    resume: str = "",
    invocation: Invocation | None = None,
    build_backbone: Callable[[Model], Backbone] = build_backbone,
) -> TrainState:
    """Trains a recognizer as the recipe says and returns the state at the end of the run, its model as it is evaluated.

    Args:
        recipe: The whole run.
        work_dir: Where checkpoints, metrics.jsonl, tensorboard files and the log go.
        resume: "" starts a new run; "auto" continues from the newest checkpoint of `work_dir`, or starts where there
            is none; anything else is the checkpoint to continue from.
        invocation: What the command line says besides.
        build_backbone: Makes the backbone that `recipe.model` describes, with weights drawn from torch's global
            generator. A run with another backbone must be resumed with the same.

    Raises:
        UserError: For everything that a user can fix.
        RunInterrupted: If a signal asked the run to stop; it is saved.
    """
    # 1. Who we are.
    device = processes.choose_device()
    processes.start(device)
    if recipe.deterministic:
        make_deterministic()
    else:
        torch.backends.cudnn.benchmark = True  # every step has the same shapes: looking for the best kernel pays
    _refuse_precision(recipe, device)
    return train_on_device(recipe, Start(work_dir, device, resume, invocation or Invocation(), build_backbone))


def train_on_device(recipe: Recipe, start: Start) -> TrainState:
    """Does what `train` says on a device that has the precision of the recipe."""
    with RunLock(start.work_dir) as lock:
        state = _train(recipe, start, lock)
    state.take_over_recomputed()
    return state


def _train(recipe: Recipe, start: Start, lock: RunLock) -> TrainState:
    """Does what `train` says, on a device, while it has the work dir for itself."""
    work_dir, device, resume = start.work_dir, start.device, start.resume

    # 2. Where we continue.
    processes.run_on_rank0(lock.take)
    checkpoint_file, checkpoint, faults = read_resumed(work_dir, resume)
    if checkpoint and checkpoint_file:
        stored = from_plain(Recipe, checkpoint.recipe, str(checkpoint_file))
        recipe, notes_of_old = with_former_values(recipe, stored)
        recipe, note = with_same_microbatches(recipe, checkpoint, checkpoint_file, processes.world_size())
        faults = [*faults, *notes_of_old, *note]
    if start.invocation.auto_scale_lr:
        recipe = with_scaled_learning_rate(recipe, processes.world_size())

    # 3. What we train on.
    splits: tuple[SplitName, ...] = ("train", "validation") if recipe.validation.interval_epochs else ("train",)
    data = read_run_data(recipe, splits, start.invocation.config_name, counted_progress)
    recipe, class_names, train_items = data.recipe, data.class_names, data.items["train"]
    validation_items = data.items.get("validation", {})
    plan = make_plan(recipe, {name: len(of_source) for name, of_source in train_items.items()}, processes.world_size())
    facts = run_facts(plan, train_items)
    if checkpoint and checkpoint_file:
        check_same_run(checkpoint, checkpoint_file, recipe, facts)

    # 4. What is trained.
    recognizer, notes = _build_recognizer(recipe, start, is_new=not checkpoint)
    state = new_state(recipe, recognizer, device)
    if checkpoint:
        state.load_state_dict(checkpoint.state)
    beginning = f"continuing from {checkpoint_file}" if checkpoint_file else "new run"
    notes += [f"{beginning}, seed {recipe.seed}", describe_plan(recipe, plan, train_items)]
    notes += run_notes(recipe, class_names, data.items)
    notes += [*faults, *resume_notes(checkpoint)]
    del checkpoint  # its tensors are in the model and the optimizer
    model = processes.in_parallel(recognizer)
    if state.step == plan.total_steps and not state.awaits_validation(plan, has_items=bool(validation_items)):
        if processes.rank() == 0:
            make_up_ending(work_dir, state)
            show(f"{checkpoint_file}: the run is complete already, all {state.step} steps; nothing was done")
        return state

    with explain_disk_errors(work_dir), contextlib.ExitStack() as stack:
        # 5. Who may stop us, from here on after a step, and what people see.
        stop = stack.enter_context(noted_signals())
        processes.run_on_rank0(lambda: prepare_work_dir(work_dir, recipe, lock))
        if resume and not processes.run_on_rank0(lambda: discard_later_checkpoints(work_dir, checkpoint_file, state)):
            notes += _forget_best(state)
        report = stack.enter_context(_open_report(recipe, plan, state, start))
        report.best(state.best_score, state.best_step)
        for text in notes:
            report.message(text)

        # 6. Who loads samples, and what has become of files.
        notice = report.message if processes.rank() == 0 else processes.say
        permitted = recipe.permitted_unreadable(
            sum(len(part) for of_split in data.items.values() for part in of_split.values())
        )
        workers = stack.enter_context(_open_workers(recipe, notice))
        report.watch_memory_of(lambda: workers.process_ids)
        run = RunContext(
            recipe=recipe,
            plan=plan,
            class_names=class_names,
            facts=facts,
            train_items=train_items,
            validation_items=validation_items,
            device=device,
            work_dir=work_dir,
            report=report,
            workers=workers,
            unreadable=UnreadableLog(permitted, state.unreadable, notice, state.replacements),
            stop=stop,
        )

        # 7. The steps.
        is_trained = Trainer(run, state, model).fit()
        report.message(describe_ending(state, work_dir))
        if processes.rank() == 0 and is_trained:
            report.message(f"curves: {draw_curves(work_dir)}")
    return state


def _build_recognizer(recipe: Recipe, start: Start, *, is_new: bool) -> tuple[Recognizer, list[str]]:
    """Returns the recognizer on its device, and what is to be said of its weights."""
    seed_initialization(recipe.seed)
    recognizer = Recognizer(recipe.model, recipe.label_spaces, backbone=start.build_backbone(recipe.model))
    notes = []
    if recipe.model.weights and is_new:
        heads = recipe.only_head("image"), recipe.only_head("video")
        notes.append(load_initial_weights(recognizer, recipe.model.weights, *heads).describe(limit=1000))
    if recipe.sync_batch_norm:
        synchronize_batch_norm(recognizer)
    recognizer.to(start.device, torch.float64 if recipe.precision == "float64" else torch.float32)
    return recognizer, notes


def _open_report(recipe: Recipe, plan: Plan, state: TrainState, start: Start) -> Report:
    settings = ReportSettings(
        total_steps=plan.total_steps,
        resumed_step=state.step if start.resume else None,
        validated_step=state.validated_step if start.resume else None,
        interval_steps=recipe.log_interval_steps,
        num_workers=recipe.num_workers,
        num_processes=processes.world_size(),
    )
    return open_report(start.work_dir, processes.rank(), settings)


def _open_workers(recipe: Recipe, notice: Callable[[str], None]) -> WorkerPool:
    seconds = recipe.item_processor_seconds
    return WorkerPool(recipe.num_workers, recipe.item_timeout_seconds, notice, item_processor_seconds=seconds)


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


def _refuse_precision(recipe: Recipe, device: torch.device) -> None:
    """Raises a UserError for arithmetic that the device has not, or in which torch 2.13 gets gradients wrong."""
    if recipe.precision == "float16" and device.type == "cpu":
        raise UserError("precision=float16 needs a GPU: on a CPU use precision=bfloat16 or float32.")
    two_frames = [n for n, s in recipe.sources.items() if s.media == "video" and s.sampling.clip_length == 2]
    two_frames = two_frames if recipe.model.vit is None else []  # a ViT has no 3-D convolution that is computed
    if recipe.precision == "bfloat16" and device.type == "cpu" and two_frames:
        raise UserError(
            f"sources.{two_frames[0]}.sampling.clip_length=2 with precision=bfloat16: on a CPU torch's bfloat16 "
            "gradients of 3-D convolutions over two frames can be wrong. Use other clips or precision=float32."
        )
