"""What a run reports, as events, and what takes them: a sink."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from omnisource.errors import UserError
from omnisource.reporting.progress import Progress
from omnisource.reporting.records import Pace, StepRecord, ValidationRecord

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class StepDone:
    """A step was done; `pace` are the rates with it."""

    record: StepRecord
    pace: Pace


@dataclass(frozen=True)
class IntervalDone:
    """It is time for a plain line: after `log_interval_steps` steps, and after the first and the last of a process.

    Attributes:
        records: The steps since the last such event.
        pace: Rates over the last steps, these among them.
    """

    records: tuple[StepRecord, ...]
    pace: Pace


@dataclass(frozen=True)
class ItemValidated:
    """An item of a validation was looked at, or a microbatch of what comes before it.

    Attributes:
        activity: What the run does, in a few words.
        progress: How far the validation is.
        wants_line: Whether the last event that wanted a plain line is a minute ago.
    """

    activity: str
    progress: Progress
    wants_line: bool


@dataclass(frozen=True)
class ValidationDone:
    """A source was validated."""

    record: ValidationRecord


@dataclass(frozen=True)
class BestFound:
    """The highest validation top-1 of the main source so far, in [0, 1], and its step; None before there is one."""

    score: float | None
    step: int | None


@dataclass(frozen=True)
class PictureOffered:
    """There is a picture for who wants it: `draw` returns it, [H, W, 3] uint8, 0-255, RGB."""

    step: int
    name: str
    draw: Callable[[], np.ndarray]


@dataclass(frozen=True)
class SamplesReplaced:
    """Training samples replaced unreadable ones: dataclasses whose fields make a line each."""

    replacements: tuple[Any, ...]


@dataclass(frozen=True)
class ItemsLeftOut:
    """A validation of a source after `step` steps left items out: dataclasses whose fields make a line each."""

    step: int
    source: str
    items: tuple[Any, ...]


@dataclass(frozen=True)
class Message:
    """Something happened, in words: one or more lines."""

    text: str


@dataclass(frozen=True)
class WorkersStarted:
    """There are loading processes: `process_ids` returns their numbers, which change where one is replaced."""

    process_ids: Callable[[], Iterable[int]]


@dataclass(frozen=True)
class RunEnded:
    """How a run ended, and why where it is not complete."""

    state: Literal["complete", "interrupted", "failed"]
    reason: str = ""


Event = (
    StepDone
    | IntervalDone
    | ItemValidated
    | ValidationDone
    | BestFound
    | PictureOffered
    | SamplesReplaced
    | ItemsLeftOut
    | Message
    | WorkersStarted
)


class Sink(Protocol):
    """Takes the events of a run, and does something with those that it knows."""

    def handle(self, event: Event) -> None:
        """Takes an event.

        Raises:
            UserError: What the run cannot do without could not be written.
        """
        ...

    def close(self, ended: RunEnded | None) -> None:
        """Ends the sink; closing twice does nothing more.

        Args:
            ended: How the run ended; None where nobody knows.

        Raises:
            UserError: What the run cannot do without could not be written.
        """
        ...


def ending_by(error: BaseException) -> RunEnded:
    """Returns how a run ended that raised `error`, and why."""
    if isinstance(error, KeyboardInterrupt):
        reason = "Ctrl-C, not saved since the last checkpoint; --resume auto continues from it"
        return RunEnded("interrupted", reason)
    if isinstance(error, SystemExit):
        return RunEnded(
            "failed",
            "another process of the run failed; the output of the run names the error; --resume auto continues it once "
            "that is fixed",
        )
    return RunEnded("failed", str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
