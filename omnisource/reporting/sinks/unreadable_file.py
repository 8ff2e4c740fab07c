"""unreadable.jsonl: a line for each training sample that was replaced, and each validation item that was left out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from omnisource.reporting.events import Event, ItemsLeftOut, RunEnded, SamplesReplaced
from omnisource.reporting.metrics_file import UNREADABLE
from omnisource.reporting.sinks.line_file import LineFile


class UnreadableFileSink:
    """Adds the lines to unreadable.jsonl in a work dir; most runs need no such file, and make none."""

    def __init__(self, work_dir: Path) -> None:
        self._path = work_dir / UNREADABLE
        self._file: LineFile | None = None

    def handle(self, event: Event) -> None:
        """Writes a line for each sample or item that could not be read.

        Raises:
            UserError: The file cannot be written to.
        """
        match event:
            case SamplesReplaced(replacements):
                for replacement in replacements:
                    self._write({"kind": "training", **dataclasses.asdict(replacement)})
            case ItemsLeftOut(step, source, items):
                for item in items:
                    about = {"kind": "validation", "step": step, "source": source}
                    self._write({**about, **dataclasses.asdict(item)})
            case _:
                pass

    def close(self, ended: RunEnded | None) -> None:
        """Closes the file if there is one."""
        if self._file is not None:
            self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            self._file = LineFile(self._path)
        self._file.write(json.dumps(line, ensure_ascii=False))
