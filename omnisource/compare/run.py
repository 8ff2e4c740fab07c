"""Running an experiment: jobs in processes of their own, what is done never again, and the results at the end."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import omnisource
from omnisource.checkpoints.file import checkpoint_path
from omnisource.compare.experiment import Experiment
from omnisource.compare.job import TAKEN
from omnisource.compare.job_files import FAILED, LOCK, LOG, check_job, is_done, score_files, write_job
from omnisource.compare.plan import Job, Planner
from omnisource.distributed.cores import usable_cores
from omnisource.files.lock import is_locked
from omnisource.import_path import environment_of_children
from omnisource.recipe.plain import to_plain
from omnisource.reporting.progress import progress_bar
from omnisource.signals import stopped_by_signals

_POLL_SECONDS = 0.5

_RUN = """
import sys
sys.path.append(sys.argv[1])
from omnisource.compare.job import main
sys.exit(main(sys.argv[2]))
"""
"""The program of a run: the folder of the package comes last, and the current folder not at all."""


@dataclass(frozen=True)
class Share:
    """What this command does first of an experiment; then it helps with what nobody does.

    Attributes:
        jobs: Runs at a time.
        index: Which share of the runs, 0-based.
        count: Shares of all commands together.
    """

    jobs: int = 1
    index: int = 0
    count: int = 1

    def has(self, name: str) -> bool:
        """Returns whether a run of this name is in the share."""
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") % self.count == self.index


class Runner:
    """Runs the jobs of an experiment.

    Args:
        experiment: What is compared.
        folder: Of the comparison.
        share: What this command does of it.
    """

    def __init__(self, experiment: Experiment, folder: Path, share: Share) -> None:
        self._experiment = experiment
        self.planner = Planner(experiment, folder)
        self._folder = folder
        self.share = share
        self._scores: dict[str, float] = {}
        self.failed: dict[str, str] = {}

    def folder_of(self, name: str) -> Path:
        """Returns the folder of a run."""
        return self._folder / "runs" / name

    def score(self, name: str) -> float | None:
        """Returns the validation top-1 of a run; None before it is scored."""
        path = score_files(self.folder_of(name), "validation")[1]
        if name not in self._scores and path.exists():
            self._scores[name] = json.loads(path.read_text())["top1"]
        return self._scores.get(name)

    def jobs(self) -> dict[str, Job]:
        """Returns all runs that are known by now, by name, in the order in which they are done."""
        known: dict[str, Job] = {}
        for cell in self.planner.cells():  # one after the other, so that what is there after half of the time is whole
            known.update((job.name, job) for job in self.planner.tuning(cell))
            if (values := self.planner.chosen(cell, self.score)) is not None:
                for seed in self._experiment.seeds:
                    known.update((job.name, job) for job in self.planner.runs(cell, seed, values))
        return known

    def total(self) -> int:
        """Returns the number of runs at least: those known, and those whose values are not chosen yet."""
        open_cells = [cell for cell in self.planner.cells() if self.planner.chosen(cell, self.score) is None]
        return len(self.jobs()) + len(open_cells) * len(self._experiment.seeds)

    def left(self, *, of_all: bool = False) -> dict[str, Job]:
        """Returns the runs of this share, or of all, that are not done; with the first values where none are chosen."""
        known = self.jobs()
        for cell in self.planner.cells():
            if self.planner.chosen(cell, self.score) is None:
                for seed in self._experiment.seeds:
                    known.update((j.name, j) for j in self.planner.runs(cell, seed, self.planner.choices()[0]))
        return {
            name: job
            for name, job in known.items()
            if (of_all or self.share.has(name)) and not is_done(self.folder_of(name), job.splits)
        }

    def run(self) -> None:
        """Does all runs; the failed ones are in `failed`, with their logs.

        Raises:
            UserError: A run was begun with another recipe.
            Interrupted: A signal asked to stop; the runs at work were asked to save and stop, and have.
        """
        for job in self.jobs().values():
            if self.share.has(job.name):
                (self.folder_of(job.name) / FAILED).unlink(missing_ok=True)
        running: dict[str, subprocess.Popen[bytes]] = {}
        slots: dict[str, int] = {}
        done: set[str] = set()
        counted: set[str] = set()
        with stopped_by_signals(), progress_bar("runs", self.total(), "runs") as advance, _ending(running):
            while True:
                jobs = self.jobs()
                for name in list(running):
                    if running[name].poll() is not None:
                        self._note(name, running.pop(name).returncode)
                done |= {n for n, j in jobs.items() if n not in done and is_done(self.folder_of(n), j.splits)}
                for name in [n for n in jobs if n not in counted and (n in done or self._has_failed(jobs[n]))]:
                    counted.add(name)
                    advance(has_failed=name not in done)
                left = [job for job in jobs.values() if job.name not in counted]
                if not left and not running:
                    return
                ready = [job for job in left if job.name not in running and (not job.before or job.before in done)]
                for job in self._in_turn(ready, self.share.jobs - len(running)):
                    slots[job.name] = min(set(range(self.share.jobs)) - {slots[name] for name in running})
                    running[job.name] = self._start(job, slots[job.name])
                time.sleep(_POLL_SECONDS)

    def _in_turn(self, ready: list[Job], number: int) -> list[Job]:
        """Returns so many runs to start: those of this share, then of the others, none that a process is at already.

        So a share never waits for one that was not started, or was killed: what nobody does, it does.
        """
        ours = [job for job in ready if self.share.has(job.name)]
        theirs = [job for job in reversed(ready) if not self.share.has(job.name)]  # they begin at the other end
        free = (job for job in ours + theirs if not is_locked(self.folder_of(job.name) / LOCK))
        return list(itertools.islice(free, number))

    def _has_failed(self, job: Job) -> bool:
        names = [name for name in (job.name, job.before) if name and (self.folder_of(name) / FAILED).exists()]
        for name in names:
            self.failed.setdefault(name, str(self.folder_of(name) / LOG))
        return bool(names)

    def _note(self, name: str, code: int) -> None:
        if code not in (0, TAKEN):
            (self.folder_of(name) / FAILED).write_text(f"exit code {code}\n")

    def _start(self, job: Job, slot: int) -> subprocess.Popen[bytes]:
        folder = self.folder_of(job.name)
        self.planner.files.write()
        write_job(folder, _plain(job))
        threads = str(max(1, usable_cores() // self.share.jobs))
        # The runs are runs of one process each, whoever started this command.
        outside = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        ours = environment_of_children()
        environment = {k: v for k, v in ours.items() if k not in outside and not k.startswith("TORCHELASTIC")}
        environment |= gpu_of(
            slot + self.share.jobs * int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        )
        with open(folder / LOG, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-c", _RUN, str(Path(omnisource.__file__).parents[1]), str(folder.absolute())],
                env={"OMP_NUM_THREADS": threads, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches them once, through us
            )


def gpu_of(slot: int, count: int) -> dict[str, str]:
    """Returns the variables by which a run sees one of `count` GPUs only, in turn; none where there are not several."""
    if count < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return {"CUDA_VISIBLE_DEVICES": names[slot % count]}


def check_recipes(runner: Runner) -> None:
    """Checks that what is on the disk was begun with the recipes of now.

    Raises:
        UserError: Naming the run and what differs.
    """
    for name, job in runner.jobs().items():
        check_job(runner.folder_of(name), _plain(job))


def _plain(job: Job) -> dict[str, Any]:
    checkpoint = str(checkpoint_path(Path(), job.spent.steps))
    return {"recipe": to_plain(job.spent.recipe), "splits": list(job.splits), "checkpoint": checkpoint}


@contextlib.contextmanager
def _ending(running: dict[str, subprocess.Popen[bytes]]) -> Iterator[None]:
    """Asks the runs that are at work to save and stop, and waits for them, where the block is left by an error."""
    try:
        yield
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
