from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.axes import Axes

from omnisource.checkpoints.file import best_path, checkpoint_path, read_checkpoint, saved_checkpoints
from omnisource.errors import UserError
from omnisource.training.resuming.ending import RunInterrupted
from omnisource.training.train import train
from tests.support.holding import held_config, let_go, signal_in_step, wait_until_held
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides
from tests.support.tiny_runs import (
    EPOCH,
    SAVE_EVERY_STEP,
    STEPS,
    difference,
    environment,
    lines_of,
    mixed_recipe,
    roots,
    run_python,
    step_lines,
    tiny_recipe,
    validation_lines,
)


def assert_equal_runs(resumed: Path, uninterrupted: Path) -> None:
    ours, theirs = (read_checkpoint(checkpoint_path(folder, STEPS)) for folder in (resumed, uninterrupted))
    assert difference(ours.state, theirs.state) == ""
    assert lines_of(resumed) == lines_of(uninterrupted)
    ours, theirs = (read_checkpoint(best_path(folder)) for folder in (resumed, uninterrupted))
    assert difference(ours.state, theirs.state) == ""


# Steps done at the stop: the first, the end of an epoch, in the middle of one, the last but one.
@pytest.mark.parametrize(("stopped", "num_workers"), [(1, 0), (EPOCH, 1), (EPOCH + 1, 3), (STEPS - 1, 0)])
def test_resumed_run_equals_uninterrupted_run(
    uninterrupted: Path, data: Path, tmp_path: Path, stopped: int, num_workers: int
) -> None:
    work_dir = tmp_path / "run"
    shutil.copytree(uninterrupted, work_dir)
    recipe = mixed_recipe(data, *SAVE_EVERY_STEP, f"num_workers={num_workers}")
    train(recipe, work_dir, resume=str(checkpoint_path(work_dir, stopped)))
    assert_equal_runs(work_dir, uninterrupted)
    discarded = step_lines(work_dir, "metrics.discarded.jsonl")
    assert [line["step"] for line in discarded] == list(range(stopped + 1, STEPS + 1))


def test_run_stopped_by_a_signal_and_resumed_equals_uninterrupted_run(
    uninterrupted: Path, data: Path, tmp_path: Path
) -> None:
    # Stopped with three workers, again with one, finished with none.
    for num_workers, saved, number in ((3, 2, signal.SIGTERM), (1, 4, signal.SIGINT)):
        with signal_in_step(number, 2, accumulation=2), pytest.raises(RunInterrupted) as stopped:
            train(mixed_recipe(data, *SAVE_EVERY_STEP, f"num_workers={num_workers}"), tmp_path, resume="auto")
        assert stopped.value.signal_number == number
        assert stopped.value.checkpoint == saved_checkpoints(tmp_path)[-1]
        assert read_checkpoint(stopped.value.checkpoint).state["step"] == saved
    train(mixed_recipe(data, *SAVE_EVERY_STEP), tmp_path, resume="auto")
    assert_equal_runs(tmp_path, uninterrupted)
    assert [line["step"] for line in step_lines(tmp_path)] == list(range(1, STEPS + 1))


