"""train.log: the plain lines of a run and its messages, with the time of day."""

from __future__ import annotations

import time
from pathlib import Path

from omnisource.printing import printable
from omnisource.reporting.events import Event, IntervalDone, ItemValidated, Message, RunEnded, ValidationDone
from omnisource.reporting.lines import LOG, plain_line, validation_line
from omnisource.reporting.sinks.line_file import LineFile


class LogFileSink:
    """Adds the lines to train.log in a work dir, and at the end why the run failed.

    Raises:
        UserError: The file cannot be written to.
    """

    def __init__(self, work_dir: Path) -> None:
        self._file = LineFile(work_dir / LOG)
        self._is_closed = False

    def handle(self, event: Event) -> None:
        """Writes the lines of an event.

        Raises:
            UserError: The file cannot be written to.
        """
        match event:
            case IntervalDone(records, pace):
                self._write(plain_line(records, pace))
            case ItemValidated() if event.wants_line:
                self._write(str(event.progress))
            case ValidationDone(record):
                self._write(validation_line(record))
            case Message(text):
                self._write(text)
            case _:
                pass

    def close(self, ended: RunEnded | None) -> None:
        """Writes why the run failed if it did, and closes the file.

        Raises:
            UserError: The file cannot be written to.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if ended is not None and ended.state == "failed":
                self._write(f"the run failed: {ended.reason}")
        finally:
            self._file.close()

    def _write(self, text: str) -> None:
        time_of_day = time.strftime("%Y-%m-%d %H:%M:%S")
        for line in printable(text).splitlines():  # a terminal shows the log, too
            self._file.write(f"{time_of_day}  {line}")
