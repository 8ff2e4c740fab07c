"""The journal of an output folder: which files are finished, a line each, in `prepared.jsonl`.

A prepared file is written under a temporary name and synced to the disk; then its line is, and only then does it get
its name. So whatever ends the process, a file with its name is whole and has a line, and a line without its file, or
the half of one, counts for nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

from omnisource.errors import UserError
from omnisource.files import jsonl
from omnisource.files.atomic import atomic_write
from omnisource.files.lock import LockHeld, take_lock

JOURNAL = "prepared.jsonl"
"""Name of the journal in the output folder."""

COMMIT_SECONDS = 1.0
"""Files that are finished within this time are entered together: syncing the disk takes its time. None waits longer."""

_FORMAT = {"format": "omnisource prepared data", "version": 1}
_TEMPORARY = ".partial-"  # what folders of files that are being written begin with


@dataclass(frozen=True, slots=True)
class Header:
    """Everything that all files of an output folder depend on.

    Attributes:
        source: What is prepared, as its plan names it.
        short_side: Short side, in pixels.
        keyframe_interval: Frames from one keyframe of a video to the next.
        psnr: PSNR of the luma of videos, in dB.
        jpeg_quality: Of shrunk JPEG and WebP images.
    """

    source: str
    short_side: int
    keyframe_interval: int
    psnr: float
    jpeg_quality: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished file.

    Attributes:
        output: Path of the prepared file, below the output folder.
        size: Its bytes.
        sha256: SHA-256 of its bytes, in hexadecimal digits.
        num_frames: Frames, 1 for an image.
        width: Pixels.
        height: Pixels.
        original: Path of the original.
        original_size: Its bytes.
        original_modified_ns: When it was last modified, in nanoseconds since 1970.
        declared_frames: Frames that its container says it has; None where it does not, for images, and in journals of
            versions that did not keep it.
    """

    output: str
    size: int
    sha256: str
    num_frames: int
    width: int
    height: int
    original: str
    original_size: int
    original_modified_ns: int
    declared_frames: int | None = None

    @property
    def missing_frames(self) -> int:
        """Frames that the original declared and did not have."""
        return max(0, (self.declared_frames or 0) - self.num_frames)


