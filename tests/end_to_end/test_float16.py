"""The scaled loss of float16, on the CPU: `train` refuses it there, being slow, and all below that refusal runs."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim.optimizer import register_optimizer_step_post_hook

from omnisource.checkpoints.file import checkpoint_path, read_checkpoint
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_splits
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UserError
from omnisource.models.recognizer import Recognizer
from omnisource.randomness import seed_initialization
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.report import Report
from omnisource.training.plan import make_plan
from omnisource.training.run_context import RunContext
from omnisource.training.state import TrainState, new_state
from omnisource.training.train import Start, train, train_on_device
from omnisource.training.trainer import Trainer
from tests.support.tiny_runs import difference, lines_of, mixed_recipe, step_lines, tiny_recipe

CPU = torch.device("cpu")

OVERFLOWING = 2.0**127
"""Scale at which every gradient is infinite, in float32 too."""

FLOAT16 = (
    "precision=float16",
    "ema_decay=0.9",
    "sources.kinetics400.sampling.clip_length=4",  # of 2 frames torch gets gradients of half precision wrong on a CPU
    "sources.kinetics400.sampling.frame_interval=1",
)
FLOAT32 = ("ema_decay=0.9",)
"""With a scaler of their own: a scale that is a power of two then changes no bit of a gradient."""


def training(data: Path, work_dir: Path, *overrides: str, scaler: GradScaler | None = None) -> Trainer:
    """Returns a run before its first step, put together as `train` does it, with another scaler if one is given."""
    recipe, class_names = resolve_classes(tiny_recipe(data, *overrides))
    items = read_splits(recipe, class_names, "train")
    plan = make_plan(recipe, {name: len(of_source) for name, of_source in items.items()}, 1)
    seed_initialization(recipe.seed)
    state = new_state(recipe, Recognizer(recipe.model, recipe.label_spaces), CPU)
    state.scaler = scaler or state.scaler
    run = RunContext(
        recipe=recipe,
        plan=plan,
        class_names=class_names,
        facts={},
        train_items=items,
        validation_items={},
        device=CPU,
        work_dir=work_dir,
        report=Report(),
        workers=WorkerPool(0, 60),
        unreadable=UnreadableLog(0),
        stop=[],
    )
    return Trainer(run, state, state.model)


def changed(state: TrainState, before: dict) -> list[str]:
    """Returns which parts of what is trained are not as before: weights with running statistics, average, momentum."""
    after = state.state_dict()
    parts = {name: (after[name], before[name]) for name in ("model", "ema")}
    parts["optimizer"] = (after["optimizer"]["state"], before["optimizer"]["state"])
    return [name for name, (ours, theirs) in parts.items() if difference(ours, theirs)]


def test_float16_is_refused_on_a_cpu_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="precision=float16 needs a GPU: on a CPU use precision=bfloat16 or float32"):
        train(tiny_recipe(data, *FLOAT16), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("overrides", [FLOAT16, FLOAT32])
def test_gradient_that_overflows_changes_nothing_but_the_scale(
    data: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    run = training(data, tmp_path, *overrides, scaler=GradScaler("cpu", init_scale=4.0))
    assert run.step().skipped == ""  # so that there is momentum
    run.state.scaler.update(OVERFLOWING)
    before = copy.deepcopy(run.state.state_dict())
    assert before["optimizer"]["state"] != {}
    result = run.step()
    message = f"step 2: the float16 gradient overflowed; the loss is scaled by {OVERFLOWING / 2:g} from now on"
    assert result.skipped == message and not math.isfinite(result.record.gradient_norm)
    assert changed(run.state, before) == []
    assert run.state.scaler.get_scale() == OVERFLOWING / 2
    # It counts as done, and as none of those of which a recipe permits so many; the next one changes the weights.
    assert (run.state.step, run.state.skipped_steps, run.state.samples_seen["kinetics400"]) == (2, [], 4)
    run.state.scaler.update(4.0)
    assert run.step().skipped == ""
    assert changed(run.state, before) == ["model", "ema", "optimizer"]


def test_scale_grows_and_shrinks_as_that_of_torch(data: Path, tmp_path: Path) -> None:
    settings = {"init_scale": 2.0**14, "growth_interval": 2}
    run = training(data, tmp_path, *FLOAT16, "num_epochs=9", scaler=GradScaler("cpu", **settings))
    # The same overflows in a training of one weight, which is torch's alone.
    theirs, weight = GradScaler("cpu", **settings), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scales = [run.state.scaler.get_scale()]
    for _ in range(24):
        result = run.step()
        assert bool(result.skipped) != math.isfinite(result.record.gradient_norm)
        theirs.scale(weight).backward()
        weight.grad = torch.full((1,), math.inf if result.skipped else 0.0)
        theirs.step(optimizer)
        theirs.update()
        assert run.state.scaler.state_dict() == theirs.state_dict()
        scales.append(run.state.scaler.get_scale())
    ratios = [after / before for before, after in itertools.pairwise(scales)]
    assert ratios.count(0.5) >= 2 and ratios.count(2.0) >= 2 and set(ratios) == {0.5, 1.0, 2.0}


def test_norm_and_clipping_are_those_of_the_gradient_itself(data: Path, tmp_path: Path) -> None:
    overrides = (*FLOAT32, "optimizer.max_gradient_norm=0.5")
    plain = training(data, tmp_path, *overrides)
    scaled = training(data, tmp_path, *overrides, scaler=GradScaler("cpu", init_scale=2.0**12))
    for _ in range(4):
        norm = plain.step().record.gradient_norm
        assert scaled.step().record.gradient_norm == norm > 0.5
    assert changed(scaled.state, plain.state.state_dict()) == []


def test_logged_norm_of_a_float16_gradient_does_not_depend_on_the_scale(data: Path, tmp_path: Path) -> None:
    norms = [
        training(data, tmp_path, *FLOAT16, scaler=GradScaler("cpu", init_scale=scale)).step().record.gradient_norm
        for scale in (2.0**4, 2.0**9)
    ]
    # Gradients have 11 bits, and many are summed; a norm that was still scaled would be 32 times as large.
    assert norms[0] == pytest.approx(norms[1], rel=0.1)


def test_microbatches_of_a_step_make_one_scaled_update(data: Path, tmp_path: Path) -> None:
    overrides = (*FLOAT32, "accumulation=2")
    plain = training(data, tmp_path, *overrides)
    scaled = training(data, tmp_path, *overrides, scaler=GradScaler("cpu", init_scale=2.0**12, growth_interval=3))
    updates: list[object] = []
    hook = register_optimizer_step_post_hook(lambda *_: updates.append(None))
    try:
        for _ in range(2):
            plain.step()
            assert scaled.step().skipped == ""
    finally:
        hook.remove()
    assert len(updates) == 2 * 2
    assert changed(scaled.state, plain.state.state_dict()) == []
    scale = scaled.state.scaler.state_dict()
    assert (scale["scale"], scale["_growth_tracker"]) == (2.0**12, 2)


@pytest.mark.parametrize("overflowing", [0, 1])
def test_overflow_in_one_microbatch_leaves_out_the_whole_step(data: Path, tmp_path: Path, overflowing: int) -> None:
    run = training(data, tmp_path, *FLOAT16, "accumulation=2", scaler=GradScaler("cpu", init_scale=4.0))
    assert run.step().skipped == ""
    before = copy.deepcopy(run.state.state_dict())
    backwards = itertools.count()
    weight = next(run.state.model.parameters())
    hook = weight.register_hook(lambda gradient: gradient * (math.inf if next(backwards) == overflowing else 1.0))
    assert "the float16 gradient overflowed; the loss is scaled by 2 from now on" in run.step().skipped
    assert next(backwards) == 2
    hook.remove()
    assert changed(run.state, before) == []
    assert run.step().skipped == ""


def test_gradient_that_overflows_at_the_min_scale_is_a_fault_of_the_run(data: Path, tmp_path: Path) -> None:
    overrides = (*FLOAT16, "max_skipped_steps=1")
    run = training(data, tmp_path, *overrides, scaler=GradScaler("cpu", init_scale=1.0, growth_interval=2))
    assert run.step().skipped == ""
    before = copy.deepcopy(run.state.state_dict())
    weight = next(run.state.model.parameters())
    hook = weight.register_hook(lambda gradient: gradient * math.inf)
    assert "step 2: the gradient is not finite" in run.step().skipped
    assert (run.state.skipped_steps, run.state.scaler.get_scale()) == ([2], 1.0)
    hook.remove()
    assert changed(run.state, before) == []
    assert run.step().skipped == ""
    assert run.state.scaler.get_scale() == 1.0  # it grows after two steps in a row, and there was one between
    weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(UserError, match=r"(?s)step 4: the gradient is not finite.*max_skipped_steps=N \(now 1\)"):
        run.step()


def test_loss_that_is_not_finite_is_no_overflow_of_the_scale(data: Path, tmp_path: Path) -> None:
    run = training(data, tmp_path, *FLOAT16, scaler=GradScaler("cpu", init_scale=4.0))
    run.state.model.state_dict()["heads.kinetics400.fc2.weight"].fill_(math.inf)
    with pytest.raises(UserError, match="step 1: the loss of source kinetics400 is not finite"):
        run.step()
    assert run.state.scaler.get_scale() == 4.0


def test_state_goes_on_in_another_process_with_its_scale_and_the_steps_since_it_changed(
    data: Path, tmp_path: Path
) -> None:
    overrides = (*FLOAT16, "num_epochs=9", "accumulation=2")
    whole = training(data, tmp_path, *overrides, scaler=GradScaler("cpu", init_scale=2.0**12, growth_interval=4))
    while whole.state.scaler.state_dict()["_growth_tracker"] != 3:
        whole.step()
    resumed = training(data, tmp_path, *overrides)
    resumed.state.load_state_dict(copy.deepcopy(whole.state.state_dict()))
    resumed.loader.seek(resumed.state.step)
    scales = []
    for _ in range(6):
        assert resumed.step().record.losses == whole.step().record.losses
        assert difference(resumed.state.state_dict(), whole.state.state_dict()) == ""
        scales.append(whole.state.scaler.get_scale())
    assert len(set(scales)) > 1


def train_on_the_cpu(recipe: Recipe, work_dir: Path, resume: str = "") -> TrainState:
    """Does what `train` does once it has not refused the precision."""
    return train_on_device(recipe, Start(work_dir, CPU, resume))


def test_float16_run_that_is_resumed_equals_one_that_was_not(data: Path, tmp_path: Path) -> None:
    saved = ("checkpoints.interval_steps=1", "checkpoints.keep_last=99")
    recipe = mixed_recipe(data, *FLOAT16, *saved, "num_epochs=4")
    train_on_the_cpu(recipe, tmp_path / "whole")
    log = (tmp_path / "whole/train.log").read_text()
    assert "step 1: the float16 gradient overflowed; the loss is scaled by 32768 from now on" in log
    last = read_checkpoint(checkpoint_path(tmp_path / "whole", 12)).state
    assert 0 < last["scaler"]["_growth_tracker"] <= 12 and last["scaler"]["scale"] < 2.0**16
    for step in (2, 9):  # while the scale still shrinks, and when it has settled
        work_dir = tmp_path / f"resumed_{step}"
        train_on_the_cpu(recipe, work_dir, resume=str(checkpoint_path(tmp_path / "whole", step)))
        assert difference(read_checkpoint(checkpoint_path(work_dir, 12)).state, last) == ""
        assert step_lines(work_dir) == step_lines(tmp_path / "whole")[step:]
        scores = [
            [line for line in lines_of(run) if line["kind"] == "validation"][-1]
            for run in (work_dir, tmp_path / "whole")
        ]
        assert scores[0] == scores[1]
