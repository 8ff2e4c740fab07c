"""A work dir belongs to one run at a time: two that wrote the same metrics and checkpoints would lose each other's."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType

from omnisource.errors import UserError
from omnisource.files.lock import Lock, LockHeld, take_lock
from omnisource.reporting.status_file import is_alive, read_status

LOCK = "run.lock"


class RunLock:
    """Keeps a work dir for this process until the context is left or the process ends, however it ends.

    What is locked is an empty file of the work dir, `LOCK`; so a killed run never stands in the way of the one that
    continues it.

    Args:
        work_dir: Folder of the run; need not be there yet.
    """

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self._lock: Lock | None = None

    def take(self) -> bool:
        """Takes the folder if it is there; returns whether it is this call that did.

        A folder that cannot be written to is let be: what writes there first says what is wrong with it.

        Raises:
            UserError: If another run has it, and has it still after the time that is given to a dying one.
        """
        if self._lock is not None:
            return False
        try:
            self._lock = take_lock(self._work_dir / LOCK)
        except LockHeld as error:
            raise UserError(
                f"{self._work_dir}: another run is at work in this folder ({_holder(self._work_dir)}). Wait for its "
                "end or stop that process, then continue with --resume auto; or choose another --work-dir. `omnisource "
                "watch` shows how far it is."
            ) from error
        except OSError:
            return False
        return True

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _holder(work_dir: Path) -> str:
    """Returns which process has a work dir, as far as its run.json tells: one that has just begun wrote none yet."""
    with contextlib.suppress(UserError):  # a damaged run.json tells nothing
        status = read_status(work_dir)
        if status is not None and status.state == "running" and is_alive(status):
            return f"process {status.process_id} on {status.host}"
    return "a process that has only started"
