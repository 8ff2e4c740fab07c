from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from omnisource.errors import UserError
from omnisource.recipe import Recipe
from omnisource.resume import Interrupted, resume_notes, with_same_microbatches
from omnisource.train import train
from omnisource.training.checkpoint import best_path, checkpoint_path, read_checkpoint, saved_checkpoints
from tests.miniature import PUBLISHED_CONFIG, tiny_overrides
from tests.runs.tiny_runs import (
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

EPOCH, STEPS = 3, 6
SAVE_EVERY_STEP = ("num_epochs=2", "checkpoints.interval_steps=1", "checkpoints.keep_last=9")


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the work dir of a run of 2 epochs of 3 steps: three sources, accumulation, dropout, validation."""
    work_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(mixed_recipe(data, *SAVE_EVERY_STEP), work_dir)
    return work_dir


def assert_equal_runs(resumed: Path, uninterrupted: Path) -> None:
    ours, theirs = (read_checkpoint(checkpoint_path(folder, STEPS)) for folder in (resumed, uninterrupted))
    assert difference(ours.state, theirs.state) == ""
    assert lines_of(resumed) == lines_of(uninterrupted)
    ours, theirs = (read_checkpoint(best_path(folder)) for folder in (resumed, uninterrupted))
    assert difference(ours.state, theirs.state) == ""


def interrupt(number: signal.Signals, after: Path | None = None) -> threading.Thread:
    """Sends this process a signal as soon as a run takes signals, and a file is there."""
    outside = signal.getsignal(number)

    def wait() -> None:
        while signal.getsignal(number) is outside or (after is not None and not after.exists()):
            time.sleep(0.001)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


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
    for num_workers, saved, number in ((3, 1, signal.SIGTERM), (1, 3, signal.SIGINT)):
        sender = interrupt(number, after=checkpoint_path(tmp_path, saved))
        with pytest.raises(Interrupted) as stopped:
            train(mixed_recipe(data, *SAVE_EVERY_STEP, f"num_workers={num_workers}"), tmp_path, resume="auto")
        sender.join()
        assert stopped.value.signal_number == number
        assert stopped.value.checkpoint == saved_checkpoints(tmp_path)[-1]
        assert saved <= read_checkpoint(stopped.value.checkpoint).state["step"] < STEPS
    train(mixed_recipe(data, *SAVE_EVERY_STEP), tmp_path, resume="auto")
    assert_equal_runs(tmp_path, uninterrupted)
    assert [line["step"] for line in step_lines(tmp_path)] == list(range(1, STEPS + 1))


def test_uninterrupted_run_was_not_trivial(uninterrupted: Path) -> None:
    lines = step_lines(uninterrupted)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["epoch"] for line in lines] == [1, 1, 1, 2, 2, 2]
    assert all(set(line["losses"]) == {"kinetics400", "imagenet", "raw"} for line in lines)
    assert lines[0]["samples"] == {"kinetics400": 4, "imagenet": 4, "raw": 2}
    first, last = (read_checkpoint(checkpoint_path(uninterrupted, step)).state for step in (1, STEPS))
    assert all(not torch.equal(first["model"][name], last["model"][name]) for name in first["model"] if "fc" in name)
    assert last["samples_seen"] == {"kinetics400": 24, "imagenet": 24, "raw": 12}


def test_dropout_and_augmentation_follow_the_seed(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    train(mixed_recipe(data, "seed=1"), tmp_path)
    assert step_lines(tmp_path)[0]["losses"] != step_lines(uninterrupted)[0]["losses"]


def test_process_that_gets_a_signal_saves_and_prints_the_command_that_goes_on(data: Path, tmp_path: Path) -> None:
    settings = [*roots(data), "checkpoints.interval_steps=1", "validation.interval_epochs=0", "num_workers=1"]
    overrides = tiny_overrides(num_epochs=5, more=settings)
    command = [sys.executable, "-m", "omnisource", "train", str(PUBLISHED_CONFIG), *overrides, "--work-dir", "a run"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    interrupt_at = checkpoint_path(tmp_path / "a run", 2)
    while not interrupt_at.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
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
    assert "the run is complete: 30 steps" in result.stdout
    assert [line["step"] for line in step_lines(tmp_path / "a run")] == list(range(1, 31))


def test_signal_before_a_validation_stops_at_once_and_the_resumed_run_makes_up_for_it(
    data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(data, "num_epochs=1", "sources.kinetics400.batch_size=12")  # one step, then the validation
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(recipe, whole)
    sender = interrupt(signal.SIGTERM)  # during the only step
    with pytest.raises(Interrupted):
        train(recipe, stopped)
    sender.join()
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


def test_resume_auto_starts_anew_where_there_is_no_checkpoint(data: Path, tmp_path: Path) -> None:
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
    sender = interrupt(signal.SIGTERM)
    with pytest.raises(Interrupted):
        train(recipe, work_dir, resume=str(checkpoint_path(work_dir, EPOCH)))
    sender.join()
    names = {path.name for path in (work_dir / "checkpoints").iterdir()}
    assert {"best.pt", "best.pt.discarded", "step_000000006.pt.discarded"} <= names
    assert "step_000000006.pt" not in names
    assert not [name for name in names if name.endswith(".tmp")]
    assert read_checkpoint(best_path(work_dir)).state["step"] == EPOCH
    train(recipe, work_dir, resume="auto")
    assert_equal_runs(work_dir, uninterrupted)


def test_best_checkpoint_that_is_gone_is_named_and_chosen_anew(data: Path, tmp_path: Path) -> None:
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


def test_damaged_checkpoints_are_passed_over_and_named(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
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


def test_resume_from_another_recipe_lists_all_that_differs(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    other = mixed_recipe(
        data,
        *SAVE_EVERY_STEP,
        "seed=4",
        "optimizer.learning_rate=0.3",
        "sources.imagenet.training_view.crop_size=16",
        "num_workers=2",
        "validation.interval_epochs=2",
        "sources.kinetics400.test_views.num_clips=3",
    )
    with pytest.raises(UserError) as refused:
        train(other, tmp_path / "run", resume=str(checkpoint_path(uninterrupted, 2)))
    message = str(refused.value)
    assert "seed: 0 in the checkpoint, 4 now" in message
    assert "optimizer.learning_rate: 0.01 in the checkpoint, 0.3 now" in message
    assert "sources.imagenet.training_view.crop_size: 32 in the checkpoint, 16 now" in message
    for may_differ in ("num_workers", "validation.interval", "test_views"):
        assert may_differ not in message
    assert not (tmp_path / "run").exists()


def test_what_has_changed_since_the_interrupted_run_is_said_in_one_line(uninterrupted: Path) -> None:
    checkpoint = read_checkpoint(checkpoint_path(uninterrupted, 1))
    assert resume_notes(checkpoint) == []
    checkpoint.facts["versions"]["torch"] = "2.0.1"
    checkpoint.facts.update(threads=77, processor="Abacus 3000", decoder="libavcodec 4.1.0")
    (note,) = resume_notes(checkpoint)
    assert note.startswith("bit-for-bit equality with the interrupted run is not promised: torch 2.0.1 -> ")
    for changed in ("threads 77 -> ", "processor Abacus 3000 -> ", "decoder libavcodec 4.1.0 -> "):
        assert changed in note
    assert "\n" not in note


def test_resumed_run_keeps_its_microbatches_a_step(
    uninterrupted: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(mixed_recipe(data, *SAVE_EVERY_STEP), accumulation=5)
    train(recipe, tmp_path / "run", resume=str(checkpoint_path(uninterrupted, 4)))
    assert "accumulation=2, not 5: the run goes on with 2 microbatches a step" in capsys.readouterr().out
    ours, theirs = (read_checkpoint(checkpoint_path(folder, STEPS)) for folder in (tmp_path / "run", uninterrupted))
    assert difference(ours.state, theirs.state) == ""


def test_processes_share_out_the_microbatches_of_a_run_or_are_refused_with_the_counts_that_do(
    uninterrupted: Path, data: Path
) -> None:
    path = checkpoint_path(uninterrupted, 1)
    checkpoint = read_checkpoint(path)
    checkpoint.facts["microbatches"] = 12
    recipe = mixed_recipe(data)
    for num_processes, accumulation in ((1, 12), (2, 6), (6, 2), (12, 1)):
        assert with_same_microbatches(recipe, checkpoint, path, num_processes)[0].accumulation == accumulation
    for num_processes in (5, 24):
        with pytest.raises(
            UserError, match=rf"{num_processes} processes cannot.*1 or 2 or 3 or 4 or 6 or 12 processes"
        ):
            with_same_microbatches(recipe, checkpoint, path, num_processes)


def test_resume_with_another_list_is_refused(data: Path, tmp_path: Path) -> None:
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    train(tiny_recipe(copied, "sources.kinetics400.batch_size=6"), tmp_path / "run")
    video_list = copied / "kinetics400/kinetics400_train_list_videos.txt"
    lines = video_list.read_text().splitlines()
    video_list.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    with pytest.raises(UserError, match="list of source kinetics400 has other items, labels or another order"):
        train(tiny_recipe(copied, "sources.kinetics400.batch_size=6"), tmp_path / "run", resume="auto")


def test_moved_data_does_not_hinder_resuming(uninterrupted: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "moved")
    recipe: Recipe = mixed_recipe(tmp_path / "moved", *SAVE_EVERY_STEP)
    train(recipe, tmp_path / "run", resume=str(checkpoint_path(uninterrupted, STEPS - 1)))
    final = read_checkpoint(checkpoint_path(tmp_path / "run", STEPS)).state
    assert difference(final, read_checkpoint(checkpoint_path(uninterrupted, STEPS)).state) == ""


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
