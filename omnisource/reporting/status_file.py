"""run.json: what a run is doing and how it ended, for people who look at it from elsewhere.

A thread keeps it up to date, so that the training writes nothing and a long validation still gives signs of life. The
file is replaced in one go and never synced: it tells of the run, nothing is resumed from it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omnisource.errors import UserError
from omnisource.files.atomic import atomic_write
from omnisource.recipe import config
from omnisource.reporting.metrics_file import ValidationRecord

STATUS = "run.json"

HEARTBEAT_SECONDS = 5.0
"""Time from one sign of life to the next."""

SILENCE_SECONDS = 300.0
"""Age of the last sign at which a run on another machine counts as killed; clocks may differ, and disks be slow."""

Ending = Literal["complete", "interrupted", "failed"]


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
        process_start: When that process started, as the system counts it: process ids are used again.
        started_unix_seconds: When it began with the run.
        updated_unix_seconds: The last sign of life.
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
        machine=_this_machine(),
        process_id=os.getpid(),
        process_start=_process_start(os.getpid()) or "",
        started_unix_seconds=now,
        updated_unix_seconds=now,
    )


def validations_until(work_dir: Path, resumed_step: int | None) -> tuple[ValidationRecord, ...]:
    """Returns the last validations that a former process of the run told of, as far as they are not done again."""
    if resumed_step is None:
        return ()
    try:
        former = read_status(work_dir)
    except UserError:  # damaged, and about to be written again
        return ()
    return tuple(record for record in former.validations if record.step <= resumed_step) if former else ()


def ending_by(error: BaseException) -> tuple[Ending, str]:
    """Returns how a run ended that raised `error`, and why."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "Ctrl-C, not saved since the last checkpoint; --resume auto continues from it"
    if isinstance(error, SystemExit):
        return "failed", (
            "another process of the run failed; the output of the run names the error; --resume auto continues it once "
            "that is fixed"
        )
    return "failed", str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


class StatusFile:
    """Keeps run.json up to date while a run goes on; one process of the run has one.

    A file that cannot be written is let be: what the run cannot do without is written elsewhere, and fails there.

    Args:
        work_dir: Folder of the run, which exists.
        status: What is written first.
        heartbeat_seconds: Time from one writing to the next.
    """

    def __init__(self, work_dir: Path, status: RunStatus, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self.status = status
        self._path = work_dir / STATUS
        self._heartbeat_seconds = heartbeat_seconds
        self._is_over = False
        self._is_awake = threading.Event()
        self._write()
        self._thread = threading.Thread(target=self._run, name="omnisource-status", daemon=True)
        self._thread.start()

    def change(self, **changes: Any) -> None:
        """Takes new values of fields of `RunStatus`; they are in the file at the next heartbeat."""
        self.status = dataclasses.replace(self.status, **changes)

    def flush(self) -> None:
        """Has the values written now, without waiting for it: for what comes seldom."""
        self._is_awake.set()

    def end(self, ending: Ending, reason: str = "") -> None:
        """Writes how the run ended. Ending twice, or after `close`, does nothing more."""
        if not self._is_over:
            self.close()
            self.change(state=ending, reason=reason, activity="")
            self._write()

    def close(self) -> None:
        """Stops writing, without saying how the run ended."""
        self._is_over = True
        self._is_awake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._is_awake.wait(self._heartbeat_seconds)
            self._is_awake.clear()
            if self._is_over:
                return
            self._write()

    def _write(self) -> None:
        status = dataclasses.replace(self.status, updated_unix_seconds=time.time())
        with contextlib.suppress(OSError), atomic_write(self._path, sync=False) as file:
            file.write(f"{config.to_json(status)}\n".encode())


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
    known = set(config.field_names(RunStatus))  # a newer omnisource may write more
    return config.from_plain(RunStatus, {key: value for key, value in content.items() if key in known}, str(path))


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
        changes = {"step": step, "total_steps": step, "best_score": best_score, "best_step": best_step}
        StatusFile(work_dir, dataclasses.replace(former, **changes)).end("complete")


def is_alive(status: RunStatus) -> bool:
    """Returns whether the process of a status still runs, or may do so as far as can be seen from here."""
    if status.machine and status.machine == _this_machine():
        start = _process_start(status.process_id)
        if start is not None:
            return start == status.process_start
        try:
            os.kill(status.process_id, 0)  # sends nothing
        except PermissionError:  # it is another user's, and hidden
            return _is_heard_of(status)
        except (OSError, OverflowError):
            return False
        return False  # it has ended, and whoever started it has not noticed
    return _is_heard_of(status)


def _is_heard_of(status: RunStatus) -> bool:
    return time.time() - status.updated_unix_seconds < SILENCE_SECONDS


def _this_machine() -> str:
    """Returns what tells this machine since its start, and the container we are in, from others; "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process_start(process_id: int) -> str | None:
    """Returns when a process started, in ticks since the machine did; None if there is none, or it has ended."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    state, start = fields[0], fields[19]
    return None if state in "ZXx" else start
