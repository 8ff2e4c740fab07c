"""What a terminal shows of a run: the bar, and the rates in it."""

from __future__ import annotations

import time
from collections import deque

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from omnisource.training.metrics_file import StepRecord

_WINDOW_STEPS = 50
_REFRESH_SECONDS = 0.2


class Pace:
    """Rates over the last steps."""

    def __init__(self) -> None:
        self._records: deque[StepRecord] = deque(maxlen=_WINDOW_STEPS)

    def add(self, record: StepRecord) -> None:
        """Takes a step into account, and forgets the oldest."""
        self._records.append(record)

    @property
    def samples_per_second(self) -> float:
        """Returns the samples of all sources and processes in a second."""
        samples = sum(sum(record.samples.values()) for record in self._records)
        return samples / self._seconds if self._seconds else 0.0

    @property
    def waiting_share(self) -> float:
        """Returns the share of the time that was spent waiting for data, 0 to 1."""
        return sum(record.data_seconds for record in self._records) / self._seconds if self._seconds else 0.0

    @property
    def seconds_left(self) -> float:
        """Returns the time that the steps still to do take at this pace, without validations."""
        if not self._records:
            return 0.0
        last = self._records[-1]
        return (last.total_steps - last.step) * self._seconds / len(self._records)

    @property
    def _seconds(self) -> float:
        return sum(record.step_seconds for record in self._records)


class Bar:
    """Two lines at the foot of a terminal: how far the run is, and how it goes.

    It starts no thread: it is drawn by `update`, a few times a second at most.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._drawn_at = -float("inf")

    def update(self, record: StepRecord, pace: Pace) -> None:
        """Shows a step; the last step of the run always, the others where the last drawing is not too fresh."""
        now = time.monotonic()
        if now - self._drawn_at < _REFRESH_SECONDS and record.step < record.total_steps:
            return
        self._drawn_at = now
        if not self._live.is_started:
            self._live.start()
        self._live.update(_drawing(record, pace), refresh=True)

    def stop(self) -> None:
        """Leaves the bar as it stands and gives the terminal back; stopping twice does nothing more."""
        self._live.stop()


def short(value: float) -> str:
    """Returns a number as one reads it in a line: four digits that matter."""
    return f"{value:.4g}"


def clock(seconds: float) -> str:
    """Returns a duration as h:mm:ss, with days before it where it takes some."""
    days, rest = divmod(round(seconds), 24 * 3600)
    hours, rest = divmod(rest, 3600)
    return f"{f'{days} d ' if days else ''}{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _drawing(record: StepRecord, pace: Pace) -> Group:
    first = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, 1, None):
        first.add_column(ratio=ratio, no_wrap=True)
    first.add_row(
        Text(f"epoch {record.epoch}  step {record.step}/{record.total_steps}", "bold"),
        ProgressBar(total=record.total_steps, completed=record.step),
        Text(f"{record.step / record.total_steps:.0%}  {clock(pace.seconds_left)} left"),
    )
    # Two spaces between the figures, so that a narrow terminal breaks the line there.
    second = Text("  ".join(["loss", *(f"{source} {short(loss)}" for source, loss in record.losses.items())]))
    second.append(
        f"  lr {short(record.learning_rate)}  gradient {short(record.gradient_norm)}"
        f"  {short(pace.samples_per_second)} samples/s  waiting for data {pace.waiting_share:.0%}",
        "dim",
    )
    return Group(first, second)
