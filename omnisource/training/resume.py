"""Stopping and continuing a run: the signals that end it, which checkpoint it goes on from, what its folder holds."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from omnisource.checkpoints.file import (
    best_path,
    checkpoint_path,
    copy_checkpoint,
    read_checkpoint,
    remove_unfinished,
    saved_checkpoints,
)
from omnisource.errors import UserError
from omnisource.recipe import config
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.metrics_file import METRICS
from omnisource.training.run_lock import RunLock
from omnisource.training.state import TrainState


class Interrupted(Exception):
    """A run that was asked to stop, and saved before it did.

    Attributes:
        signal_number: The signal that asked.
        checkpoint: Where the run was saved.
    """

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        super().__init__(signal_number, checkpoint)
        self.signal_number = signal_number
        self.checkpoint = checkpoint


class StopAsked(Exception):
    """A signal came during a validation, which is given up."""


def find_checkpoint(work_dir: Path, resume: str) -> tuple[Path | None, list[str]]:
    """Returns the checkpoint that a run continues from, None for a new run; and what is wrong with newer ones.

    Args:
        work_dir: Folder of the run.
        resume: "" for a new run, "auto" for the newest whole checkpoint of `work_dir` if there is any, or a file.

    Raises:
        UserError: If a new run, or one that continues another folder's, is wanted where there is one already; or if
            there are checkpoints and all of them are damaged.
    """
    saved = saved_checkpoints(work_dir)
    if resume == "auto":
        return _newest_whole(saved)
    holds_run = bool(saved) or (work_dir / METRICS).exists()
    if not resume:
        if holds_run:
            raise UserError(
                f"{work_dir} already holds a run. Continue it with --resume auto, or choose another --work-dir."
            )
        return None, []
    checkpoint = Path(resume)
    if holds_run and checkpoint.resolve().parent != best_path(work_dir).resolve().parent:
        raise UserError(
            f"{work_dir} already holds a run, and {checkpoint} is none of its checkpoints. Continue it with --resume "
            "auto, or choose another --work-dir."
        )
    return checkpoint, []


def _newest_whole(saved: list[Path]) -> tuple[Path | None, list[str]]:
    faults: list[str] = []
    for path in reversed(saved):
        try:
            read_checkpoint(path)
        except UserError as error:
            faults.append(str(error))
            continue
        return path, [f"{fault}; falling back to {path.name}" for fault in faults]
    if faults:
        raise UserError(
            "\n".join(faults)
            + f"\nNo checkpoint of {saved[-1].parent} is whole. Give a whole one with --resume PATH, or start again in "
            "another --work-dir."
        )
    return None, []


def prepare_work_dir(work_dir: Path, recipe: Recipe, lock: RunLock) -> None:
    """Makes the work dir, takes it, and writes recipe.json into it; removes what a killed process left half written.

    Raises:
        UserError: If the work dir cannot be written to, or another run has come there meanwhile.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        if lock.take():
            find_checkpoint(work_dir, "")  # the folder was not there when it was looked into: it may hold a run now
        (work_dir / "recipe.json").write_text(config.to_json(recipe) + "\n", encoding="utf-8")
        remove_unfinished(work_dir)
    except OSError as error:
        raise UserError(
            f"--work-dir {work_dir}: cannot be written to: {error.strerror or error}. Make space or allow it, or "
            "choose another --work-dir; a run that is there goes on with --resume auto."
        ) from error


def discard_later_checkpoints(work_dir: Path, origin: Path | None, state: TrainState) -> bool:
    """Renames the checkpoints of steps that a resumed run does again, and makes best.pt the best one up to here.

    Args:
        work_dir: Folder of the run.
        origin: Checkpoint that the run continues from, perhaps in another work dir.
        state: What it holds.

    Returns:
        Whether best.pt is the checkpoint of `state.best_step`.
    """
    for path in saved_checkpoints(work_dir):
        if path > checkpoint_path(work_dir, state.step):
            path.rename(path.with_suffix(".pt.discarded"))
    best = best_path(work_dir)
    if best.exists() and (state.best_step is None or _step_of(best) != state.best_step):
        best.rename(best.with_suffix(".pt.discarded"))
    if state.best_step is None or origin is None:
        return False
    name = checkpoint_path(work_dir, state.best_step).name
    for candidate in (best, best.with_name(name), origin.with_name(best.name), origin.with_name(name)):
        if _step_of(candidate) == state.best_step:
            if candidate != best:
                copy_checkpoint(candidate, best)
            return True
    return False


def _step_of(path: Path) -> int | None:
    """Returns the step of a checkpoint; None for one that is missing or damaged."""
    try:
        return read_checkpoint(path).state["step"]
    except UserError:
        return None


@contextlib.contextmanager
def explain_disk_errors(work_dir: Path) -> Iterator[None]:
    """Turns the errors of a full disk that libraries raise, such as the one that writes curves, into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        if isinstance(error.__context__, UserError):  # what failed first says it better
            raise error.__context__ from error
        raise UserError(
            f"{work_dir}: cannot be written to: {error.strerror}. Checkpoints that are there are whole; make space, "
            "then continue with --resume auto."
        ) from error
