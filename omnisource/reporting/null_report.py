"""The report of all processes of a run but the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from omnisource.reporting.metrics_file import StepRecord


class NullReport:
    """Takes what `Report` takes and tells nobody: the report of all processes but the first."""

    def watch_memory_of(self, worker_ids: Callable[[], Iterable[int]]) -> None:
        """Does nothing."""

    def step(self, record: StepRecord) -> None:
        """Does nothing."""

    def validating(self, source: str, total: int) -> Callable[[], None]:
        """Returns a function that does nothing."""
        return lambda: None

    def validation(self, step: int, epoch: int, source: str, metrics: dict[str, float]) -> None:
        """Does nothing."""

    def best(self, score: float | None, step: int | None) -> None:
        """Does nothing."""

    def picture(self, step: int, name: str, draw: Callable[[], np.ndarray]) -> None:
        """Does nothing, and draws nothing."""

    def stopped(self, signal_number: int, checkpoint: Path) -> None:
        """Does nothing."""

    def replacements(self, replacements: Sequence[Any]) -> None:
        """Does nothing."""

    def left_out(self, step: int, source: str, left_out: Sequence[Any]) -> None:
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
