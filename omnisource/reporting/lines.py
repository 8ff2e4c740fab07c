"""How a run is put in lines: numbers and durations, the figures of a step, the bar of its progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from omnisource.errors import UserError
from omnisource.reporting.records import Pace, StepRecord, ValidationRecord
from omnisource.reporting.terminal import plain_text

LOG = "train.log"
"""File of a work dir that has the plain lines of its run."""


def short(value: float) -> str:
    """Returns a number as one reads it in a line: four digits that matter."""
    return f"{value:.4g}"


def clock(seconds: float) -> str:
    """Returns a duration as h:mm:ss, with days before it where it takes some."""
    days, rest = divmod(round(seconds), 24 * 3600)
    hours, rest = divmod(rest, 3600)
    return f"{f'{days} d ' if days else ''}{hours}:{rest // 60:02d}:{rest % 60:02d}"


def bar_line(done: str, share: float, left: str) -> Table:
    """Returns a line as wide as the terminal, with a bar between two texts.

    Args:
        done: What is done, to the left of the bar.
        share: How much of the whole that is, 0 to 1.
        left: Rate and time left, to the right of it.
    """
    line = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, 1, None):
        line.add_column(ratio=ratio, no_wrap=True)
    line.add_row(plain_text(done, "bold"), ProgressBar(total=1.0, completed=share), plain_text(left))
    return line


def progress_line(record: StepRecord, pace: Pace) -> Table:
    """Returns a line as wide as the terminal: steps done, a bar, and the time left."""
    done, left = _progress(record, pace)
    return bar_line(done, _share(record), left)


def progress_text(record: StepRecord, pace: Pace) -> str:
    """Returns steps done and the time left without a bar between them."""
    return "  ".join(_progress(record, pace))


def figures_line(record: StepRecord, pace: Pace) -> Text:
    """Returns losses, learning rate, gradient norm, rate and share of waiting."""
    # Two spaces between the figures, so that a narrow terminal breaks the line there.
    line = plain_text("  ".join(["loss", *(f"{source} {short(loss)}" for source, loss in record.losses.items())]))
    line.append(
        f"  lr {short(record.learning_rate)}  gradient {short(record.gradient_norm)}"
        f"  {short(pace.samples_per_second)} samples/s  waiting for data {pace.waiting_share:.0%}",
        "dim",
    )
    return line


def plain_line(records: Sequence[StepRecord], pace: Pace) -> str:
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


def validation_line(record: ValidationRecord) -> str:
    """Returns the line of a validation of one source."""
    figures = "  ".join(f"{name} {short(value)}" for name, value in record.metrics.items())
    return f"epoch {record.epoch}  step {record.step}  validation of {record.source}: {figures}"


def _progress(record: StepRecord, pace: Pace) -> tuple[str, str]:
    done = f"epoch {record.epoch}  step {record.step}/{record.total_steps}"
    return done, f"{_share(record):.0%}  {clock(pace.seconds_left)} left"


def _share(record: StepRecord) -> float:
    return record.step / max(record.total_steps, 1)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def cannot_write(path: Path, error: OSError) -> UserError:
    """Returns the error of a run whose file cannot be written, with what to do."""
    return UserError(
        f"{path}: cannot be written ({error.strerror}); make space or allow writing, then continue with --resume auto"
    )
