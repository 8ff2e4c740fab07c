"""The journal of a check: what reading each file told, a line a file, written as soon as it is known.

So a check that was ended, however, goes on where it was; and the next check of the same data reads what has changed.
"""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.metadata
import json
import os
from collections.abc import Iterator
from pathlib import Path

from omnisource.check.examine import FileReport
from omnisource.check.files import FileState
from omnisource.errors import UserError

JOURNAL = "journal.jsonl"
"""Name of the journal in the folder of a report."""

FORMAT = "omnisource check journal"
"""How a journal is recognized; the first line says it."""

VERSION = 1
"""Of the lines: rises when what stands in them has another meaning, as other hashes would have."""


class Journal:
    """A journal that is open, and that no other process writes to. A context manager.

    Attributes:
        path: The file.
        is_of_others: Whether there was one that was written with other versions of the decoders, and that was emptied.
        num_damaged: Lines that are damaged, as far as `entries` has read.
    """

    def __init__(self, folder: Path) -> None:
        """Opens the journal of a folder, or starts one.

        Args:
            folder: Folder of the report, which exists.

        Raises:
            UserError: If the file is none of ours, cannot be written to, or another check writes to it.
        """
        self.path = folder / JOURNAL
        self.num_damaged = 0
        try:
            self._file = open(self.path, "a+b")  # noqa: SIM115 (open for as long as the journal)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written to: {error.strerror}") from error
        try:
            self._lock()
            self.is_of_others = self._start()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def entries(self) -> Iterator[tuple[FileState, FileReport]]:
        """Yields what the journal says, oldest first; lines that are damaged are left out, and counted."""
        self.num_damaged = 0
        self._file.seek(0)
        next(self._file, None)  # says the format
        for line in self._file:
            entry = _entry(line)
            if entry is None:
                self.num_damaged += 1
            else:
                yield entry

    def append(self, state: FileState, found: FileReport) -> None:
        """Adds what reading a file told; it is kept whatever ends the process afterwards.

        Raises:
            UserError: If it cannot be written: a full disk, most likely.
        """
        line = json.dumps({"file": dataclasses.asdict(state), "found": dataclasses.asdict(found)})
        self._write(line.encode() + b"\n")

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{self.path}: another check is writing to it; wait for it, or give another folder with --report"
            ) from error
        except OSError:
            pass  # a file system without locks; there is nothing to be done about it

    def _start(self) -> bool:
        """Makes the file one that can be appended to; returns whether it was one of other versions."""
        header = _header()
        self._file.seek(0)
        first = self._file.readline()
        if not first.startswith(_prefix()) and not header.startswith(first):
            raise UserError(
                f"{self.path}: is there already, and is no journal of a check; give another folder with --report"
            )
        if first == header:
            self._drop_torn_line()
            return False
        self._file.truncate(0)
        self._write(header)
        return first.endswith(b"\n")

    def _drop_torn_line(self) -> None:
        """Removes a last line that was not written to its end, so that the next one does not run on from it."""
        end = position = self._file.seek(0, os.SEEK_END)
        tail = b""
        while b"\n" not in tail:  # the header has one
            position = max(0, position - 65536)
            self._file.seek(position)
            tail = self._file.read(end - position)
        self._file.truncate(position + tail.rindex(b"\n") + 1)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror}") from error


def _entry(line: bytes) -> tuple[FileState, FileReport] | None:
    """Returns what a line says, None where it is damaged."""
    try:
        # As bytes that are no text in any case: a crash of the machine leaves zeros, for example.
        values = json.loads(line)
        state, found = values["file"], values["found"]
        found["hashes"], found["is_plain"] = tuple(found["hashes"]), tuple(found["is_plain"])
        return FileState(**state), FileReport(**found)
    except (ValueError, TypeError, KeyError):
        return None


def _prefix() -> bytes:
    return json.dumps({"format": FORMAT}).encode()[:-1]


def _header() -> bytes:
    """Returns the first line. With other decoders other files can be read, so their versions are part of it."""
    decoders = {name: importlib.metadata.version(name) for name in ("av", "pillow")}
    return json.dumps({"format": FORMAT, "version": VERSION, **decoders}).encode() + b"\n"
