"""Runs whose BatchNorm statistics are computed again for evaluation: right values, and the same run in every life."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from omnisource import Mixing, Recipe
from omnisource.checkpoints.file import best_path, checkpoint_path, read_checkpoint, saved_checkpoints
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_splits
from omnisource.data.loading.loader import Loader
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.data.transforms.mixing import mix_batches
from omnisource.evaluation.report import ReportFiles
from omnisource.evaluation.test import test as run_test
from omnisource.models.recognizer import Recognizer
from omnisource.training.plan import make_plan
from omnisource.training.resuming.ending import RunInterrupted
from omnisource.training.train import train
from tests.support.statistics import inputs_of_norms, statistics_of_inputs
from tests.support.tiny_runs import EPOCH, SAVE_EVERY_STEP, STEPS, difference, lines_of, mixed_recipe, validation_lines

SETTINGS = (
    *SAVE_EVERY_STEP,
    "recompute_batch_norm=always",
    "recomputed_microbatches=4",
    "model.image_statistics=true",
    "ema_decay=0.9",
    "validation.interval_epochs=1",
    "sources.kinetics400.test_views.num_clips=1",
    "precision=float64",
)


def recipe_of(data: Path, *more: str) -> Recipe:
    """Returns two epochs of 3 steps of 2 microbatches: videos, images that are mixed, raw frames."""
    recipe = mixed_recipe(data, *SETTINGS, *more)
    images = dataclasses.replace(recipe.sources["imagenet"], mixing=Mixing(mixup_alpha=0.4))
    return dataclasses.replace(recipe, sources={**recipe.sources, "imagenet": images})


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the work dir of an uninterrupted run. Not to be changed."""
    work_dir = tmp_path_factory.mktemp("recomputed") / "run"
    train(recipe_of(data), work_dir)
    return work_dir


def state_after(work_dir: Path, step: int) -> dict[str, Any]:
    return read_checkpoint(checkpoint_path(work_dir, step)).state


def assert_same(ours: Path, theirs: Path) -> None:
    assert difference(state_after(ours, STEPS), state_after(theirs, STEPS)) == ""
    assert lines_of(ours) == lines_of(theirs)
    if best_path(theirs).exists():
        assert difference(read_checkpoint(best_path(ours)).state, read_checkpoint(best_path(theirs)).state) == ""


def expected_statistics(recipe: Recipe, weights: dict[str, Tensor], first: int, last: int) -> dict[str, Tensor]:
    """Returns the statistics over the microbatches of steps `first` to `last`, 1-based, computed apart."""
    recipe, class_names = resolve_classes(recipe)
    items = read_splits(recipe, class_names, "train")
    plan = make_plan(recipe, {name: len(of_source) for name, of_source in items.items()}, 1)
    streams = [
        Stream(name, source, items[name], plan.batch_sizes[name], recipe.seed)
        for name, source in recipe.sources.items()
    ]
    recognizer = Recognizer(recipe.model, recipe.label_spaces).double().train()
    recognizer.load_state_dict(weights)
    with WorkerPool(0, 60.0) as workers, inputs_of_norms(recognizer) as inputs, torch.no_grad():
        loader = Loader(streams, workers, plan.microbatches, range(plan.microbatches), UnreadableLog(0))
        loader.seek(first - 1)
        for step in range(first - 1, last):
            for index, batches in enumerate(next(loader)):
                mixed = mix_batches(batches, recipe.mixings(), recipe.class_counts(), recipe.seed, step, index)
                recognizer(mixed)
        loader.close()
    return statistics_of_inputs(recognizer, inputs)


@pytest.mark.parametrize("step", [EPOCH, STEPS])
@pytest.mark.parametrize("weights", ["model", "ema"])
def test_checkpoints_hold_the_statistics_of_the_last_microbatches(
    whole: Path, data: Path, step: int, weights: str
) -> None:
    state = state_after(whole, step)
    running = state["running_statistics"]
    assert running["steps"] == 2
    expected = expected_statistics(recipe_of(data), {**state[weights], **running[weights]}, step - 1, step)
    assert expected.keys() == running[weights].keys() and "backbone.bn1.image_running_mean" in expected
    for name, tensor in expected.items():
        torch.testing.assert_close(state[weights][name], tensor, rtol=1e-9, atol=1e-12, msg=name)
        assert not torch.allclose(running[weights][name], tensor, rtol=1e-3), name


