"""A text file of a run that grows by lines."""

from __future__ import annotations

from pathlib import Path

from omnisource.errors import UserError
from omnisource.files.jsonl import AppendFile


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
        """Adds a line.

        Raises:
            UserError: The file cannot be written to, for example because the disk is full.
        """
        try:
            self._file.append(line.encode() + b"\n")
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Closes the file; closing twice does nothing more."""
        self._file.close()


def cannot_write(path: Path, error: OSError) -> UserError:
    """Returns the error of a run whose file cannot be written, with what to do."""
    return UserError(
        f"{path}: cannot be written ({error.strerror}); make space or allow writing, then continue with --resume auto"
    )
