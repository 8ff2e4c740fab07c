"""Writing checkpoints beside the training: the training thread waits for a copy of the tensors, not for the disk."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from omnisource.checkpoints.file import Checkpoint, best_path, copy_checkpoint, in_memory, save_checkpoint


class CheckpointWriter:
    """Writes one checkpoint at a time, in the order in which they come, in a thread of its own.

    Args:
        saving: Makes the context in which a checkpoint is copied and written, so that the process is not ended then.
    """

    def __init__(self, saving: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext) -> None:
        self._saving = saving
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def write(self, checkpoint: Checkpoint, path: Path, keep_last: int, *, is_best: bool = False) -> None:
        """Copies the state and begins to write it; first waits for the checkpoint before it.

        Args:
            checkpoint: What is written; may change as soon as this returns.
            path: Where.
            keep_last: Newest step checkpoints that are kept.
            is_best: Whether a copy becomes best.pt.

        Raises:
            UserError: If the checkpoint before this one could not be written.
        """
        self.wait()
        with contextlib.ExitStack() as saving:
            saving.enter_context(self._saving())
            copied = in_memory(checkpoint)
            # Not a daemon: when the interpreter leaves, it waits for the thread, and so for the file to be whole.
            arguments = (copied, path, keep_last, is_best, saving.pop_all())  # the thread leaves the context
            thread = threading.Thread(target=self._write, args=arguments, name="omnisource-checkpoint")
            try:
                thread.start()
            except RuntimeError:  # the system lets this user have no more threads: slower, but nothing is lost
                self._write(*arguments)
            else:
                self._thread = thread

    def wait(self) -> None:
        """Waits until the last checkpoint is on the disk.

        Raises:
            UserError: If it could not be written; reported once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def raise_failure(self) -> None:
        """Raises what a checkpoint failed with that was being written meanwhile; does not wait for one.

        Raises:
            UserError: If it could not be written; reported once.
        """
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def _write(
        self, checkpoint: Checkpoint, path: Path, keep_last: int, is_best: bool, saving: contextlib.ExitStack
    ) -> None:
        try:
            with saving:
                save_checkpoint(checkpoint, path, keep_last)
                if is_best:
                    copy_checkpoint(path, best_path(path.parent.parent))
        except BaseException as error:  # re-raised where somebody waits
            self._error = error
