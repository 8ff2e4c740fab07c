"""The curves and pictures of a run for tensorboard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from omnisource.reporting.events import (
    Event,
    IntervalDone,
    PictureOffered,
    RunEnded,
    StepDone,
    ValidationDone,
    WorkersStarted,
)
from omnisource.reporting.records import Pace, StepRecord
from omnisource.reporting.sinks.memory import memory_in_use

FOLDER = "tensorboard"


def can_write_into(work_dir: Path) -> bool:
    """Returns whether tensorboard can write below a folder: its name, and those above it, must be UTF-8."""
    try:
        str(work_dir).encode()
    except UnicodeEncodeError:
        return False
    return True


class TensorboardSink:
    """Writes the event file of a process.

    Args:
        work_dir: Folder of the run.
        resumed_step: Steps that a resumed run goes on from: what was written of later ones is hidden. None: a new run.
    """

    def __init__(self, work_dir: Path, resumed_step: int | None) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # seconds of imports, needed by runs only

        purge_step = None if resumed_step is None else resumed_step + 1  # hides this step and later ones
        self._writer = SummaryWriter(str(work_dir / FOLDER), purge_step=purge_step)
        self._is_closed = False
        self._worker_ids: Callable[[], Iterable[int]] = tuple

    def handle(self, event: Event) -> None:
        """Writes the points of an event, or its picture."""
        match event:
            case StepDone(record):
                self._add(_step_curves(record), record.step)
            case IntervalDone(records, pace):
                self._add(_interval_curves(pace, memory_in_use(self._worker_ids())), records[-1].step)
            case ValidationDone(record):
                curves = {f"validation/{record.source}/{name}": value for name, value in record.metrics.items()}
                self._add(curves, record.step)
                self._writer.flush()
            case PictureOffered(step, name, draw):
                self._writer.add_image(name, draw(), step, dataformats="HWC")
                self._writer.flush()
            case WorkersStarted(process_ids):
                self._worker_ids = process_ids
            case _:
                pass

    def close(self, ended: RunEnded | None) -> None:
        """Closes the file."""
        if not self._is_closed:
            self._is_closed = True
            self._writer.close()

    def _add(self, curves: Mapping[str, float], step: int) -> None:
        for name, value in curves.items():
            self._writer.add_scalar(name, value, step)


def _step_curves(record: StepRecord) -> dict[str, float]:
    """Returns the curves that have a point for each step."""
    pace = Pace((record,))
    return {
        **{f"loss/{source}": loss for source, loss in record.losses.items()},
        "loss/total": record.total_loss,
        "learning_rate": record.learning_rate,
        "gradient_norm": record.gradient_norm,
        "speed/samples_per_second": pace.samples_per_second,
        "speed/share_waiting_for_data": pace.waiting_share,
    }


def _interval_curves(pace: Pace, memory_gib: Mapping[str, float]) -> dict[str, float]:
    """Returns the curves that have a point now and then: rates over the last steps, and memory by name."""
    return {
        "speed/steps_per_second": pace.steps_per_second,
        **{f"speed/samples_per_second/{name}": rate for name, rate in pace.samples_per_second_by_source.items()},
        **{f"memory/{name}": size for name, size in memory_gib.items()},
    }
