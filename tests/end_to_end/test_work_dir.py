"""One run at a time in a work dir, and what becomes of a run that nobody looks at any more or that was cut short."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omnisource.checkpoints.disk import NEEDED_BESIDES_BYTES
from omnisource.checkpoints.file import saved_checkpoints
from omnisource.errors import UserError
from omnisource.recipe.recipe import Recipe
from omnisource.runs.read import read_run
from omnisource.training.train import train
from tests.support.holding import held_config, let_go, wait_until_held
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides
from tests.support.obedient_workers import process_state, wait_until
from tests.support.tiny_runs import environment, roots, run_python, step_lines, tiny_recipe

STEPS = 12

WITHOUT_WAITING = """
import sys
from omnisource.cli.main import main
from omnisource.files import lock

lock.DYING_SECONDS = 0.0
sys.exit(main(sys.argv[1:]))
"""
"""Starts a command for which a run that has the work dir counts as one that keeps it at once."""


def arguments_of(data: Path, config: Path = PUBLISHED_CONFIG) -> list[str]:
    """Returns the arguments of a run of 12 steps in `run`, with one loading worker."""
    settings = [*roots(data), "num_workers=1", "validation.interval_epochs=0", "log_interval_steps=1"]
    overrides = tiny_overrides(num_epochs=2, more=settings)
    return ["train", str(config), *overrides, "--work-dir", "run"]


@contextmanager
def started(data: Path, folder: Path, config: Path = PUBLISHED_CONFIG) -> Iterator[subprocess.Popen[str]]:
    """Yields the process of such a run; it is killed afterward, if it is still there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "omnisource", *arguments_of(data, config)],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_second_start_in_a_work_dir_is_refused_and_the_first_loses_nothing(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = held_config(tmp_path, 3, f"load_config({str(PUBLISHED_CONFIG)!r}, Recipe)")
    with started(data, tmp_path, config) as first:
        wait_until_held(tmp_path, first)
        first.send_signal(signal.SIGSTOP)  # so that nothing changes but by the second
        wait_until(lambda: process_state(first.pid) == "T")
        before = content(run)
        for more in (["--resume", "auto"], []):
            second = run_python(["-c", WITHOUT_WAITING, *arguments_of(data, config), *more], tmp_path)
            assert second.returncode == 2, second.stderr
            assert second.stderr.startswith("error: run: another run is at work in this folder (process ")
            assert f"(process {first.pid} on " in second.stderr
            assert len(second.stderr.splitlines()) == 1
        assert content(run) == before
        first.send_signal(signal.SIGCONT)
        let_go(tmp_path)
        output, _ = first.communicate(timeout=100)
        assert first.returncode == 0, output
    assert [line["step"] for line in step_lines(run)] == list(range(1, STEPS + 1))
    assert not (run / "metrics.discarded.jsonl").exists()


def test_run_whose_output_nobody_reads_any_more_goes_on_to_its_end(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with started(data, tmp_path) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        process.stdout.close()  # as `| head -3` does
        process.stdout = None  # or it would be read once more in the end
        assert process.wait(timeout=100) == 0
    assert [line["step"] for line in step_lines(run)] == list(range(1, STEPS + 1))
    assert read_run(run).state == "complete"
    assert f"the run is complete: {STEPS} steps" in (run / "train.log").read_text()
    assert f"step {STEPS}/{STEPS}" in (run / "train.log").read_text()
    assert saved_checkpoints(run)[-1].stem == f"step_{STEPS:09d}"


@pytest.fixture
def cut_short(data: Path, tmp_path: Path) -> tuple[Recipe, Path]:
    """Returns a recipe and its run, as it is if its process is killed after the last checkpoint."""
    recipe, run = tiny_recipe(data, "num_epochs=1"), tmp_path / "run"
    train(recipe, run)
    status = json.loads((run / "run.json").read_text())
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    status |= {"state": "running", "activity": "validating", "step": 5, "process_id": gone.pid, "process_start": "1"}
    (run / "run.json").write_text(json.dumps(status))
    (run / "curves.svg").unlink()
    return recipe, run


def test_run_that_was_killed_after_its_last_checkpoint_is_complete_once_it_is_resumed(
    cut_short: tuple[Recipe, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = cut_short
    assert read_run(run).state == "killed"
    before = content(run)
    state = train(recipe, run, resume="auto")
    assert "the run is complete already, all 6 steps" in capsys.readouterr().out
    now = read_run(run)
    assert (now.state, now.step, now.total_steps, now.activity) == ("complete", 6, 6, "")
    assert (now.best_score, now.best_step) == (state.best_score, state.best_step)
    assert (run / "curves.svg").stat().st_size > 1000
    after = content(run)
    assert {path.name for path in after if after[path] != before.get(path)} == {"run.json", "curves.svg"}


def test_damaged_or_missing_run_json_of_a_complete_run_is_written_again(cut_short: tuple[Recipe, Path]) -> None:
    recipe, run = cut_short
    (run / "run.json").write_text("{")
    train(recipe, run, resume="auto")
    assert read_run(run).state == "complete"
    (run / "run.json").unlink()
    train(recipe, run, resume="auto")
    assert read_run(run).state == "complete"


def test_first_checkpoint_is_warned_of_by_its_own_size(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    free = NEEDED_BESIDES_BYTES + 1000  # enough for all else, and for no checkpoint
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(2 * free, free, free))
    train(tiny_recipe(data, "validation.interval_epochs=0"), tmp_path / "run")
    assert len(saved_checkpoints(tmp_path / "run")) == 1
    assert (tmp_path / "run/train.log").read_text().count("the disk is nearly full") == 1


def test_folder_that_a_run_came_into_after_it_was_looked_at_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    make = os.mkdir

    def mkdir(path: str | os.PathLike[str], *more: int) -> None:
        make(path, *more)
        if Path(path) == run:
            (run / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n')  # of a run that was faster

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(UserError, match="already holds a run"):
        train(tiny_recipe(data), run)
    assert sorted(path.name for path in run.iterdir()) == ["metrics.jsonl", "run.lock"]
