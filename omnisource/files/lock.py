"""Locks between processes: what one of them has, no other takes until it lets go or ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

DYING_SECONDS = 5.0
"""Time given to an owner that was killed a moment ago: the system frees its lock only when the process is gone."""

_INTERVAL_SECONDS = 0.05  # from one try to the next


class LockHeld(Exception):
    """Another process has the lock, and has it still after `DYING_SECONDS`.

    Attributes:
        owner: That process, in words: its number, as far as the system tells it.
    """

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(f"{path}: {owner} has it locked")
        self.owner = owner


class Lock:
    """A lock that this process has. A context manager.

    The processes that this one starts do not inherit it: Python opens files so.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Lets go; doing so twice does nothing more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def take_lock(path: Path) -> Lock:
    """Takes the lock of a file, which is made where it is missing, or of a folder.

    A file system without locks refuses nobody: there is nothing to be done about it.

    Raises:
        LockHeld: If another process has it.
        OSError: If the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _wait_for(descriptor)
    except BlockingIOError as error:
        owner = _owner(descriptor)
        os.close(descriptor)
        raise LockHeld(path, owner) from error
    except OSError:  # no locks here
        pass
    except BaseException:  # Ctrl-C while it waits
        os.close(descriptor)
        raise
    return Lock(descriptor)


def is_locked(path: Path) -> bool:
    """Returns whether a process has the lock of a file or folder now; one that is not there has none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks here
        return False
    finally:
        os.close(descriptor)
    return False


def _wait_for(descriptor: int) -> None:
    """Locks an open file; waits for a process that is dying.

    Raises:
        BlockingIOError: If another process has it locked all the time.
        OSError: If the file system has no locks.
    """
    end = time.monotonic() + DYING_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        time.sleep(_INTERVAL_SECONDS)


def _owner(descriptor: int) -> str:
    """Returns which process has an open file locked; the system does not tell it of other machines and containers.

    Source: proc(5), /proc/locks: number, kind, mode, access, process, device and inode, first and last byte.
    """
    state = os.fstat(descriptor)
    identity = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}"
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/locks", encoding="utf-8") as file:
        for fields in map(str.split, file):
            if fields[1] == "FLOCK" and fields[5] == identity and int(fields[4]) > 0:
                return f"process {fields[4]}"
    return "a process of another machine or container"
