"""The scaled loss of float16: what a gradient that overflows leaves alone, on the CPU in which no run has float16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.amp.grad_scaler import GradScaler

from omnisource.data.loader import Loader
from omnisource.data.stream import Stream
from omnisource.data.unreadable import UnreadableLog
from omnisource.data.workers import WorkerPool
from omnisource.models.recognizer import Recognizer
from omnisource.plan import plan, read_splits, resolve_classes
from omnisource.randomness import seed_initialization
from omnisource.step import Stepper, StepResult
from omnisource.train import new_state
from omnisource.training.state import TrainState
from tests.runs.tiny_runs import difference, tiny_recipe

CPU = torch.device("cpu")
OVERFLOWING = 2.0**127
"""Scale at which every gradient is infinite, in float32 too."""


@pytest.fixture
def stepping(data: Path, tmp_path: Path) -> tuple[TrainState, Callable[[], StepResult]]:
    """Returns the state of a run with a scaled loss, and what does its next step."""
    recipe, class_names = resolve_classes(tiny_recipe(data, "ema_decay=0.9"))
    items = read_splits(recipe, class_names, "train")
    numbers = plan(recipe, {name: len(of_source) for name, of_source in items.items()}, 1)
    seed_initialization(recipe.seed)
    state = new_state(recipe, Recognizer(recipe.model, recipe.label_spaces), CPU)
    state.scaler = GradScaler("cpu", init_scale=1.0)
    streams = [
        Stream(name, source, items[name], numbers.batch_sizes[name], recipe.seed)
        for name, source in recipe.sources.items()
    ]
    loader = Loader(streams, WorkerPool(0, 60), numbers.microbatches, [0], UnreadableLog(0))
    loader.seek(0)
    stepper = Stepper(recipe, numbers, state, state.model, [0], CPU, [], tmp_path)
    return state, lambda: stepper.step(next(loader))


def test_gradient_that_overflows_changes_nothing_but_the_scale(
    stepping: tuple[TrainState, Callable[[], StepResult]],
) -> None:
    state, step = stepping
    assert step().skipped == ""  # so that there is momentum
    state.scaler.update(OVERFLOWING)
    before = copy.deepcopy(state.state_dict())
    skipped = step().skipped
    assert skipped == f"step 2: the float16 gradient overflowed; the loss is scaled by {OVERFLOWING / 2:g} from now on"
    after = state.state_dict()
    for part in ("model", "ema"):
        assert difference(after[part], before[part]) == ""
    assert difference(after["optimizer"]["state"], before["optimizer"]["state"]) == ""
    assert after["optimizer"]["state"] != {}
    assert after["scaler"]["scale"] == OVERFLOWING / 2
    # It counts as done, and as none of those of which a recipe permits so many; the next one changes the weights.
    assert (after["step"], after["skipped_steps"]) == (2, [])
    state.scaler.update(1.0)
    assert step().skipped == ""
    assert difference(state.model.state_dict(), before["model"]) != ""
