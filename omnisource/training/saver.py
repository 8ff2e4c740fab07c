"""When a run is saved, and how: agreed on by all processes, written by the first beside the training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omnisource.checkpoints.disk import tensor_bytes, warn_if_disk_is_nearly_full
from omnisource.checkpoints.file import Checkpoint, checkpoint_path
from omnisource.checkpoints.writer import CheckpointWriter
from omnisource.data.loading.unreadable import Replacement, UnreadableLog
from omnisource.distributed import processes
from omnisource.errors import UserError, shortened
from omnisource.recipe import config
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.null_report import NullReport
from omnisource.reporting.report import Report
from omnisource.training.plan import Plan
from omnisource.training.resume import StopAsked
from omnisource.training.state import TrainState


class Saver:
    """Saves a run.

    Args:
        recipe: The run.
        plan: Its plan.
        class_names: Class names by label space.
        facts: What checkpoints remember of how the run was made.
        state: What is saved.
        work_dir: Where.
        unreadable: The files that could not be read.
        report: Is told of replaced samples.
    """

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        class_names: Mapping[str, tuple[str, ...]],
        facts: dict[str, Any],
        state: TrainState,
        work_dir: Path,
        unreadable: UnreadableLog,
        report: Report | NullReport,
    ) -> None:
        self.recipe = recipe
        self.plan = plan
        self.class_names = class_names
        self.facts = facts
        self.state = state
        self.work_dir = work_dir
        self.unreadable = unreadable
        self.report = report
        self._writer = CheckpointWriter(processes.saving)
        self._saved_at = time.monotonic()

    def agree(self) -> None:
        """Gives all processes the same unreadable files, and reports these.

        Raises:
            UserError: If they are more than the recipe permits; the run is saved.
        """
        with self.saved_if_failing():
            self.report.replacements(agree(self.unreadable, self.state.step))

    def is_due(self) -> bool:
        """Returns whether the recipe wants a checkpoint after the steps done so far."""
        step, wanted = self.state.step, self.recipe.checkpoints
        is_due_by_steps = wanted.interval_steps > 0 and step % wanted.interval_steps == 0
        return is_due_by_steps or self.plan.ends_epoch(step, wanted.interval_epochs)

    def is_due_by_clock(self) -> bool:
        """Returns whether the last checkpoint is older than the recipe wants."""
        minutes = self.recipe.checkpoints.interval_minutes
        return minutes > 0 and time.monotonic() - self._saved_at >= 60 * minutes

    def save(self, *, is_best: bool = False) -> Path:
        """Begins to write a checkpoint, and returns where it will lie; called by all processes together.

        Raises:
            UserError: If this checkpoint or the one before it cannot be written, or more files are unreadable than
                the recipe permits.
        """
        self.agree()
        with self.saved_if_failing():
            return self._write(is_best)

    def save_alone(self) -> None:
        """Writes a checkpoint, unless there is one of this step, without asking the other processes; then waits.

        For a run that fails: the others may be gone. Only the first process writes.

        Raises:
            UserError: If it cannot be written.
        """
        self._writer.wait()
        if processes.rank() == 0 and not checkpoint_path(self.work_dir, self.state.step).exists():
            self.report.replacements(self.unreadable.commit(self.unreadable.pending, self.state.step))
            self._write(is_best=False)
            self._writer.wait()

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

    def _write(self, is_best: bool) -> Path:
        path = checkpoint_path(self.work_dir, self.state.step)
        self._saved_at = time.monotonic()
        if processes.rank() == 0:
            names = {space: list(of_space) for space, of_space in self.class_names.items()}
            content = Checkpoint(config.to_plain(self.recipe), names, self.facts, self.state.state_dict())
            if warning := warn_if_disk_is_nearly_full(self.work_dir, tensor_bytes(content.state)):
                self.report.message(warning)
            self._writer.write(content, path, self.recipe.checkpoints.keep_last, is_best=is_best)
        return path

    @contextlib.contextmanager
    def saved_if_failing(self) -> Iterator[None]:
        """Saves the run as it is after its last whole step if the block fails, so that no work is lost.

        Not if a step failed in the middle of its changes: then that state is gone.

        Raises:
            UserError: That of the block; with what was saved if this is the only process, for which the report has it
                otherwise. Others pass as they are.
        """
        step, known = self.state.step, dict(self.unreadable.reasons)
        try:
            yield
        except StopAsked:
            raise
        except (Exception, SystemExit) as error:  # SystemExit: another process has failed, and says why
            if self.state.step == step:  # what a step met that was never done is met again
                self.unreadable.reasons.clear()
                self.unreadable.reasons.update(known)
            if self.state.step == 0 or processes.rank() != 0:
                raise
            if not self.state.is_between_steps:
                self.report.message(
                    f"Step {self.state.step + 1} failed while it changed the weights, so they are not saved. Continue "
                    "from the last checkpoint with --resume auto."
                )
                raise
            try:
                self.save_alone()
                saved = (
                    f"The run is saved: {checkpoint_path(self.work_dir, self.state.step)}. Continue it with --resume "
                    "auto."
                )
            except UserError as not_saved:
                kept = "Checkpoints that are there are whole: --resume auto continues from the newest."
                saved = f"{not_saved}\n{kept}"
            # Of several processes another's error may be the one that is shown.
            if isinstance(error, UserError) and processes.world_size() == 1:
                raise UserError(f"{error}\n{saved}") from error
            self.report.message(saved)
            raise


def agree(unreadable: UnreadableLog, step: int) -> list[Replacement]:
    """Gives all processes the unreadable files that any has met.

    Returns:
        The replacements that all processes have made in the first `step` steps and not told of before.

    Raises:
        UserError: If these are, together, more than the recipe permits. The first process then has the replacements of
            all, to save with the steps that are done.
    """
    parts = processes.gather((unreadable.reasons, unreadable.pending))
    known = [reasons for reasons, _ in parts]
    for reasons in known:
        for path, reason in reasons.items():
            unreadable.reasons.setdefault(path, reason)
    untold = [one for _, of_process in parts for one in of_process]
    count, error = len(unreadable.reasons), None
    is_first = processes.rank() == 0
    is_too_many = count > max(unreadable.permitted, *map(len, known))
    if is_too_many:
        unreadable.pending[:] = untold if is_first else []
    if is_too_many and is_first:
        files = [f"{path}: {reason}" for path, reason in unreadable.reasons.items()]
        error = UserError(
            f"{shortened(files)}\n{count} unreadable in all processes, {unreadable.permitted} permitted. Fix or "
            "remove the files (omnisource check CONFIG finds them all), or permit more with max_unreadable=N or "
            "max_unreadable_share=S."
        )
    processes.raise_on_all_ranks(error)
    return unreadable.commit(untold, step)
