"""What whole runs leave for people who watch them: run.json and tensorboard."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from omnisource.errors import UserError
from omnisource.runs.read import read_run
from omnisource.training.resuming.ending import RunInterrupted
from omnisource.training.train import train
from tests.support.holding import signal_in_step
from tests.support.tiny_runs import tiny_recipe, validation_lines


def test_run_leaves_pictures_curves_and_how_it_ended(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(data, "num_workers=1", "num_epochs=2", "sources.kinetics400.batch_size=6")
    state = train(recipe, tmp_path)
    run = read_run(tmp_path)
    assert (run.state, run.step, run.total_steps) == ("complete", 4, 4)
    assert (run.best_score, run.best_step) == (state.best_score, state.best_step)
    assert [one.metrics for one in run.validations] == [validation_lines(tmp_path)[-1]["metrics"]]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [image.step for image in events.Images("examples/kinetics400")] == [2, 4]
    assert {"memory/process_gib", "memory/workers_gib", "speed/steps_per_second"} <= set(events.Tags()["scalars"])


def test_run_that_is_stopped_or_fails_says_so_and_a_resumed_one_goes_on(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(data, "num_epochs=2", "sources.kinetics400.batch_size=6", "checkpoints.interval_steps=1")
    with signal_in_step(signal.SIGTERM, 2), pytest.raises(RunInterrupted) as stopped:
        train(recipe, tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert (run.state, run.reason) == ("interrupted", f"SIGTERM, saved as {stopped.value.checkpoint.name}")
    train(recipe, tmp_path / "run", resume="auto")
    assert (read_run(tmp_path / "run").state, read_run(tmp_path / "run").reason) == ("complete", "")

    with pytest.raises(UserError) as failed:
        train(tiny_recipe(data, "optimizer.learning_rate=1e30"), tmp_path / "failing")
    run = read_run(tmp_path / "failing")
    assert run.state == "failed"
    assert run.reason == str(failed.value)