def test_training_is_that_of_a_run_without_them(whole: Path, data: Path, tmp_path: Path) -> None:
    train(recipe_of(data, "recompute_batch_norm=never"), tmp_path)
    plain, state = state_after(tmp_path, STEPS), state_after(whole, STEPS)
    for weights in ("model", "ema"):
        own = {**state[weights], **state["running_statistics"][weights]}
        assert difference(own, dict(plain[weights])) == ""
    assert plain["running_statistics"] is None
    assert state_after(whole, STEPS - 1)["running_statistics"] is None  # between validations nothing is computed


def test_validation_is_that_of_the_checkpoint_that_is_tested(whole: Path, data: Path, tmp_path: Path) -> None:
    lines = [line for line in validation_lines(whole) if line["step"] == STEPS and line["source"] == "kinetics400"]
    for average, figure in ((False, "top1"), (True, "ema_top1")):
        checkpoint = str(checkpoint_path(whole, STEPS))
        tested = run_test(recipe_of(data), checkpoint, ReportFiles(tmp_path / figure), average=average)
        assert tested["kinetics400"].metrics.top1 == lines[0]["metrics"][figure]


@pytest.mark.parametrize(("step", "num_workers"), [(EPOCH - 1, 1), (EPOCH, 0), (STEPS - 1, 0)])
def test_resumed_run_equals_the_uninterrupted_one(
    whole: Path, data: Path, tmp_path: Path, step: int, num_workers: int
) -> None:
    resumed = str(checkpoint_path(whole, step))
    train(recipe_of(data, f"num_workers={num_workers}"), tmp_path, resume=resumed)
    assert difference(state_after(tmp_path, STEPS), state_after(whole, STEPS)) == ""
    assert lines_of(tmp_path) == [line for line in lines_of(whole) if line["step"] > step]


class Killed(BaseException):
    """Ends a run as SIGKILL does, as far as its files go: nothing is saved any more."""


def killed() -> None:
    raise Killed


def in_recomputation(act: Callable[[], None], forward: int) -> RemovableHandle:
    """Calls `act` in one of the forwards, 1-based, in which statistics are computed again; a context manager, too."""
    done = 0

    def before(module: nn.Module, inputs: Any) -> None:
        nonlocal done
        if isinstance(module, Recognizer) and module.training and not torch.is_grad_enabled():
            done += 1
            if done == forward:
                act()

    return register_module_forward_pre_hook(before)


# Of a validation 4 microbatches go through the model and its average, so 8 forwards; without one, once at the end.
@pytest.mark.parametrize(
    ("more", "forwards"), [((), (3, 8)), (("validation.interval_epochs=0",), (4, 1))], ids=["validated", "not"]
)
def test_run_that_is_stopped_and_killed_while_statistics_are_computed_goes_on_as_if_it_had_not_been(
    whole: Path, data: Path, tmp_path: Path, more: tuple[str, ...], forwards: tuple[int, int]
) -> None:
    work_dir = tmp_path / "run"
    stop = lambda: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    for act, forward, error in ((killed, forwards[0], Killed), (stop, forwards[1], RunInterrupted)):
        with in_recomputation(act, forward), pytest.raises(error):
            train(recipe_of(data, *more), work_dir, resume="auto")
        assert saved_checkpoints(work_dir)
    train(recipe_of(data, *more), work_dir, resume="auto")
    uninterrupted = whole
    if more:
        uninterrupted = tmp_path / "whole"
        train(recipe_of(data, *more), uninterrupted)
        assert state_after(uninterrupted, STEPS)["running_statistics"] is not None
    assert_same(work_dir, uninterrupted)
