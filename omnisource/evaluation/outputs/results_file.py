"""A file of results that a run over many files adds to, and goes on with after it was ended, however it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omnisource.errors import UserError
from omnisource.files.jsonl import Journal
from omnisource.files.lock import LockHeld, take_lock

_KIND = "omnisource predictions"


class ResultsFile:
    """JSON lines: a first one with the settings, and then one for each file that is done.

    Attributes:
        path: The file.
        finished: Paths of the files that are done, as they were given.
        num_failed: Those of them that have an `error`.
    """

    def __init__(self, path: Path, journal: Journal) -> None:
        self.path = path
        self._journal = journal
        self.finished: set[str] = set()
        self.num_failed = 0
        for entry in self.entries():
            self._count(entry)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yields what is there of each file, oldest first.

        Raises:
            UserError: A line was damaged.
        """
        for number, line in enumerate(self._journal.lines(), start=2):
            try:
                entry = json.loads(line)
                entry["path"]
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f"{self.path}:{number}: damaged; without the line its file is done again") from error
            yield entry

    def add(self, entry: Mapping[str, Any]) -> None:
        """Adds what came out of one file, which is done with this: its `path`, and what else JSON can hold.

        Raises:
            OSError: It cannot be written; it names the file.
        """
        self._journal.append(entry)
        self._count(entry)

    def _count(self, entry: Mapping[str, Any]) -> None:
        self.finished.add(entry["path"])
        self.num_failed += "error" in entry


@contextlib.contextmanager
def open_results(path: Path, settings: Mapping[str, Any]) -> Iterator[ResultsFile]:
    """Yields a file of results, a new one or one that goes on.

    Args:
        path: The file.
        settings: What the results depend on; those of a file that goes on must be the same.

    Raises:
        UserError: The file is of something else, was made with other settings, or is being written by another process.
        OSError: It cannot be read or written.
    """
    header = {"kind": _KIND, **settings}
    if path.exists():
        _check(path, header)
    try:
        with take_lock(path), contextlib.closing(Journal(path, header)) as journal:
            if journal.first_line != journal.header:
                raise UserError(f"{path}: changed while it was opened; try again")
            yield ResultsFile(path, journal)
    except LockHeld as error:
        raise UserError(f"{path}: {error.owner} is writing to it") from error


def _check(path: Path, header: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise UserError(f"{path}: no file, so that no results can be added to it; choose another name")
    with path.open("rb") as file:
        first = file.readline()
    if json.dumps(header).encode().startswith(first.rstrip(b"\n")) and not first.endswith(b"\n"):
        return  # new, or ended while it was begun
    try:
        found = json.loads(first)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("kind") != _KIND:
        raise UserError(f"{path}: exists already and holds no predictions of ours; choose another name")
    differing = [key for key in {**found, **header} if found.get(key) != header.get(key)]
    if differing:
        lines = [f"  {key}: {found.get(key)!r} there, {header.get(key)!r} now" for key in differing]
        raise UserError("\n".join([f"{path}: was begun with other settings; choose another name", *lines]))
