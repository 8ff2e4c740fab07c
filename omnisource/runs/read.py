"""The runs below a folder: the state, progress and end of each, read from its files."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omnisource.errors import UserError
from omnisource.files.tail import last_lines
from omnisource.reporting.lines import LOG, clock
from omnisource.reporting.metrics_file import METRICS
from omnisource.reporting.records import Pace, StepRecord, ValidationRecord, read_line
from omnisource.reporting.status_file import STATUS, RunStatus, is_alive, read_status

State = Literal["running", "complete", "interrupted", "failed", "killed", "unknown"]

RECIPE = "recipe.json"
MARKS = {STATUS, METRICS, RECIPE}
"""Files by any of which a folder is recognized as a run."""

OWN_FOLDERS = {"checkpoints", "tensorboard"}
"""Folders of a run in which no other runs are looked for."""

LAST_STEPS = 50
"""Last steps from which rates are computed."""

TAIL_BYTES = 128 * 1024
"""End of metrics.jsonl that is read: more than the last steps take, however long the run is."""

OLD_TAIL_BYTES = 4 * 2**20
"""The same for a run without run.json, whose validations stand nowhere else."""


@dataclass(frozen=True)
class Run:
    """The state of a run, as its files give it.

    Attributes:
        path: Its folder.
        state: "killed" where its process is gone and did not say how it ended, "unknown" where it wrote no run.json.
        reason: Why it was interrupted, failed, or counts as killed.
        activity: What a running one is doing.
        steps: The last steps, at most `LAST_STEPS`.
        validations: The last validation of each source.
        step: Steps done, or None where unknown.
        total_steps: Steps of the whole run, or None where unknown.
        main_source: Name of the source that chooses the best checkpoint; "" where unknown.
        best_score: Highest validation top-1 of the main source, in [0, 1], or None.
        best_step: Steps done when it was reached, or None.
        is_best_certain: Whether all validations were looked at for it.
        age_seconds: Time since its last heartbeat.
        faults: What is damaged, a line each.
    """

    path: Path
    state: State
    reason: str
    activity: str
    steps: tuple[StepRecord, ...]
    validations: tuple[ValidationRecord, ...]
    step: int | None
    total_steps: int | None
    main_source: str
    best_score: float | None
    best_step: int | None
    is_best_certain: bool
    age_seconds: float
    faults: tuple[str, ...]

    @property
    def pace(self) -> Pace:
        """Returns the rates over the last steps."""
        return Pace(self.steps)

    @property
    def seconds_left(self) -> float | None:
        """Returns the time that the rest takes, without validations; None unless the run is running."""
        return self.pace.seconds_left if self.state == "running" and self.steps else None


def find_runs(folder: Path) -> tuple[list[Path], list[str]]:
    """Returns the folders of runs below `folder`, itself included, and what could not be looked into.

    Hidden folders are left out. Links are followed, and what is reached twice is listed once.

    Raises:
        UserError: There is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one that holds your runs: omnisource runs DIR")
    runs: list[Path] = []
    faults: list[str] = []
    visited: set[tuple[int, int]] = set()
    waiting = [folder]
    for current in waiting:  # grows meanwhile
        try:
            identity = os.stat(current)
            entries = sorted(os.scandir(current), key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            faults.append(f"{current}: cannot be looked into: {error.strerror}")
            continue
        if (identity.st_dev, identity.st_ino) in visited:
            continue
        visited.add((identity.st_dev, identity.st_ino))
        is_run = any(entry.name in MARKS for entry in entries)
        if is_run:
            runs.append(current)
        left_out = OWN_FOLDERS if is_run else set()
        for entry in entries:
            try:
                if entry.name not in left_out and not entry.name.startswith(".") and entry.is_dir():
                    waiting.append(Path(entry.path))
            except OSError as error:  # a link that leads to itself
                faults.append(f"{entry.path}: cannot be looked into: {error.strerror}")
    return runs, faults


def read_run(folder: Path) -> Run:
    """Returns the state of a run; what is damaged is reported in it and left out.

    Raises:
        UserError: The folder holds no run.
    """
    if not any((folder / name).exists() for name in MARKS):
        what = "holds no run" if folder.is_dir() else "no such folder"
        raise UserError(
            f"{folder}: {what}; name the work dir of a run, which has {RECIPE} and {METRICS} in it. "
            "`omnisource runs DIR` lists the runs below a folder."
        )
    faults: list[str] = []
    status = None
    try:
        status = read_status(folder)
    except UserError as error:
        faults.append(str(error))
    steps, validations, is_whole = _last_records(folder, TAIL_BYTES if status else OLD_TAIL_BYTES, faults)
    main_source = _main_source(folder, faults)
    best_score, best_step = _best(validations, main_source)
    if status is not None:
        best_score, best_step = status.best_score, status.best_step
    state, reason = _state(status)
    last = steps[-1] if steps else status
    return Run(
        path=folder,
        state=state,
        reason=reason,
        activity=status.activity if status and state == "running" else "",
        steps=tuple(steps),
        validations=status.validations if status else tuple({one.source: one for one in validations}.values()),
        step=last.step if last else None,
        total_steps=(last.total_steps or None) if last else None,
        main_source=main_source,
        best_score=best_score,
        best_step=best_step,
        is_best_certain=status is not None or is_whole,
        age_seconds=max(0.0, time.time() - _last_heartbeat(folder, status)),
        faults=tuple(faults),
    )


def as_json(run: Run) -> dict[str, object]:
    """Returns what `omnisource runs --json` prints of a run."""
    last = run.steps[-1] if run.steps else None
    return {
        "run": str(run.path),
        "state": run.state,
        "reason": run.reason,
        "activity": run.activity,
        "step": run.step,
        "total_steps": run.total_steps,
        "epoch": last.epoch if last else None,
        "best_score": run.best_score,
        "best_step": run.best_step,
        "is_best_certain": run.is_best_certain,
        "loss": last.total_loss if last else None,
        "losses": last.losses if last else {},
        "age_seconds": round(run.age_seconds, 1),
        "seconds_left": None if run.seconds_left is None else round(run.seconds_left, 1),
        "faults": list(run.faults),
    }


def age(seconds: float) -> str:
    """Returns a time span in its largest unit: 5 s, 12 min, 3 h, 9 d."""
    for unit, length in (("d", 24 * 3600), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def score(run: Run) -> str:
    """Returns the best score of a run and its step; "-" where there is none."""
    if run.best_score is None:
        return "-"
    return f"{'' if run.is_best_certain else 'at least '}{run.best_score:.2%} at {run.best_step}"


def _state(status: RunStatus | None) -> tuple[State, str]:
    """Returns the state of a run, and the reason for it where there is one."""
    if status is None:
        return "unknown", ""
    if status.state != "running" or is_alive(status):
        return status.state, status.reason
    silence = clock(time.time() - status.updated_unix_seconds)
    return "killed", (
        f"process {status.process_id} on {status.host} gave its last heartbeat {silence} ago, and did not say how it "
        "ended; --resume auto continues it"
    )


def _last_records(
    folder: Path, num_bytes: int, faults: list[str]
) -> tuple[list[StepRecord], list[ValidationRecord], bool]:
    """Returns the last steps and validations of metrics.jsonl, oldest first, and whether all of it was looked at."""
    steps: list[StepRecord] = []
    validations: list[ValidationRecord] = []
    try:
        lines, is_whole = last_lines(folder / METRICS, num_bytes)
    except FileNotFoundError:
        return [], [], True
    except OSError as error:
        faults.append(f"{folder / METRICS}: cannot be read ({error.strerror})")
        return [], [], False
    wrong = 0
    for line in reversed(lines):
        if len(steps) == LAST_STEPS and b'"validation"' not in line:
            continue  # a long tail holds thousands of steps
        try:
            record = read_line(line)
        except ValueError:
            wrong += 1
            continue
        if isinstance(record, ValidationRecord):
            validations.insert(0, record)
        elif len(steps) < LAST_STEPS:
            steps.insert(0, record)
    if wrong:
        count = "1 line near its end is" if wrong == 1 else f"{wrong} lines near its end are"
        faults.append(f"{folder / METRICS}: is damaged ({count} not of a training run)")
    return steps, validations, is_whole


def _main_source(folder: Path, faults: list[str]) -> str:
    path = folder / RECIPE
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["main_source"]
    except FileNotFoundError:
        return ""
    except OSError as error:
        faults.append(f"{path}: cannot be read ({error.strerror})")
        return ""
    except (ValueError, TypeError, KeyError) as error:
        faults.append(f"{path}: is damaged ({error})")
        return ""
    return str(name)


def _best(validations: list[ValidationRecord], main_source: str) -> tuple[float | None, int | None]:
    scored = [one for one in validations if one.source == main_source and "top1" in one.metrics]
    if not scored:
        return None, None
    best = max(scored, key=lambda one: one.metrics["top1"])  # the first of equals
    return best.metrics["top1"], best.step


def _last_heartbeat(folder: Path, status: RunStatus | None) -> float:
    """Returns the time of the last heartbeat of a run, in Unix time."""
    if status is not None:
        return status.updated_unix_seconds
    times = []
    for name in (*MARKS, LOG):
        with contextlib.suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times, default=0.0)
