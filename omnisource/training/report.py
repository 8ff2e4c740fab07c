"""What a run tells: metrics.jsonl, train.log, tensorboard curves, and a bar where there is a terminal.

The files in the work dir:

    metrics.jsonl            one JSON line a step and one a validation
    metrics.discarded.jsonl  the lines of steps that a resumed run did again
    unreadable.jsonl         one JSON line for each training sample whose file could not be read, and what replaced it
    train.log                the plain lines, with the time of day
    tensorboard/             the same numbers as curves
    curves.svg               losses and accuracy over the steps, once drawn
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from omnisource.training.console import Bar, Pace, clock, short
from omnisource.training.curves import draw_curves
from omnisource.training.metrics_file import (
    METRICS,
    UNREADABLE,
    LineFile,
    StepRecord,
    ValidationRecord,
    drop_after,
    metrics_line,
)

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

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

LOG = "train.log"


class Report:
    """Tells what a run does; one process of the run opens it, the others a `NullReport`."""

    def __init__(
        self,
        work_dir: str | Path,
        *,
        resumed_step: int | None = None,
        interval_steps: int = 10,
        tensorboard: bool = True,
        console: Console | None = None,
    ) -> None:
        """Opens the files in the work dir, which is made if missing.

        Args:
            work_dir: Folder of the run.
            resumed_step: Steps that a resumed run goes on from: what was reported of later ones is dropped. None: the
                run is a new one.
            interval_steps: Steps from one plain line to the next.
            tensorboard: Whether to write curves for tensorboard.
            console: Where the bar or the plain lines are shown. None: standard output.

        Raises:
            UserError: The folder cannot be written to.
        """
        self.work_dir = Path(work_dir)
        self._interval_steps = interval_steps
        self._console = console or Console(highlight=False)
        if resumed_step is not None:
            drop_after(self.work_dir, resumed_step)
        self._metrics = LineFile(self.work_dir / METRICS)
        self._log = LineFile(self.work_dir / LOG)
        self._unreadable: LineFile | None = None  # most runs need none
        self._curves = _open_tensorboard(self.work_dir, resumed_step) if tensorboard else None
        self._bar = Bar(self._console) if self._console.is_terminal else None
        self._pace = Pace()
        self._untold: list[StepRecord] = []
        self._told_any = False

    def step(self, record: StepRecord) -> None:
        """Reports a step."""
        self._metrics.write(metrics_line(record))
        self._pace.add(record)
        self._untold.append(record)
        if self._curves is not None:
            for name, value in _curves_of(record).items():
                self._curves.add_scalar(name, value, record.step)
        if self._bar is not None:
            self._bar.update(record, self._pace)
        if not self._told_any or record.step % self._interval_steps == 0 or record.step == record.total_steps:
            self._tell(_plain_line(self._untold, self._pace), shown=self._bar is None)
            self._untold.clear()
            self._told_any = True

    def validation(self, step: int, epoch: int, source: str, metrics: dict[str, float]) -> None:
        """Reports the figures of one source's validation, done after `step` steps in epoch `epoch`, from 1."""
        self._metrics.write(metrics_line(ValidationRecord(step, epoch, source, metrics)))
        if self._curves is not None:
            for name, value in metrics.items():
                self._curves.add_scalar(f"validation/{source}/{name}", value, step)
            self._curves.flush()
        figures = "  ".join(f"{name} {short(value)}" for name, value in metrics.items())
        self._tell(f"epoch {epoch}  step {step}  validation of {source}: {figures}")

    def replacements(self, replacements: Sequence[Any]) -> None:
        """Reports training samples that replaced unreadable ones: dataclasses whose fields make a line each."""
        if replacements and self._unreadable is None:
            self._unreadable = LineFile(self.work_dir / UNREADABLE)
        for replacement in replacements:
            assert self._unreadable is not None
            self._unreadable.write(json.dumps(dataclasses.asdict(replacement), ensure_ascii=False))

    def message(self, text: str) -> None:
        """Reports something that happened, in words."""
        self._tell(text)

    def close(self) -> None:
        """Ends the bar and closes the files; closing twice does nothing more."""
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
        self.close()

    def _tell(self, text: str, shown: bool = True) -> None:
        time_of_day = time.strftime("%Y-%m-%d %H:%M:%S")
        for line in text.splitlines():
            self._log.write(f"{time_of_day}  {line}")
            if shown:  # soft wrap: a line stays one line in a file or a pipe, which has no width
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class NullReport:
    """Takes what `Report` takes and tells nobody: the report of all processes but the first."""

    def step(self, record: StepRecord) -> None:
        """Does nothing."""

    def validation(self, step: int, epoch: int, source: str, metrics: dict[str, float]) -> None:
        """Does nothing."""

    def replacements(self, replacements: Sequence[Any]) -> None:
        """Does nothing."""

    def message(self, text: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""

    def __enter__(self) -> NullReport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_report(
    work_dir: str | Path, rank: int, *, resumed_step: int | None = None, interval_steps: int = 10
) -> Report | NullReport:
    """Returns the report of one process of the run: a real one on rank 0, a silent one elsewhere.

    Raises:
        UserError: The work dir cannot be written to.
    """
    if rank != 0:
        return NullReport()
    return Report(work_dir, resumed_step=resumed_step, interval_steps=interval_steps)


def _open_tensorboard(work_dir: Path, resumed_step: int | None) -> SummaryWriter:
    from torch.utils.tensorboard.writer import SummaryWriter  # seconds of imports, needed by runs only

    purge_step = None if resumed_step is None else resumed_step + 1  # hides what was written of this step and later
    return SummaryWriter(str(work_dir / "tensorboard"), purge_step=purge_step)


def _curves_of(record: StepRecord) -> dict[str, float]:
    pace = Pace()
    pace.add(record)
    return {
        **{f"loss/{source}": loss for source, loss in record.losses.items()},
        "loss/total": record.total_loss,
        "learning_rate": record.learning_rate,
        "gradient_norm": record.gradient_norm,
        "speed/samples_per_second": pace.samples_per_second,
        "speed/share_waiting_for_data": pace.waiting_share,
    }


def _plain_line(records: list[StepRecord], pace: Pace) -> str:
    """Returns the line of the steps since the last one: losses and gradient norm are their means."""
    last = records[-1]
    losses = {
        source: _mean([record.losses[source] for record in records if source in record.losses])
        for source in last.losses
    }
    return "  ".join(
        [
            f"epoch {last.epoch}",
            f"step {last.step}/{last.total_steps}",
            f"loss {short(_mean([record.total_loss for record in records]))}",
            *(f"{source} {short(loss)}" for source, loss in losses.items()),
            f"lr {short(last.learning_rate)}",
            f"gradient {short(_mean([record.gradient_norm for record in records]))}",
            f"{short(pace.samples_per_second)} samples/s",
            f"waiting for data {pace.waiting_share:.0%}",
            f"{clock(pace.seconds_left)} left",
        ]
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
