"""The ends of files that another process adds lines to."""

from __future__ import annotations

import os
from pathlib import Path


def last_lines(path: Path, num_bytes: int) -> tuple[list[bytes], bool]:
    """Returns the whole lines among the last bytes of a file, and whether these are all lines of the file.

    A last line without its newline is taken for one that is being written, and left out.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        # From one byte before, which is a newline where the first line is whole.
        start = max(0, size - num_bytes - 1)
        file.seek(start)
        lines = file.read().split(b"\n")[:-1]
    return (lines, True) if start == 0 else (lines[1:], False)


class LineFollower:
    """Gives the lines that are added to a file; a file that is replaced or cut is gone on with at its end.

    Args:
        path: The file; it may come later.
        num_bytes: Bytes at the end of the file whose lines come first.
    """

    def __init__(self, path: Path, num_bytes: int) -> None:
        self._path = path
        self._begun = b""  # a line whose end is not written yet
        self._position: tuple[int, int] | None = None  # (inode, bytes read)
        self._num_bytes = num_bytes

    def new_lines(self) -> list[bytes]:
        """Returns the whole lines since the last call; none where there is no file.

        Raises:
            OSError: The file is there and cannot be read.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            now = os.fstat(file.fileno())
            if self._position is None:
                # From one byte before, which is a newline where the first line is whole.
                self._position = (now.st_ino, max(0, now.st_size - self._num_bytes - 1))
                is_cut = self._position[1] > 0
            else:
                is_cut = False
                if self._position[0] != now.st_ino or self._position[1] > now.st_size:
                    self._position, self._begun = (now.st_ino, now.st_size), b""
            file.seek(self._position[1])
            data = file.read()
        self._position = (self._position[0], self._position[1] + len(data))
        *lines, self._begun = (self._begun + data).split(b"\n")
        return lines[1:] if is_cut else lines
