"""The curves and pictures of a run for tensorboard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from omnisource.reporting.console import Pace
from omnisource.reporting.metrics_file import StepRecord

FOLDER = "tensorboard"


class TensorboardWriter:
    """Writes the event file of a process.

    Args:
        work_dir: Folder of the run.
        resumed_step: Steps that a resumed run goes on from: what was written of later ones is hidden. None: a new run.
    """

    def __init__(self, work_dir: Path, resumed_step: int | None) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # seconds of imports, needed by runs only

        purge_step = None if resumed_step is None else resumed_step + 1  # hides this step and later ones
        self._writer = SummaryWriter(str(work_dir / FOLDER), purge_step=purge_step)

    def step(self, record: StepRecord) -> None:
        """Writes the curves that have a point for each step."""
        pace = Pace()
        pace.add(record)
        curves = {
            **{f"loss/{source}": loss for source, loss in record.losses.items()},
            "loss/total": record.total_loss,
            "learning_rate": record.learning_rate,
            "gradient_norm": record.gradient_norm,
            "speed/samples_per_second": pace.samples_per_second,
            "speed/share_waiting_for_data": pace.waiting_share,
        }
        self._add(curves, record.step)

    def pace(self, step: int, pace: Pace, memory_gib: Mapping[str, float]) -> None:
        """Writes the curves that have a point now and then: rates over the last steps, and memory by name."""
        curves = {
            "speed/steps_per_second": pace.steps_per_second,
            **{f"speed/samples_per_second/{name}": rate for name, rate in pace.samples_per_second_by_source.items()},
            **{f"memory/{name}": size for name, size in memory_gib.items()},
        }
        self._add(curves, step)

    def validation(self, step: int, source: str, metrics: Mapping[str, float]) -> None:
        """Writes the figures of one source's validation."""
        self._add({f"validation/{source}/{name}": value for name, value in metrics.items()}, step)
        self._writer.flush()

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes a picture: [H, W, 3] uint8, 0-255, RGB."""
        self._writer.add_image(name, picture, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _add(self, curves: Mapping[str, float], step: int) -> None:
        for name, value in curves.items():
            self._writer.add_scalar(name, value, step)
