"""Training runs whose loading workers are killed, or lose their parent."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from omnisource.train import train
from tests.data.test_workers import is_alive, wait_until
from tests.runs.tiny_runs import PROJECT, step_lines, tiny_recipe

SETTINGS = ("num_epochs=3", "deterministic=True", "validation.interval_epochs=0", "checkpoints.interval_epochs=3")


@contextlib.contextmanager
def killer_of_workers(metrics: Path) -> Iterator[list[int]]:
    """Kills a loading worker of this process at every second step; yields the process ids that it has killed.

    Not more often, since a file over which two workers die counts as unreadable.
    """
    killed: list[int] = []
    rng, is_over = random.Random(0), threading.Event()

    def kill() -> None:
        done = 0
        while not is_over.wait(0.02):
            if metrics.is_file() and (steps := metrics.read_text().count('"step",')) >= done + 2:
                started_by_us = children(os.getpid())  # among them the server that starts the workers
                workers = [one for server in started_by_us for one in children(server) if one not in killed]
                if workers:
                    killed.append(rng.choice(workers))
                    os.kill(killed[-1], signal.SIGKILL)
                    done = steps

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


def test_run_whose_workers_are_killed_names_them_and_equals_an_undisturbed_run(data: Path, tmp_path: Path) -> None:
    train(tiny_recipe(data, *SETTINGS), tmp_path / "undisturbed")
    with killer_of_workers(tmp_path / "disturbed/metrics.jsonl") as killed:
        state = train(tiny_recipe(data, *SETTINGS, "num_workers=2"), tmp_path / "disturbed")
    assert state.unreadable == {}
    lines = step_lines(tmp_path / "disturbed")
    assert len(lines) == 18 and lines == step_lines(tmp_path / "undisturbed")
    named = re.findall(r"worker \d (?:ended|did not start) \(SIGKILL\).*; it is replaced", _log(tmp_path / "disturbed"))
    # Of the last ones, the run may have ended before it heard.
    assert len(killed) >= 4 and len(killed) - 2 <= len(named) <= len(killed)


def test_workers_of_a_run_that_is_killed_end(data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(
        "from pathlib import Path\n"
        "from tests.runs.tiny_runs import tiny_recipe\n"
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
