"""A text file of a run that grows by lines."""

from __future__ import annotations

from pathlib import Path

from omnisource.files.jsonl import AppendFile
from omnisource.reporting.lines import cannot_write


class LineFile:
    """A file that lines are added to; each is in the hands of the operating system when `write` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = AppendFile(path)
        except OSError as error:
            raise cannot_write(path, error) from error

    def write(self, line: str) -> None:
        """Adds a line; bytes of a file name that are no text stand in it escaped.

        Raises:
            UserError: The file cannot be written to, for example because the disk is full.
        """
        try:
            self._file.append(line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Closes the file; closing twice does nothing more."""
        self._file.close()
