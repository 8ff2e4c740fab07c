"""metrics.jsonl as a run writes it: a line for each step and each validation, as they happen."""

from __future__ import annotations

from pathlib import Path

from omnisource.reporting.events import Event, RunEnded, StepDone, ValidationDone
from omnisource.reporting.metrics_file import METRICS
from omnisource.reporting.records import metrics_line
from omnisource.reporting.sinks.line_file import LineFile


class MetricsFileSink:
    """Adds the lines to metrics.jsonl in a work dir.

    Raises:
        UserError: The file cannot be written to.
    """

    def __init__(self, work_dir: Path) -> None:
        self._file = LineFile(work_dir / METRICS)

    def handle(self, event: Event) -> None:
        """Writes the line of a step or a validation.

        Raises:
            UserError: The file cannot be written to.
        """
        if isinstance(event, StepDone | ValidationDone):
            self._file.write(metrics_line(event.record))

    def close(self, ended: RunEnded | None) -> None:
        """Closes the file."""
        self._file.close()