def test_dropout_and_augmentation_follow_the_seed(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    train(mixed_recipe(data, "seed=1"), tmp_path)
    assert step_lines(tmp_path)[0]["losses"] != step_lines(uninterrupted)[0]["losses"]


def test_process_that_gets_a_signal_saves_and_prints_the_command_that_goes_on(data: Path, tmp_path: Path) -> None:
    settings = [*roots(data), "checkpoints.interval_steps=1", "validation.interval_epochs=0", "num_workers=1"]
    overrides = tiny_overrides(num_epochs=2, more=settings)
    config = held_config(tmp_path, 2, f"load_config({str(PUBLISHED_CONFIG)!r}, Recipe)")
    command = [sys.executable, "-m", "omnisource", "train", str(config), *overrides, "--work-dir", "a run"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_until_held(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    let_go(tmp_path)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, output
    saved = saved_checkpoints(tmp_path / "a run")
    step = read_checkpoint(saved[-1]).state["step"]
    assert f"stopped and saved: {saved[-1].relative_to(tmp_path)}" in output
    assert "Traceback" not in output

    printed = next(line for line in output.splitlines() if line.startswith("continue with: omnisource "))
    again = shlex.split(printed.removeprefix("continue with: "))
    result = run_python(["-m", *again], tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"continuing from a run/checkpoints/step_{step:09d}.pt" in result.stdout
    assert "the run is complete: 12 steps" in result.stdout
    assert [line["step"] for line in step_lines(tmp_path / "a run")] == list(range(1, 13))


def test_signal_before_a_validation_stops_at_once_and_the_resumed_run_makes_up_for_it(
    data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(data, "num_epochs=1", "sources.kinetics400.batch_size=12")  # one step, then the validation
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(recipe, whole)
    with signal_in_step(signal.SIGTERM, 1), pytest.raises(RunInterrupted):  # in the only step
        train(recipe, stopped)
    assert validation_lines(stopped) == []
    assert not best_path(stopped).exists()
    train(recipe, stopped, resume="auto")
    assert lines_of(stopped) == lines_of(whole)
    ours, theirs = (read_checkpoint(best_path(folder)).state for folder in (stopped, whole))
    assert difference(ours, theirs) == ""


def test_complete_run_that_is_resumed_is_left_untouched(
    uninterrupted: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work_dir = tmp_path / "run"
    shutil.copytree(uninterrupted, work_dir)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in work_dir.rglob("*") if path.is_file()}
    state = train(mixed_recipe(data, *SAVE_EVERY_STEP), work_dir, resume="auto")
    assert state.step == STEPS
    assert "the run is complete already, all 6 steps" in capsys.readouterr().out
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in work_dir.rglob("*") if path.is_file()}
    assert after == before


def test_resume_auto_starts_where_there_is_no_checkpoint(data: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n')  # of a run that ended before it saved
    train(tiny_recipe(data, "sources.kinetics400.batch_size=6"), tmp_path, resume="auto")
    assert [line["step"] for line in step_lines(tmp_path)] == [1, 2]
    assert lines_of(tmp_path, "metrics.discarded.jsonl") == [{"kind": "step", "step": 1}]


def test_run_goes_on_in_another_work_dir_with_its_best_checkpoint(
    uninterrupted: Path, data: Path, tmp_path: Path
) -> None:
    work_dir = tmp_path / "elsewhere"
    recipe = mixed_recipe(data, *SAVE_EVERY_STEP)
    train(recipe, work_dir, resume=str(checkpoint_path(uninterrupted, EPOCH + 1)))
    assert [line["step"] for line in step_lines(work_dir)] == [5, 6]
    final = read_checkpoint(checkpoint_path(work_dir, STEPS)).state
    assert difference(final, read_checkpoint(checkpoint_path(uninterrupted, STEPS)).state) == ""
    assert read_checkpoint(best_path(work_dir)).state["step"] == final["best_step"]
    assert len(step_lines(uninterrupted)) == STEPS


def test_resume_from_an_earlier_checkpoint_sets_later_files_aside(
    uninterrupted: Path, data: Path, tmp_path: Path
) -> None:
    work_dir = tmp_path / "run"
    shutil.copytree(uninterrupted, work_dir)
    shutil.copy(checkpoint_path(work_dir, STEPS), best_path(work_dir))  # as if the last epoch had been the best
    (work_dir / "checkpoints/.step_000000004.pt.99.tmp").write_bytes(b"left by a killed process")
    recipe = mixed_recipe(data, *SAVE_EVERY_STEP)
    with signal_in_step(signal.SIGTERM, 1, accumulation=2), pytest.raises(RunInterrupted):
        train(recipe, work_dir, resume=str(checkpoint_path(work_dir, EPOCH)))
    names = {path.name for path in (work_dir / "checkpoints").iterdir()}
    assert {"best.pt", "best.pt.discarded", "step_000000006.pt.discarded"} <= names
    assert "step_000000006.pt" not in names
    assert not [name for name in names if name.endswith(".tmp")]
    assert read_checkpoint(best_path(work_dir)).state["step"] == EPOCH
    train(recipe, work_dir, resume="auto")
    assert_equal_runs(work_dir, uninterrupted)


def test_best_checkpoint_that_is_gone_is_reported_and_chosen_again(data: Path, tmp_path: Path) -> None:
    # With this learning rate nothing is learned, so that no later validation is better than the first.
    settings = ("num_epochs=3", "optimizer.learning_rate=1e-12", "checkpoints.interval_epochs=1")
    recipe = mixed_recipe(data, *settings, "checkpoints.keep_last=9")
    whole = train(recipe, tmp_path)
    assert whole.best_step == EPOCH
    checkpoint_path(tmp_path, 3 * EPOCH).unlink()
    for path in (best_path(tmp_path), checkpoint_path(tmp_path, EPOCH)):
        path.unlink()
    state = train(recipe, tmp_path, resume="auto")
    said = f"best.pt of step {EPOCH} (validation top-1 {whole.best_score:.4f}) is gone; it will be the best"
    assert (tmp_path / "train.log").read_text().count(said) == 1
    assert (state.best_step, state.best_score) == (3 * EPOCH, whole.best_score)
    assert read_checkpoint(best_path(tmp_path)).state["step"] == 3 * EPOCH
    assert difference(state.model.state_dict(), whole.model.state_dict()) == ""


def test_best_checkpoint_that_is_gone_comes_back_from_the_checkpoint_of_its_step(
    uninterrupted: Path, data: Path, tmp_path: Path
) -> None:
    work_dir = tmp_path / "run"
    shutil.copytree(uninterrupted, work_dir)
    best_path(work_dir).unlink()
    train(mixed_recipe(data, *SAVE_EVERY_STEP), work_dir, resume=str(checkpoint_path(work_dir, STEPS - 1)))
    assert_equal_runs(work_dir, uninterrupted)
    assert "best.pt of step" not in (work_dir / "train.log").read_text()


def test_damaged_checkpoints_are_passed_over_and_reported(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / "run"
    shutil.copytree(uninterrupted, work_dir)
    last, before = (checkpoint_path(work_dir, step) for step in (STEPS, STEPS - 1))
    flipped = bytearray(last.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    last.write_bytes(flipped)
    before.write_bytes(before.read_bytes()[:-5000])
    train(mixed_recipe(data, *SAVE_EVERY_STEP), work_dir, resume="auto")
    assert_equal_runs(work_dir, uninterrupted)
    log = (work_dir / "train.log").read_text()
    for path in (last, before):
        assert f"{path}: " in log and f"falling back to {checkpoint_path(work_dir, STEPS - 2).name}" in log
    assert last.with_suffix(".pt.discarded").read_bytes() == flipped  # nothing of the user's is lost


def test_run_of_which_every_checkpoint_is_damaged_is_not_started_over(
    uninterrupted: Path, data: Path, tmp_path: Path
) -> None:
    work_dir = tmp_path / "run"
    shutil.copytree(uninterrupted, work_dir)
    for path in saved_checkpoints(work_dir):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"(?s)step_000000006\.pt: .*step_000000001\.pt: .*No checkpoint .* is whole"):
        train(mixed_recipe(data, *SAVE_EVERY_STEP), work_dir, resume="auto")
    assert len(saved_checkpoints(work_dir)) == STEPS


def test_new_run_in_a_work_dir_that_holds_one_is_refused(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    recipe = mixed_recipe(data, *SAVE_EVERY_STEP)
    before = sorted(path for path in uninterrupted.rglob("*"))
    with pytest.raises(UserError, match=r"already holds a run.*--resume auto"):
        train(recipe, uninterrupted)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="already holds a run"):
        train(recipe, tmp_path)
    # Nor may the checkpoint of another folder be continued on top of it.
    with pytest.raises(UserError, match="none of its checkpoints"):
        train(recipe, tmp_path, resume=str(checkpoint_path(uninterrupted, 1)))
    assert sorted(path for path in uninterrupted.rglob("*")) == before


class _Payload:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_checkpoints_that_are_none_are_refused_and_run_nothing(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    whole = checkpoint_path(uninterrupted, 2).read_bytes()
    touched = tmp_path / "touched"
    files = {
        "truncated": (lambda path: path.write_bytes(whole[: len(whole) // 2]), "truncated"),
        "empty": (lambda path: path.write_bytes(b""), "truncated"),
        "text": (lambda path: path.write_text("no checkpoint\n"), "truncated"),
        "weights": (lambda path: torch.save({"state_dict": {}}, path), "model.weights="),
        "code": (lambda path: torch.save({"a": _Payload(f"touch {touched}")}, path), "posix.system"),
    }
    recipe = mixed_recipe(data, *SAVE_EVERY_STEP)
    for name, (write, reason) in files.items():
        path = tmp_path / f"{name}.pt"
        write(path)
        with pytest.raises(UserError) as refused:
            train(recipe, tmp_path / "run", resume=str(path))
        assert str(path) in str(refused.value)
        assert reason in str(refused.value), name
        assert "weights_only" not in str(refused.value)
    with pytest.raises(UserError, match="no such checkpoint"):
        train(recipe, tmp_path / "run", resume=str(tmp_path / "missing.pt"))
    assert not touched.exists()
    assert not (tmp_path / "run").exists()


def test_validation_that_fails_at_its_end_is_done_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no letters can be drawn")

    recipe = tiny_recipe(data, "num_epochs=2", "checkpoints.interval_epochs=2")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole)
    with monkeypatch.context() as without_letters:
        without_letters.setattr(Axes, "text", fail)  # for the captions of the examples
        with pytest.raises(ValueError, match="no letters"):
            train(recipe, broken)
    train(recipe, broken, resume="auto")
    assert validation_lines(broken) == validation_lines(whole)
    best = [read_checkpoint(best_path(work_dir)).state for work_dir in (whole, broken)]
    assert best[0]["best_step"] == best[1]["best_step"] and best[0]["best_score"] == best[1]["best_score"]
