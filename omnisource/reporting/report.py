"""What a run reports: each event goes to each sink. A process that reports nothing has no sinks.

The files in the work dir:

    run.json                 what the run is doing, or how it ended
    metrics.jsonl            one JSON line a step and one a validation
    metrics.discarded.jsonl  the lines of steps that a resumed run did again
    unreadable.jsonl         one JSON line for each training sample whose file could not be read, with what replaced it,
                             and for each item that a validation left out
    invocations.jsonl        how it was started each time, and what that took
    train.log                the plain lines, with the time of day
    tensorboard/             the same numbers as curves, rates and memory, and examples of what is predicted
    curves.svg               losses and accuracy over the steps, once drawn
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from omnisource.distributed.cores import local_processes, usable_cores
from omnisource.reporting.events import (
    BestFound,
    Event,
    IntervalDone,
    ItemsLeftOut,
    ItemValidated,
    Message,
    PictureOffered,
    RunEnded,
    SamplesReplaced,
    Sink,
    StepDone,
    ValidationDone,
    WorkersStarted,
    ending_by,
)
from omnisource.reporting.metrics_file import METRICS, drop_after
from omnisource.reporting.progress import Counter
from omnisource.reporting.provenance.invocations import InvocationsSink
from omnisource.reporting.records import Pace, StepRecord, ValidationRecord
from omnisource.reporting.sinks.console import ConsoleSink
from omnisource.reporting.sinks.log_file import LogFileSink
from omnisource.reporting.sinks.metrics_file import MetricsFileSink
from omnisource.reporting.sinks.status_file import StatusFileSink
from omnisource.reporting.sinks.tensorboard import TensorboardSink, can_write_into
from omnisource.reporting.sinks.unreadable_file import UnreadableFileSink
from omnisource.reporting.starvation import Starvation
from omnisource.reporting.status_file import starting_status, validations_until
from omnisource.reporting.terminal import open_console

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

VALIDATION_LINE_SECONDS = 60.0
"""Time from one plain line to the next during a validation."""


class Report:
    """Says what a run does: makes events of it, and hands each to each sink.

    Left as a context, it tells the sinks how the run ended: complete if nothing was raised, failed otherwise, or
    interrupted if `stopped` was called before.

    Args:
        sinks: Take the events, in this order; what one of them raises is raised once all have the event. They are
            closed in the opposite order, so that the first one knows whether the others could be.
        interval_steps: Steps from one plain line to the next.
        starvation: Warns of a device that waits for its data. None: nobody does.
    """

    def __init__(
        self, sinks: Sequence[Sink] = (), interval_steps: int = 10, starvation: Starvation | None = None
    ) -> None:
        self._sinks = sinks
        self._interval_steps = interval_steps
        self._starvation = starvation
        self._pace = Pace()
        self._pending: list[StepRecord] = []  # since the last plain line
        self._has_interval = False
        self._ended = RunEnded("complete")

    def watch_memory_of(self, worker_ids: Callable[[], Iterable[int]]) -> None:
        """Takes the function that returns the process ids of the workers, whose memory is among the curves."""
        self._send(WorkersStarted(worker_ids))

    def step(self, record: StepRecord) -> None:
        """Reports a step."""
        self._pace = self._pace.after(record)
        self._pending.append(record)
        self._send(StepDone(record, self._pace))
        if not self._has_interval or record.step % self._interval_steps == 0 or record.step == record.total_steps:
            self._send(IntervalDone(tuple(self._pending), self._pace))
            self._pending.clear()
            self._has_interval = True
        warning = self._starvation.add(record) if self._starvation is not None else None
        if warning is not None:
            self.message(warning)

    def validating(self, source: str, total: int) -> Callable[[], None]:
        """Returns a function to be called after each of the `total` items of a source that this process validates."""
        return self._counting(f"validating {source}", total, "items")

    def recomputing(self, total: int) -> Callable[[], None]:
        """Returns a function to be called after each of `total` microbatches that BatchNorm's statistics are of."""
        return self._counting("computing BatchNorm's statistics", total, "microbatches")

    def _counting(self, activity: str, total: int, unit: str) -> Callable[[], None]:
        counter = Counter(activity, total, unit)
        line_at = time.monotonic() + VALIDATION_LINE_SECONDS

        def advance() -> None:
            nonlocal line_at
            counter.advance()
            wants_line = time.monotonic() >= line_at
            if wants_line:
                line_at = time.monotonic() + VALIDATION_LINE_SECONDS
            self._send(ItemValidated(activity, counter.progress(), wants_line))

        return advance

    def validation(self, step: int, epoch: int, source: str, metrics: dict[str, float]) -> None:
        """Reports the figures of one source's validation, done after `step` steps in epoch `epoch`, from 1."""
        self._send(ValidationDone(ValidationRecord(step, epoch, source, metrics)))

    def best(self, score: float | None, step: int | None) -> None:
        """Reports the highest validation top-1 of the main source so far, and its step; None before there is one."""
        self._send(BestFound(score, step))

    def picture(self, step: int, name: str, draw: Callable[[], np.ndarray]) -> None:
        """Reports a picture, [H, W, 3] uint8, 0-255, RGB, which is drawn only where somebody will see it."""
        self._send(PictureOffered(step, name, draw))

    def replacements(self, replacements: Sequence[Any]) -> None:
        """Reports training samples that replaced unreadable ones: dataclasses whose fields make a line each."""
        self._send(SamplesReplaced(tuple(replacements)))

    def left_out(self, step: int, source: str, left_out: Sequence[Any]) -> None:
        """Reports items that a validation after `step` steps had to leave out: dataclasses of a line each."""
        self._send(ItemsLeftOut(step, source, tuple(left_out)))

    def message(self, text: str) -> None:
        """Reports something that happened, in words."""
        self._send(Message(text))

    def stopped(self, signal_number: int, checkpoint: Path) -> None:
        """Reports that a signal ends the run, which is saved."""
        self._ended = RunEnded("interrupted", f"{signal.Signals(signal_number).name}, saved as {checkpoint.name}")

    def close(self) -> None:
        """Closes the sinks, without a word of how the run ended; closing twice does nothing more."""
        self._close(None)

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._ended.state == "complete":
            self._ended = ending_by(error)
        self._close(self._ended)

    def _send(self, event: Event) -> None:
        failure: Exception | None = None
        for sink in self._sinks:
            try:
                sink.handle(event)
            except Exception as error:  # a full disk, perhaps; raised below, once all others know of the event
                failure = failure or error
        if failure is not None:
            raise failure

    def _close(self, ended: RunEnded | None) -> None:
        failure: BaseException | None = None
        for sink in reversed(self._sinks):
            try:
                sink.close(ended)
            except BaseException as error:  # a full disk, perhaps, or Ctrl-C; raised below, once all are closed
                failure = failure or error
                if ended is not None and ended.state == "complete":
                    ended = ending_by(error)
        if failure is not None:
            raise failure


