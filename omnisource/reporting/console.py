"""What a terminal shows of a run: the bar or plain lines, and the rates in them."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from omnisource.reporting.metrics_file import StepRecord

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
    def samples_per_second_by_source(self) -> dict[str, float]:
        """Returns the samples of each source in a second."""
        samples = Counter[str]()
        for record in self._records:
            samples.update(record.samples)
        return {source: count / self._seconds if self._seconds else 0.0 for source, count in samples.items()}

    @property
    def steps_per_second(self) -> float:
        """Returns the steps in a second."""
        return len(self._records) / self._seconds if self._seconds else 0.0

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


class ItemPace:
    """How far a validation is.

    Args:
        source: Name of the source.
        total: Items of the source that this process validates.
    """

    def __init__(self, source: str, total: int) -> None:
        self.source = source
        self.total = total
        self.done = 0
        self._started = time.monotonic()

    def __str__(self) -> str:
        rate = self.done / max(time.monotonic() - self._started, 1e-9)
        left = clock((self.total - self.done) / rate) if rate else "-"
        return f"validating {self.source}  {self.done}/{self.total} items  {short(rate)} items/s  {left} left"


@contextlib.contextmanager
def quiet_if_gone(console: Console) -> Iterator[None]:
    """Lets a console go quiet for good that cannot be written to; the block does nothing but write to it.

    The reader of a pipe has ended, or a terminal is lost: no reason to end a run, whose log has the same lines.
    """
    try:
        yield
    except (OSError, SystemExit):  # rich leaves the program where a pipe has no reader
        console.quiet = True
        # What the stream still holds would fail once more at the end of the program, and make its exit code 120.
        with contextlib.suppress(OSError, ValueError):  # no descriptor, or none any more
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, console.file.fileno())
            os.close(nowhere)


def show_line(console: Console, line: str) -> None:
    """Shows a line as it is, without colors and not wrapped: a file or a pipe has no width."""
    with quiet_if_gone(console):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


class Bar:
    """Two lines at the foot of a terminal: how far the run is, and how it goes; a third one during a validation.

    It starts no thread: it is drawn by `update` and `validating`, a few times a second at most.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._drawn_at = -float("inf")
        self._last: tuple[StepRecord, Pace] | None = None

    def update(self, record: StepRecord, pace: Pace) -> None:
        """Shows a step; the last step of the run always, the others where the last drawing is not too fresh."""
        self._last = (record, pace)
        if not self._is_fresh() or record.step == record.total_steps:
            self._draw()

    def validating(self, items: ItemPace) -> None:
        """Shows how far a validation is; its last item always, the others where the last drawing is not too fresh."""
        if not self._is_fresh() or items.done == items.total:
            self._draw(Text(str(items)))

    def validated(self) -> None:
        """Takes the line of the validation away."""
        if self._live.is_started:
            self._draw()

    def stop(self) -> None:
        """Leaves the bar as it stands and gives the terminal back; stopping twice does nothing more."""
        with quiet_if_gone(self._console):
            self._live.stop()

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._drawn_at < _REFRESH_SECONDS

    def _draw(self, *more: RenderableType) -> None:
        self._drawn_at = time.monotonic()
        lines = [progress_line(*self._last), figures_line(*self._last)] if self._last else []
        with quiet_if_gone(self._console):
            if not self._live.is_started:
                self._live.start()
            self._live.update(Group(*lines, *more), refresh=True)


def short(value: float) -> str:
    """Returns a number as one reads it in a line: four digits that matter."""
    return f"{value:.4g}"


def clock(seconds: float) -> str:
    """Returns a duration as h:mm:ss, with days before it where it takes some."""
    days, rest = divmod(round(seconds), 24 * 3600)
    hours, rest = divmod(rest, 3600)
    return f"{f'{days} d ' if days else ''}{hours}:{rest // 60:02d}:{rest % 60:02d}"


def progress_line(record: StepRecord, pace: Pace) -> Table:
    """Returns a line as wide as the terminal: steps done, a bar, and the time left."""
    line = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, 1, None):
        line.add_column(ratio=ratio, no_wrap=True)
    done, left = _progress(record, pace)
    line.add_row(Text(done, "bold"), ProgressBar(total=record.total_steps, completed=record.step), Text(left))
    return line


def progress_text(record: StepRecord, pace: Pace) -> str:
    """Returns steps done and the time left without a bar between them."""
    return "  ".join(_progress(record, pace))


def _progress(record: StepRecord, pace: Pace) -> tuple[str, str]:
    share = record.step / max(record.total_steps, 1)
    done = f"epoch {record.epoch}  step {record.step}/{record.total_steps}"
    return done, f"{share:.0%}  {clock(pace.seconds_left)} left"


def figures_line(record: StepRecord, pace: Pace) -> Text:
    """Returns losses, learning rate, gradient norm, rate and share of waiting."""
    # Two spaces between the figures, so that a narrow terminal breaks the line there.
    line = Text("  ".join(["loss", *(f"{source} {short(loss)}" for source, loss in record.losses.items())]))
    line.append(
        f"  lr {short(record.learning_rate)}  gradient {short(record.gradient_norm)}"
        f"  {short(pace.samples_per_second)} samples/s  waiting for data {pace.waiting_share:.0%}",
        "dim",
    )
    return line


def plain_line(records: list[StepRecord], pace: Pace) -> str:
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
