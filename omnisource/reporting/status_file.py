"""run.json: what a run is doing and how it ended, for people who look at it from elsewhere.

The file is replaced in one go and never synced: it describes the run, nothing is resumed from it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omnisource.distributed.liveness import is_process_alive, process_start, this_machine
from omnisource.errors import UserError
from omnisource.files.atomic import atomic_write
from omnisource.recipe.plain import from_plain, to_json
from omnisource.recipe.values import field_names
from omnisource.reporting.records import ValidationRecord

STATUS = "run.json"

SILENCE_SECONDS = 300.0
"""Age of the last heartbeat at which a run on another machine counts as killed: clocks differ, and disks are slow."""


@dataclass(frozen=True)
class RunStatus:
    """What is known of a run without its metrics.

    Attributes:
        state: "running" as long as the process has not said how it ended.
        reason: Why it was interrupted or failed.
        activity: What it does at the moment, in words.
        step: Steps done.
        total_steps: Steps of the whole run.
        best_score: Highest validation top-1 of the main source, in [0, 1]; None before the first validation.
        best_step: Steps done when it was reached.
        validations: The last validation of each source.
        host: Name of the machine.
        machine: Tells machines apart, and containers on one; "" where the system does not say.
        process_id: Process that writes the file.
        process_start: When that process started, as the system counts it: process ids are reused.
        started_unix_seconds: When it began with the run.
        updated_unix_seconds: The last heartbeat.
    """

    state: Literal["running", "complete", "interrupted", "failed"]
    reason: str
    activity: str
    step: int
    total_steps: int
    best_score: float | None
    best_step: int | None
    validations: tuple[ValidationRecord, ...]
    host: str
    machine: str
    process_id: int
    process_start: str
    started_unix_seconds: float
    updated_unix_seconds: float


def starting_status(step: int, total_steps: int, validations: tuple[ValidationRecord, ...] = ()) -> RunStatus:
    """Returns the status of a run that this process begins or goes on with, after `step` steps."""
    now = time.time()
    return RunStatus(
        state="running",
        reason="",
        activity="starting",
        step=step,
        total_steps=total_steps,
        best_score=None,
        best_step=None,
        validations=validations,
        host=socket.gethostname(),
        machine=this_machine(),
        process_id=os.getpid(),
        process_start=process_start(os.getpid()) or "",
        started_unix_seconds=now,
        updated_unix_seconds=now,
    )


def validations_until(work_dir: Path, resumed_step: int | None) -> tuple[ValidationRecord, ...]:
    """Returns the last validations that a former process of the run reported, as far as they are not done again."""
    if resumed_step is None:
        return ()
    try:
        former = read_status(work_dir)
    except UserError:  # damaged, and about to be written again
        return ()
    return tuple(record for record in former.validations if record.step <= resumed_step) if former else ()


def write_status(work_dir: Path, status: RunStatus) -> None:
    """Writes a status into run.json, with the time of now; a file that cannot be written is let be.

    What the run cannot do without is written elsewhere, and fails there.
    """
    status = dataclasses.replace(status, updated_unix_seconds=time.time())
    with contextlib.suppress(OSError), atomic_write(work_dir / STATUS, sync=False) as file:
        file.write(f"{to_json(status)}\n".encode())


def read_status(work_dir: Path) -> RunStatus | None:
    """Returns the content of run.json; None where there is none, as in runs of omnisource 0.1.0.

    Raises:
        UserError: The file cannot be read, or is damaged.
    """
    path = work_dir / STATUS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: is damaged ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is damaged (it holds no fields)")
    known = set(field_names(RunStatus))  # a newer omnisource may write more
    return from_plain(RunStatus, {key: value for key, value in content.items() if key in known}, str(path))


def note_complete(work_dir: Path, step: int, best_score: float | None, best_step: int | None) -> None:
    """Writes into run.json that a run is complete, unless it says so: its process was killed before it could.

    Args:
        work_dir: Folder of the run.
        step: Steps of the whole run.
        best_score: Highest validation top-1 of the main source, in [0, 1]; None without a validation.
        best_step: Steps done when it was reached.
    """
    former = None
    with contextlib.suppress(UserError):  # damaged, and about to be written again
        former = read_status(work_dir)
    if former is None or former.state != "complete":
        former = former or starting_status(step, step)
        complete = dataclasses.replace(
            former,
            state="complete",
            reason="",
            activity="",
            step=step,
            total_steps=step,
            best_score=best_score,
            best_step=best_step,
        )
        write_status(work_dir, complete)


def is_alive(status: RunStatus) -> bool:
    """Returns whether the process of a status still runs, or may do so as far as can be seen from here."""
    found = is_process_alive(status.process_id, status.process_start, status.machine)
    if found is None:
        return time.time() - status.updated_unix_seconds < SILENCE_SECONDS
    return found
