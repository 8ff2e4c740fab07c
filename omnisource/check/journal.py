"""The journal of a check: what was found in each file, a line a file, written as soon as it is known.

So a check that was ended, however, goes on where it was; and the next check of the same data reads what has changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path

from omnisource.check.examine import FileReport
from omnisource.check.files import FileState
from omnisource.errors import UserError
from omnisource.files import jsonl
from omnisource.files.lock import LockHeld, take_lock

JOURNAL = "journal.jsonl"
"""Name of the journal in the folder of a report."""

FORMAT = "omnisource check journal"
"""How a journal is recognized; the first line says it."""

VERSION = 1
"""Of the lines: rises when what stands in them has another meaning, as other hashes would have."""

_PREFIX = json.dumps({"format": FORMAT}).encode()[:-1]


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
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(take_lock(self.path))
                self._file = stack.enter_context(contextlib.closing(jsonl.Journal(self.path, _header())))
                self.is_of_others = self._restart_if_of_others()
            except LockHeld as error:
                raise UserError(
                    f"{self.path}: another check is writing to it ({error.owner}); wait for it, or give another folder "
                    "with --report"
                ) from error
            except OSError as error:
                raise UserError(f"{self.path}: cannot be written to: {error.strerror}") from error
            self._open = stack.pop_all()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def entries(self) -> Iterator[tuple[FileState, FileReport]]:
        """Yields what the journal says, oldest first; lines that are damaged are left out, and counted."""
        self.num_damaged = 0
        for line in self._file.lines():
            entry = _entry(line)
            if entry is None:
                self.num_damaged += 1
            else:
                yield entry

    def append(self, state: FileState, found: FileReport) -> None:
        """Adds what was found in a file; it is kept whatever ends the process afterward.

        Raises:
            UserError: If it cannot be written: a full disk, most likely.
        """
        try:
            self._file.append({"file": dataclasses.asdict(state), "found": dataclasses.asdict(found)})
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror}") from error

    def _restart_if_of_others(self) -> bool:
        """Empties a journal of other versions; returns whether it was one, and had entries."""
        first = self._file.first_line
        if first == self._file.header:
            return False
        if not first.startswith(_PREFIX):
            raise UserError(
                f"{self.path}: is there already, and is no journal of a check; give another folder with --report"
            )
        self._file.restart()
        return first.endswith(b"\n")


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


def _header() -> dict[str, str | int]:
    """Returns the first line. With other decoders other files can be read, so their versions are part of it."""
    decoders = {name: importlib.metadata.version(name) for name in ("av", "pillow")}
    return {"format": FORMAT, "version": VERSION, **decoders}
