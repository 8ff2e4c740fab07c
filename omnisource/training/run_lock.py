"""A work dir belongs to one run at a time: two that wrote the same metrics and checkpoints would lose each other's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from omnisource.errors import UserError
from omnisource.reporting.status_file import is_alive, read_status

LOCK = "run.lock"

DYING_SECONDS = 5.0
"""Time given to a run that was killed a moment ago: the system frees its lock only when the process is gone."""

_INTERVAL_SECONDS = 0.05  # from one try to the next


class RunLock:
    """Keeps a work dir for this process until the context is left or the process ends, however it ends.

    What is locked is an empty file of the work dir, `LOCK`. The system gives it free at the death of the process, so a
    killed run never stands in the way of the one that continues it. The processes that a run starts do not inherit it:
    Python opens files so.

    Args:
        work_dir: Folder of the run; need not be there yet.
    """

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Takes the folder if it is there; returns whether it is this call that did.

        A folder that cannot be written to, and a file system without locks, are let be: what writes there first says
        what is wrong with the folder.

        Raises:
            UserError: If another run has it, and has it still after `DYING_SECONDS`.
        """
        if self._descriptor is not None:
            return False
        try:
            descriptor = os.open(self._work_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return False
        self._descriptor = descriptor
        try:
            _lock(descriptor)
        except BlockingIOError as error:
            self._give_back()
            raise UserError(
                f"{self._work_dir}: another run is at work in this folder ({_holder(self._work_dir)}). Wait for its "
                "end or stop that process, then continue with --resume auto; or choose another --work-dir. `omnisource "
                "watch` shows how far it is."
            ) from error
        except OSError:  # no locks here; there is nothing to be done about it
            pass
        return True

    def _give_back(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_back()


def _lock(descriptor: int) -> None:
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


def _holder(work_dir: Path) -> str:
    """Returns which process has a work dir, as far as its run.json tells: one that has just begun wrote none yet."""
    with contextlib.suppress(UserError):  # a damaged run.json tells nothing
        status = read_status(work_dir)
        if status is not None and status.state == "running" and is_alive(status):
            return f"process {status.process_id} on {status.host}"
    return "a process that has only started"
