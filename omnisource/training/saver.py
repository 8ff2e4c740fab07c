"""How a run is saved: by the first process, beside the training; when that is due; and what is saved if it fails."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from omnisource.checkpoints.disk import tensor_bytes, warn_if_disk_is_nearly_full
from omnisource.checkpoints.file import Checkpoint, checkpoint_path
from omnisource.checkpoints.writer import CheckpointWriter
from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.recipe.plain import to_plain
from omnisource.training.run_context import RunContext
from omnisource.training.state import TrainState


class Saver:
    """Writes the checkpoints of a run.

    Args:
        run: The run.
        state: What is saved.
    """

    def __init__(self, run: RunContext, state: TrainState) -> None:
        self._run = run
        self._state = state
        self._writer = CheckpointWriter(processes.saving)
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Returns whether the recipe wants a checkpoint after the steps done so far."""
        step, wanted = self._state.step, self._run.recipe.checkpoints
        is_due_by_steps = wanted.interval_steps > 0 and step % wanted.interval_steps == 0
        return is_due_by_steps or self._run.plan.ends_epoch(step, wanted.interval_epochs)

    def is_due_by_clock(self) -> bool:
        """Returns whether the last checkpoint is older than the recipe wants."""
        minutes = self._run.recipe.checkpoints.interval_minutes
        return minutes > 0 and time.monotonic() - self._saved_at >= 60 * minutes

    def write(self, *, is_best: bool = False) -> Path:
        """Begins to write a checkpoint, on the first process, and returns where it will lie.

        Raises:
            UserError: If the checkpoint before it could not be written.
        """
        run, state = self._run, self._state
        path = checkpoint_path(run.work_dir, state.step)
        self._saved_at = time.monotonic()
        if processes.rank() == 0:
            names = {space: list(of_space) for space, of_space in run.class_names.items()}
            content = Checkpoint(to_plain(run.recipe), names, run.facts, state.state_dict())
            if warning := warn_if_disk_is_nearly_full(run.work_dir, tensor_bytes(content.state)):
                run.report.message(warning)
            self._writer.write(content, path, run.recipe.checkpoints.keep_last, is_best=is_best)
        return path

    def wait(self) -> None:
        """Waits until the last checkpoint is on the disk.

        Raises:
            UserError: If it could not be written.
        """
        self._writer.wait()

    def raise_failure(self) -> None:
        """Raises what a checkpoint failed with that was being written meanwhile.

        Raises:
            UserError: If it could not be written.
        """
        self._writer.raise_failure()

    @contextlib.contextmanager
    def saved_if_failing(self) -> Iterator[None]:
        """Saves the run as it is after its last whole step if the block fails, so that no work is lost.

        Not if a step failed in the middle of its changes: then that state is gone.

        Raises:
            UserError: That of the block; with what was saved if this is the only process, for which the report has it
                otherwise. Others pass as they are.
        """
        run, state = self._run, self._state
        step, known = state.step, dict(run.unreadable.reasons)
        try:
            yield
        except (Exception, SystemExit) as error:  # SystemExit: another process has failed, and says why
            if state.step == step:  # what a step met that was never done is met again
                run.unreadable.reasons.clear()
                run.unreadable.reasons.update(known)
            if state.step == 0 or processes.rank() != 0:
                raise
            if not state.is_between_steps:
                run.report.message(
                    f"Step {state.step + 1} failed while it changed the weights, so they are not saved. Continue from "
                    "the last checkpoint with --resume auto."
                )
                raise
            try:
                saved = f"The run is saved: {self._write_alone()}. Continue it with --resume auto."
            except UserError as not_saved:
                kept = "Checkpoints that are there are whole: --resume auto continues from the newest."
                saved = f"{not_saved}\n{kept}"
            # Of several processes another's error may be the one that is shown.
            if isinstance(error, UserError) and processes.world_size() == 1:
                raise UserError(f"{error}\n{saved}") from error
            run.report.message(saved)
            raise

    def _write_alone(self) -> Path:
        """Writes a checkpoint, unless there is one of this step, without asking the other processes; then waits.

        They may be gone. What of them was not committed is lost: what this process has replaced is counted.

        Raises:
            UserError: If it cannot be written.
        """
        self._writer.wait()
        path = checkpoint_path(self._run.work_dir, self._state.step)
        if not path.exists():
            unreadable = self._run.unreadable
            self._run.report.replacements(unreadable.commit(unreadable.pending, self._state.step))
            self.write()
            self._writer.wait()
        return path
