"""What a run tells: metrics.jsonl, train.log, tensorboard curves, and a bar where there is a terminal.

The files in the work dir:

    run.json                 what the run is doing, or how it ended
    metrics.jsonl            one JSON line a step and one a validation
    metrics.discarded.jsonl  the lines of steps that a resumed run did again
    unreadable.jsonl         one JSON line for each training sample whose file could not be read, with what replaced it,
                             and for each item that a validation left out
    train.log                the plain lines, with the time of day
    tensorboard/             the same numbers as curves, rates and memory, and examples of what is predicted
    curves.svg               losses and accuracy over the steps, once drawn
"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console

from omnisource.distributed.cores import local_processes, usable_cores
from omnisource.errors import UserError
from omnisource.reporting.console import Bar, ItemPace, Pace, plain_line, short, show_line
from omnisource.reporting.curves import draw_curves
from omnisource.reporting.memory import memory_in_use
from omnisource.reporting.metrics_file import (
    LOG,
    METRICS,
    UNREADABLE,
    LineFile,
    StepRecord,
    ValidationRecord,
    drop_after,
    metrics_line,
)
from omnisource.reporting.null_report import NullReport
from omnisource.reporting.starvation import Starvation
from omnisource.reporting.status_file import Ending, StatusFile, ending_by, starting_status, validations_until
from omnisource.reporting.tensorboard import TensorboardWriter

__all__ = [
    "LOG",
    "METRICS",
    "UNREADABLE",
    "NullReport",
    "Report",
    "StepRecord",
    "draw_curves",
    "drop_after",
    "open_report",
]

VALIDATION_LINE_SECONDS = 60.0
"""Time from one plain line to the next during a validation."""


class Report:
    """Tells what a run does; one process of the run opens it, the others a `NullReport`.

    Left as a context, it writes into run.json how the run ended: complete if nothing was raised, failed otherwise, or
    interrupted if `stopped` was called before.
    """

    def __init__(
        self,
        work_dir: str | Path,
        *,
        total_steps: int = 0,
        resumed_step: int | None = None,
        validated_step: int | None = None,
        interval_steps: int = 10,
        num_workers: int = 0,
        tensorboard: bool = True,
        console: Console | None = None,
    ) -> None:
        """Opens the files in the work dir, which is made if missing.

        Args:
            work_dir: Folder of the run.
            total_steps: Steps of the whole run; 0 where only the first step will tell.
            resumed_step: Steps that a resumed run goes on from: what was reported of later ones is dropped. None: the
                run is a new one.
            validated_step: Steps at the last validation that it does not do again. None: `resumed_step`.
            interval_steps: Steps from one plain line to the next.
            num_workers: Loading processes of each training process, for the advice where they are too slow.
            tensorboard: Whether to write curves for tensorboard.
            console: Where the bar or the plain lines are shown. None: standard output.

        Raises:
            UserError: The folder cannot be written to.
        """
        self.work_dir = Path(work_dir)
        self._interval_steps = interval_steps
        self._console = console or Console(highlight=False)
        if resumed_step is not None:
            drop_after(self.work_dir, resumed_step, validated_step)
        self._metrics = LineFile(self.work_dir / METRICS)
        self._log = LineFile(self.work_dir / LOG)
        self._unreadable: LineFile | None = None  # most runs need none
        self._curves = TensorboardWriter(self.work_dir, resumed_step) if tensorboard else None
        self._bar = Bar(self._console) if self._console.is_terminal else None
        self._pace = Pace()
        self._untold: list[StepRecord] = []
        self._told_any = False
        self._worker_ids: Callable[[], Iterable[int]] = tuple
        self._starvation = Starvation(num_workers, local_processes(), usable_cores())
        self._ending: tuple[Ending, str] = ("complete", "")
        validations = validations_until(self.work_dir, resumed_step if validated_step is None else validated_step)
        self._status = StatusFile(self.work_dir, starting_status(resumed_step or 0, total_steps, validations))

    def watch_memory_of(self, worker_ids: Callable[[], Iterable[int]]) -> None:
        """Takes the function that tells the process ids of the workers, whose memory is among the curves."""
        self._worker_ids = worker_ids

    def step(self, record: StepRecord) -> None:
        """Reports a step."""
        self._metrics.write(metrics_line(record))
        self._status.change(activity="training", step=record.step, total_steps=record.total_steps)
        self._pace.add(record)
        self._untold.append(record)
        if self._curves is not None:
            self._curves.step(record)
        if self._bar is not None:
            self._bar.update(record, self._pace)
        if not self._told_any or record.step % self._interval_steps == 0 or record.step == record.total_steps:
            self._tell(plain_line(self._untold, self._pace), shown=self._bar is None)
            if self._curves is not None:
                self._curves.pace(record.step, self._pace, memory_in_use(self._worker_ids()))
            self._untold.clear()
            if not self._told_any:
                self._status.flush()  # it is no longer starting
            self._told_any = True
        warning = self._starvation.add(record)
        if warning is not None:
            self._tell(warning)

    def validating(self, source: str, total: int) -> Callable[[], None]:
        """Returns a function to be called after each of the `total` items of a source that this process validates."""
        items = ItemPace(source, total)
        line_at = time.monotonic() + VALIDATION_LINE_SECONDS

        def advance() -> None:
            nonlocal line_at
            items.done += 1
            self._status.change(activity=f"validating {source}, {items.done} of {total} items")
            if self._bar is not None:
                self._bar.validating(items)
            if time.monotonic() >= line_at:
                line_at = time.monotonic() + VALIDATION_LINE_SECONDS
                self._tell(str(items), shown=self._bar is None)

        return advance

    def validation(self, step: int, epoch: int, source: str, metrics: dict[str, float]) -> None:
        """Reports the figures of one source's validation, done after `step` steps in epoch `epoch`, from 1."""
        self._metrics.write(metrics_line(ValidationRecord(step, epoch, source, metrics)))
        if self._bar is not None:
            self._bar.validated()
        if self._curves is not None:
            self._curves.validation(step, source, metrics)
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        others = [record for record in self._status.status.validations if record.source != source]
        validations = (*others, ValidationRecord(step, epoch, source, finite))
        self._status.change(activity="training", validations=validations)
        self._status.flush()
        figures = "  ".join(f"{name} {short(value)}" for name, value in metrics.items())
        self._tell(f"epoch {epoch}  step {step}  validation of {source}: {figures}")

    def best(self, score: float | None, step: int | None) -> None:
        """Reports the highest validation top-1 of the main source so far, and its step; None before there is one."""
        self._status.change(best_score=score, best_step=step)
        self._status.flush()

    def picture(self, step: int, name: str, draw: Callable[[], np.ndarray]) -> None:
        """Reports a picture, [H, W, 3] uint8, 0-255, RGB, which is drawn only where somebody will see it."""
        if self._curves is not None:
            self._curves.picture(step, name, draw())

    def stopped(self, signal_number: int, checkpoint: Path) -> None:
        """Reports that a signal ends the run, which is saved."""
        self._ending = ("interrupted", f"{signal.Signals(signal_number).name}, saved as {checkpoint.name}")

    def replacements(self, replacements: Sequence[Any]) -> None:
        """Reports training samples that replaced unreadable ones: dataclasses whose fields make a line each."""
        for replacement in replacements:
            self._write_unreadable({"kind": "training", **dataclasses.asdict(replacement)})

    def left_out(self, step: int, source: str, left_out: Sequence[Any]) -> None:
        """Reports items that a validation after `step` steps had to leave out: dataclasses of a line each."""
        for item in left_out:
            about = {"kind": "validation", "step": step, "source": source}
            self._write_unreadable({**about, **dataclasses.asdict(item)})

    def message(self, text: str) -> None:
        """Reports something that happened, in words."""
        self._tell(text)

    def close(self) -> None:
        """Ends the bar and closes the files, without a word of how the run ended; closing twice does nothing more."""
        self._status.close()
        self._close_files()

    def _close_files(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._curves is not None:
            self._curves.close()
            self._curves = None
        self._metrics.close()
        self._log.close()
        if self._unreadable is not None:
            self._unreadable.close()

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._ending[0] == "complete":
            self._ending = ending_by(error)
        try:
            if self._ending[0] == "failed":
                self._tell(f"the run failed: {self._ending[1]}", shown=False)  # the command line shows it
            self._close_files()
        except (OSError, UserError) as not_closed:  # a full disk
            if error is None:
                self._ending = ending_by(not_closed)
            raise
        finally:
            self._status.end(*self._ending)

    def _write_unreadable(self, line: dict[str, Any]) -> None:
        if self._unreadable is None:
            self._unreadable = LineFile(self.work_dir / UNREADABLE)
        self._unreadable.write(json.dumps(line, ensure_ascii=False))

    def _tell(self, text: str, shown: bool = True) -> None:
        time_of_day = time.strftime("%Y-%m-%d %H:%M:%S")
        for line in text.splitlines():
            self._log.write(f"{time_of_day}  {line}")
            if shown:
                show_line(self._console, line)


def open_report(
    work_dir: str | Path,
    rank: int,
    *,
    total_steps: int = 0,
    resumed_step: int | None = None,
    validated_step: int | None = None,
    interval_steps: int = 10,
    num_workers: int = 0,
) -> Report | NullReport:
    """Returns the report of one process of the run: a real one on rank 0, a silent one elsewhere.

    Raises:
        UserError: The work dir cannot be written to.
    """
    if rank != 0:
        return NullReport()
    return Report(
        work_dir,
        total_steps=total_steps,
        resumed_step=resumed_step,
        validated_step=validated_step,
        interval_steps=interval_steps,
        num_workers=num_workers,
    )