class Journal:
    """The journal of an output folder, open, and closed to other processes. A context manager.

    Attributes:
        entries: The finished files, by their paths below the output folder.
        temporary: Folder for files that are being written.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        """Opens the journal, or starts one in a new or empty folder.

        Args:
            folder: The output folder.
            header: Everything that all files depend on.

        Raises:
            UserError: If the folder holds something else, was prepared otherwise, or another process prepares it.
        """
        self.folder = folder
        self._header = {**_FORMAT, **dataclasses.asdict(header)}
        self._lock = threading.RLock()  # guards the entries and all that is below; a timer's thread commits too
        self._waiting: deque[tuple[Entry, Path]] = deque()
        self._timer: threading.Timer | None = None  # runs whenever files wait
        self._committed = -math.inf  # when the disk was last synced, on the clock of `time.monotonic`
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / JOURNAL
        if not path.exists() and any(folder.iterdir()):
            raise UserError(f"{folder}: holds something else than prepared data; name a new or an empty folder")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(take_lock(folder))
            except LockHeld as error:
                raise UserError(
                    f"{folder}: another process is preparing it ({error.owner}); wait for that one"
                ) from error
            self._file = stack.enter_context(contextlib.closing(jsonl.Journal(path, self._header)))
            if self._file.first_line != self._file.header:
                raise UserError(_difference(path, self._file.first_line, self._header))
            self.entries = {entry.output: entry for line in self._file.lines() if (entry := _entry(line)) is not None}
            for left in folder.glob(f"{_TEMPORARY}*"):
                shutil.rmtree(left)
            self.temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder))
            self._open = stack.pop_all()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._open, self._lock:
            try:
                self.commit()
            finally:
                self._waiting.clear()  # or a timer that runs out now would write to the closed file
                shutil.rmtree(self.temporary, ignore_errors=True)

    def has(self, output: str, original: str) -> bool:
        """Returns whether a prepared file is finished and there, and its original as it was then."""
        entry = self.entries.get(output)
        if entry is None:
            return False
        try:
            found = os.stat(original)
            size = os.stat(self.folder / output).st_size
        except OSError:
            return False
        return (size, found.st_size, found.st_mtime_ns) == (
            entry.size,
            entry.original_size,
            entry.original_modified_ns,
        )

    def add(self, entry: Entry, written: Path) -> None:
        """Takes a file that is on the disk under a temporary name; it gets its own within `COMMIT_SECONDS`.

        Args:
            entry: What it is.
            written: Where it is.

        Raises:
            OSError: If files cannot be entered: the disk is full, most likely.
        """
        with self._lock:
            self._waiting.append((entry, written))
            remaining_seconds = self._committed + COMMIT_SECONDS - time.monotonic()
            if remaining_seconds <= 0:
                self.commit()
            elif self._timer is None:
                # The next file may come in minutes only: this one is not to wait for it.
                self._timer = threading.Timer(remaining_seconds, self._commit_in_time)
                self._timer.daemon = True
                self._timer.start()

    def drop(self, output: str) -> None:
        """Removes a finished file whose original cannot be prepared any more, if there is one."""
        with self._lock:
            if self.entries.pop(output, None) is not None:
                (self.folder / output).unlink(missing_ok=True)

    def commit(self) -> None:
        """Enters the files that were added, and gives them their names.

        Raises:
            OSError: If the disk is full, most likely.
        """
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._waiting:
                self._enter()
                self._committed = time.monotonic()

    def finish(self) -> None:
        """Writes the journal again, sorted: it is then a function of what was prepared, not of how it came about."""
        self.commit()
        entries = (dataclasses.asdict(self.entries[output]) for output in sorted(self.entries))
        self.write(JOURNAL, map(jsonl.json_line, chain([self._header], entries)))

    def write(self, output: str, content: Iterable[bytes]) -> None:
        """Writes a file of the output folder that is no medium: the whole of it or, if the process is ended, nothing.

        Args:
            output: Its path below the output folder.
            content: What it is to have, in parts.
        """
        target = self.folder / output
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, unfinished_in=self.temporary) as file:
            file.writelines(content)

    def _commit_in_time(self) -> None:
        with contextlib.suppress(OSError):  # the files still wait: the next commit tries again, and raises it
            self.commit()

    def _enter(self) -> None:
        """Enters the files that wait."""
        for entry, _ in self._waiting:  # made of another original: it must not be taken for what the line describes
            (self.folder / entry.output).unlink(missing_ok=True)
        self._file.append(*(dataclasses.asdict(entry) for entry, _ in self._waiting), sync=True)
        while self._waiting:
            entry, written = self._waiting[0]
            target = self.folder / entry.output
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(written, target)
            self.entries[entry.output] = entry
            self._waiting.popleft()  # only now, and at once: another attempt goes on where this one failed


def _entry(line: bytes) -> Entry | None:
    """Returns the entry of a line, or None where it is damaged: then its file did not get its name either."""
    try:
        return Entry(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _difference(path: Path, first: bytes, header: Mapping[str, Any]) -> str:
    try:
        found = json.loads(first)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != _FORMAT["format"]:
        return f"{path}: is there already, and is no journal of prepared data; name another folder"
    others = [
        f"{key}: {found.get(key)} before, {header.get(key)} now"
        for key in {**found, **header}
        if found.get(key) != header.get(key)
    ]
    lines = "\n  ".join(others)
    return (
        f"{path.parent}: was prepared otherwise:\n  {lines}\nGive the same source and settings again, name another "
        "folder, or remove this one."
    )