@dataclass(frozen=True)
class ReportSettings:
    """What is reported of a run, and since when.

    Attributes:
        total_steps: Steps of the whole run; 0 where only the first step will say.
        resumed_step: Steps that a resumed run goes on from: what was reported of later ones is dropped. None: the run
            is a new one.
        validated_step: Steps at the last validation that it does not do again. None: `resumed_step`.
        interval_steps: Steps from one plain line to the next.
        num_workers: Loading processes of each training process, for the advice where they are too slow.
        tensorboard: Whether to write curves for tensorboard.
        num_processes: Training processes of the run.
    """

    total_steps: int = 0
    resumed_step: int | None = None
    validated_step: int | None = None
    interval_steps: int = 10
    num_workers: int = 0
    tensorboard: bool = True
    num_processes: int = 1


def open_report(work_dir: str | Path, rank: int, settings: ReportSettings, console: Console | None = None) -> Report:
    """Returns the report of one process of the run: the first has the files of the work dir, others have no sinks.

    Args:
        work_dir: Folder of the run, which is made if missing.
        rank: Number of the process.
        settings: What is reported.
        console: Where the bar or the plain lines are shown. None: standard output.

    Raises:
        UserError: The work dir cannot be written to.
    """
    if rank != 0:
        return Report()
    work_dir, resumed_step = Path(work_dir), settings.resumed_step
    validated_step = resumed_step if settings.validated_step is None else settings.validated_step
    if resumed_step is not None:
        drop_after(work_dir, resumed_step, validated_step)
    sinks: list[Sink] = [MetricsFileSink(work_dir), UnreadableFileSink(work_dir), LogFileSink(work_dir)]
    sinks.append(InvocationsSink(work_dir, settings.num_processes, resumed_step))
    sinks.append(ConsoleSink(console or open_console()))
    has_curves = settings.tensorboard and can_write_into(work_dir)
    if has_curves:
        sinks.append(TensorboardSink(work_dir, resumed_step))
    validations = validations_until(work_dir, validated_step)
    status = starting_status(resumed_step or 0, settings.total_steps, validations)
    sinks.insert(0, StatusFileSink(work_dir, status))  # made once the others are there, and closed last
    starvation = Starvation(settings.num_workers, local_processes(), usable_cores())
    report = Report(sinks, settings.interval_steps, starvation)
    if settings.tensorboard and not has_curves:
        report.message(f"{work_dir}: no UTF-8 name, as tensorboard needs one: it gets no curves; {METRICS} has them")
    return report
