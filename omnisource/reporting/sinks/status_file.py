"""run.json as a run keeps it: written by a thread, so that a long validation still has its heartbeat."""

from __future__ import annotations

import dataclasses
import math
import threading
from pathlib import Path
from typing import Any

from omnisource.reporting.events import BestFound, Event, ItemValidated, RunEnded, StepDone, ValidationDone
from omnisource.reporting.records import ValidationRecord
from omnisource.reporting.status_file import RunStatus, write_status

HEARTBEAT_SECONDS = 5.0
"""Time from one heartbeat to the next."""


class StatusFileSink:
    """Keeps run.json up to date while a run goes on; one process of the run has one.

    Args:
        work_dir: Folder of the run, which exists.
        status: What is written first.
        heartbeat_seconds: Time from one writing to the next.
    """

    def __init__(self, work_dir: Path, status: RunStatus, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self.status = status
        self._work_dir = work_dir
        self._heartbeat_seconds = heartbeat_seconds
        self._is_over = False
        self._is_awake = threading.Event()
        write_status(work_dir, status)
        self._thread = threading.Thread(target=self._run, name="omnisource-status", daemon=True)
        self._thread.start()

    def handle(self, event: Event) -> None:
        """Takes what an event says of the run."""
        match event:
            case StepDone(record):
                is_first = self.status.activity == "starting"
                self.change(activity="training", step=record.step, total_steps=record.total_steps)
                if is_first:
                    self.flush()
            case ItemValidated(activity, progress):
                self.change(activity=f"{activity}, {progress.done} of {progress.total} {progress.unit}")
            case ValidationDone(record):
                self.change(activity="training", validations=self._validations_with(record))
                self.flush()
            case BestFound(score, step):
                self.change(best_score=score, best_step=step)
                self.flush()
            case _:
                pass

    def change(self, **changes: Any) -> None:
        """Takes new values of fields of `RunStatus`; they are in the file at the next heartbeat."""
        self.status = dataclasses.replace(self.status, **changes)

    def flush(self) -> None:
        """Has the values written now, without waiting for it: for what comes seldom."""
        self._is_awake.set()

    def close(self, ended: RunEnded | None) -> None:
        """Stops writing, and says last how the run ended where that is known; closing twice does nothing more."""
        if self._is_over:
            return
        self._is_over = True
        self._is_awake.set()
        try:
            self._thread.join()
        finally:  # also after Ctrl-C: somebody watches for how the run ended
            self._thread.join()
            if ended is not None:
                self.change(state=ended.state, reason=ended.reason, activity="")
                write_status(self._work_dir, self.status)

    def _validations_with(self, record: ValidationRecord) -> tuple[ValidationRecord, ...]:
        """Returns the last validation of each source; what JSON has no number for is left out."""
        finite = {name: value for name, value in record.metrics.items() if math.isfinite(value)}
        others = [other for other in self.status.validations if other.source != record.source]
        return (*others, dataclasses.replace(record, metrics=finite))

    def _run(self) -> None:
        while True:
            self._is_awake.wait(self._heartbeat_seconds)
            self._is_awake.clear()
            if self._is_over:
                return
            write_status(self._work_dir, self.status)
