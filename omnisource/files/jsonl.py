"""Files of lines that only grow: a line that was written stays, and one that was cut off is none."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omnisource.errors import adding_path
from omnisource.files.atomic import atomic_write

_TAIL_BYTES = 65536  # looked at in one go for the end of the last whole line


class AppendFile:
    """A file that lines are added to by this process alone; they are the operating system's when `append` returns.

    Raises:
        OSError: If the file cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    def append(self, lines: bytes, *, sync: bool = False) -> None:
        """Adds whole lines: all of them or, if it fails, none.

        Args:
            lines: Each with its newline.
            sync: Whether to wait until they are on the disk.

        Raises:
            OSError: If they cannot be written, for example because the disk is full; it names the file.
        """
        end = os.fstat(self._file.fileno()).st_size
        rest = memoryview(lines)
        with adding_path(self.path):
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]  # a write to a disk that fills up takes a part
                if sync:
                    os.fsync(self._file.fileno())
            except OSError:
                with contextlib.suppress(OSError):  # or the next line would run on from half a one
                    self._file.truncate(end)
                raise

    def truncate(self, num_bytes: int) -> None:
        """Cuts the file off after so many bytes."""
        self._file.truncate(num_bytes)

    def close(self) -> None:
        """Closes the file; closing twice does nothing more."""
        self._file.close()


class Journal:
    """JSON lines below a first one that says what they depend on.

    A file that is new, or whose first line was never finished, is started; a last line that was cut off is removed, so
    that the next one does not run on from it. A file with another first line is left as it is: whoever opens it looks
    at `first_line`, and refuses it or calls `restart`.

    Attributes:
        path: The file.
        header: The first line that is wanted, with its newline.
        first_line: The one that is there.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        """Opens a journal, or starts one.

        Args:
            path: The file; no other process may write to it meanwhile, see `omnisource.files.lock`.
            header: Content of the first line.

        Raises:
            OSError: If the file cannot be read or written to.
        """
        self.path = path
        self.header = json_line(header)
        self._file = AppendFile(path)
        try:
            with path.open("rb") as file:
                self.first_line = file.readline()
            if self.first_line == self.header:
                self._drop_torn_line()
            elif self.header.startswith(self.first_line):
                self.restart()
        except BaseException:
            self._file.close()
            raise

    def restart(self) -> None:
        """Removes all lines and begins again with the header."""
        self._file.truncate(0)
        self._file.append(self.header)
        self.first_line = self.header

    def lines(self) -> Iterator[bytes]:
        """Yields the lines below the first one, oldest first; a crash of the machine can have damaged any of them."""
        with self.path.open("rb") as file:
            next(file, None)
            yield from file

    def append(self, *entries: Mapping[str, Any], sync: bool = False) -> None:
        """Adds entries, a line each: all of them or, if it fails, none.

        Args:
            entries: What JSON can hold.
            sync: Whether to wait until they are on the disk.

        Raises:
            OSError: If they cannot be written, for example because the disk is full; it names the file.
        """
        self._file.append(b"".join(map(json_line, entries)), sync=sync)

    def close(self) -> None:
        """Closes the file; closing twice does nothing more."""
        self._file.close()

    def _drop_torn_line(self) -> None:
        with self.path.open("rb") as file:
            end = position = file.seek(0, os.SEEK_END)
            tail = b""
            while b"\n" not in tail:  # the header has one
                position = max(0, position - _TAIL_BYTES)
                file.seek(position)
                tail = file.read(end - position)
        whole = position + tail.rindex(b"\n") + 1
        if whole < end:
            self._file.truncate(whole)


def json_line(values: Mapping[str, Any]) -> bytes:
    """Returns a line of JSON, with its newline."""
    return json.dumps(values).encode() + b"\n"


def move_lines(path: Path, target: Path, is_moved: Callable[[bytes], bool]) -> int:
    """Moves lines of a file to the end of another, which is made if there are any; returns how many.

    The file is replaced in one go; a kill in between can repeat lines in the other, and loses none.

    Raises:
        OSError: If one of them cannot be written to; it names the file.
    """
    moved = 0
    with path.open("rb") as lines, adding_path(target), target.open("ab") as rest, atomic_write(path) as kept:
        for line in lines:
            goes = is_moved(line)
            moved += goes
            (rest if goes else kept).write(line.rstrip(b"\n") + b"\n")
        rest.flush()
        os.fsync(rest.fileno())
    if not target.stat().st_size:
        target.unlink()
    return moved


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the JSON objects of a file of lines; none of a missing one, and no line that was cut off."""
    found: list[dict[str, Any]] = []
    with contextlib.suppress(OSError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                content = json.loads(line)
                if isinstance(content, dict):
                    found.append(content)
    return found
