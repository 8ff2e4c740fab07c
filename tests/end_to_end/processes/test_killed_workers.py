"""Training runs whose loading workers are killed, or lose their parent."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnisource.checkpoints.file import checkpoint_path, read_checkpoint, saved_checkpoints
from omnisource.training.train import train
from tests.support.holding import held_config, in_each_step, let_go, wait_until_held
from tests.support.obedient_workers import is_alive, wait_until
from tests.support.tiny_runs import PROJECT, difference, environment, lines_of, mixed_recipe, step_lines, tiny_recipe

SETTINGS = ("num_epochs=8", "deterministic=True", "validation.interval_epochs=0", "checkpoints.interval_epochs=8")
NUM_STEPS, NUM_KILLS = 48, 5

STEPS_BETWEEN = 4
"""Steps from one kill to the next: one more than are loaded ahead, so that no file is in the hands of two workers that
are killed, after which it would count as unreadable."""

REPLACED = r"worker \d (?:ended|did not start) \(SIGKILL\).*; it is replaced"


@contextlib.contextmanager
def killer_of_workers(work_dir: Path) -> Iterator[list[int]]:
    """Kills `NUM_KILLS` loading workers of this process; yields the process ids that it has killed.

    That happens when a step begins, if the run has named the one that was killed before.
    """
    killed: list[int] = []
    rng, due = random.Random(0), 3

    def kill(step: int) -> None:
        nonlocal due
        if step < due or len(killed) == NUM_KILLS or len(re.findall(REPLACED, _log(work_dir))) < len(killed):
            return
        started_by_us = children(os.getpid())  # among them the server that starts the workers
        workers = [one for server in started_by_us for one in children(server) if one not in killed]
        if workers:
            killed.append(rng.choice(workers))
            os.kill(killed[-1], signal.SIGKILL)
            due = step + STEPS_BETWEEN

    with in_each_step(kill):
        yield killed


def test_run_whose_workers_are_killed_names_them_and_equals_an_undisturbed_run(data: Path, tmp_path: Path) -> None:
    train(tiny_recipe(data, *SETTINGS), tmp_path / "undisturbed")
    with killer_of_workers(tmp_path / "disturbed") as killed:
        state = train(tiny_recipe(data, *SETTINGS, "num_workers=2"), tmp_path / "disturbed")
    assert state.unreadable == {}
    lines = step_lines(tmp_path / "disturbed")
    assert len(lines) == NUM_STEPS and lines == step_lines(tmp_path / "undisturbed")
    assert len(re.findall(REPLACED, _log(tmp_path / "disturbed"))) == len(killed) == NUM_KILLS


def test_workers_of_a_run_that_is_killed_end(data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(
        "from pathlib import Path\n"
        "from tests.support.tiny_runs import tiny_recipe\n"
        f"recipe = tiny_recipe(Path({str(data)!r}), 'num_epochs=10000', 'num_workers=3')\n"
    )
    command = [sys.executable, "-m", "omnisource", "train", str(tmp_path / "config.py")]
    with subprocess.Popen(
        [*command, "--work-dir", str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        try:
            metrics = tmp_path / "run/metrics.jsonl"
            wait_until(lambda: metrics.is_file() and metrics.read_text().count('"step"') > 2)
            below = descendants(run.pid)
        finally:
            run.kill()
    assert len(below) >= 4  # three workers, and the process that starts them
    wait_until(lambda: not any(is_alive(process_id) for process_id in below))


GROUP_SETTINGS = ("num_epochs=4", "checkpoints.interval_epochs=4", "validation.interval_epochs=4", "ema_decay=0.9")
GROUP_STEPS = 12


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the work dir of a run of three sources that nobody sends a signal."""
    work_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    train(mixed_recipe(data, *GROUP_SETTINGS), work_dir)
    return work_dir


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_whole_process_group_saves_the_run_and_ends_no_worker_before(
    data: Path, undisturbed: Path, tmp_path: Path, number: signal.Signals
) -> None:
    # What SLURM warns with, and what launchers and terminals send, reaches workers and their server too.
    config = held_config(tmp_path, 2, f"mixed_recipe(Path({str(data)!r}), *{GROUP_SETTINGS!r}, 'num_workers=3')")
    work_dir = tmp_path / "run"
    command = [sys.executable, "-m", "omnisource", "train", str(config), "--work-dir", str(work_dir)]
    with subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        try:
            wait_until_held(tmp_path, run)
            below = descendants(run.pid)
            os.killpg(run.pid, number)
            let_go(tmp_path)
            output, _ = run.communicate(timeout=100)
        finally:
            run.kill()
    assert run.returncode == 128 + number, output
    assert len(below) >= 4  # three workers, the process that starts them
    wait_until(lambda: not any(is_alive(process_id) for process_id in below))
    [saved] = saved_checkpoints(work_dir)
    assert 2 <= read_checkpoint(saved).state["step"] < GROUP_STEPS
    assert f"stopped and saved: {saved}\ncontinue with: omnisource train " in output
    assert not re.search(r"worker \d|Traceback|[Ww]arning", output + _log(work_dir))
    train(mixed_recipe(data, *GROUP_SETTINGS), work_dir, resume="auto")
    ours, theirs = (read_checkpoint(checkpoint_path(folder, GROUP_STEPS)).state for folder in (work_dir, undisturbed))
    assert difference(ours, theirs) == ""
    assert lines_of(work_dir) == lines_of(undisturbed)


def children(process_id: int) -> list[int]:
    """Returns the process ids of the processes that a process has started and that are there."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended while we looked
        for task in Path(f"/proc/{process_id}/task").iterdir():
            found += [int(text) for text in (task / "children").read_text().split()]
    return found


def descendants(process_id: int) -> list[int]:
    """Returns the process ids of all processes that a process has started, and those have started."""
    return [one for child in children(process_id) for one in (child, *descendants(child))]


def _log(work_dir: Path) -> str:
    return (work_dir / "train.log").read_text()
