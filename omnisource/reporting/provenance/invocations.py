"""invocations.jsonl: how a run was started each time, and what that took."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from omnisource.errors import UserError
from omnisource.files.jsonl import read_lines
from omnisource.reporting.events import Event, RunEnded
from omnisource.reporting.provenance.machine import describe_process
from omnisource.reporting.provenance.usage import Usage
from omnisource.reporting.sinks.line_file import LineFile

INVOCATIONS = "invocations.jsonl"


class InvocationsSink:
    """Adds a line at the start of a process of the run, and one at its end.

    Raises:
        UserError: The file cannot be written to.
    """

    def __init__(self, work_dir: Path, num_processes: int, resumed_step: int | None) -> None:
        self._file = LineFile(work_dir / INVOCATIONS)
        self._is_closed = False
        self._usage = Usage()
        about = {"processes": num_processes, "from_step": resumed_step or 0, **describe_process()}
        self._write({"kind": "start", "unix_seconds": time.time(), **about})

    def handle(self, event: Event) -> None:
        """Takes no event."""

    def close(self, ended: RunEnded | None) -> None:
        """Writes what the process took, where it is known how the run ended; closing twice does nothing more.

        On a disk that has filled up the line is missing, as after a kill: no run fails for want of it.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if ended is not None:
                with contextlib.suppress(UserError):
                    self._write(
                        {"kind": "end", "unix_seconds": time.time(), "state": ended.state, **self._usage.so_far()}
                    )
        finally:
            self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line))


def read_invocations(work_dir: Path) -> list[dict[str, Any]]:
    """Returns each start of a run with what it took under "usage"; {} where it was killed. Lines cut off are none."""
    starts: list[dict[str, Any]] = []
    for line in read_lines(work_dir / INVOCATIONS):
        if line.get("kind") == "start":
            starts.append({**line, "usage": {}})
        elif line.get("kind") == "end" and starts:
            starts[-1]["usage"] = line
    return starts
