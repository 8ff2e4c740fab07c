"""Continuing a run: which checkpoint it goes on from, and what its folder holds."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from omnisource.checkpoints.file import (
    Checkpoint,
    DamagedCheckpoint,
    best_path,
    checkpoint_path,
    copy_checkpoint,
    in_memory,
    read_checkpoint,
    read_header,
    remove_unfinished,
    saved_checkpoints,
)
from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.files.atomic import atomic_write
from omnisource.recipe.plain import to_json
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.metrics_file import METRICS
from omnisource.training.resuming.run_lock import RunLock
from omnisource.training.state import TrainState

APPEARING_SECONDS = 60.0
"""Longest wait for a checkpoint that the first process sees: as long as NFS keeps what it has seen of a folder.
Source: nfs(5), acdirmax."""


def read_resumed(work_dir: Path, resume: str) -> tuple[Path | None, Checkpoint | None, list[str]]:
    """Reads the checkpoint that a run continues from; called by all processes together, each of which reads it once.

    Its tensors are copied into memory as soon as they are verified. Reading the lists, which comes before the model
    needs them, takes minutes; a file that is mapped all that time may change or vanish meanwhile, and end the process.

    The first process says which files there are, and which are damaged: these alone are passed over. A file that any
    process cannot read for another reason, or that another finds damaged, ends the run, and stays where it is.

    Args:
        work_dir: Folder of the run.
        resume: "" for a new run, "auto" for the newest intact checkpoint of `work_dir` if there is any, or a file.

    Returns:
        Where the checkpoint lies, None for a new run; what it holds; and what is wrong with newer ones.

    Raises:
        UserError: If a new run, or one that continues another folder's, is wanted where there is one already; if there
            are checkpoints and all of them are damaged; or if a process cannot read one that is not damaged.
    """
    candidates = processes.run_on_rank0(lambda: find_checkpoints(work_dir, resume))
    faults: list[str] = []
    for path in candidates:
        checkpoint, failure = None, None
        try:
            checkpoint = _read_seen_by_first(path)
        except UserError as error:
            failure = error
        damage = processes.broadcast(str(failure) if isinstance(failure, DamagedCheckpoint) else "")
        if damage:
            faults.append(damage)
            continue
        processes.raise_on_all_ranks(_whole_for_first(path, failure))
        return path, checkpoint, [f"{fault}; falling back to {path.name}" for fault in faults]
    if not faults:
        return None, None, []
    if resume == "auto":
        faults.append(
            f"No checkpoint of {candidates[0].parent} is whole. Give a whole one with --resume PATH, or start again in "
            "another --work-dir."
        )
    # One message is enough: the other processes leave without a word.
    processes.raise_on_all_ranks(UserError("\n".join(faults)) if processes.rank() == 0 else None)
    raise AssertionError("raised above, on every process")


def _read_seen_by_first(path: Path) -> Checkpoint:
    """Returns a checkpoint that the first process sees, in memory; another machine may see the file a while later."""
    until = time.monotonic() + APPEARING_SECONDS
    while processes.rank() > 0 and not _is_listed(path) and time.monotonic() < until:
        time.sleep(min(0.5, APPEARING_SECONDS))
    return in_memory(read_checkpoint(path))


def _is_listed(path: Path) -> bool:
    try:
        return path.name in os.listdir(path.parent)  # asks a server again, as looking for one file does not
    except OSError:
        return False


def _whole_for_first(path: Path, failure: UserError | None) -> UserError | None:
    """Returns what a process failed with, which is none of the file's fault: the first process finds it whole."""
    if not isinstance(failure, DamagedCheckpoint):
        return failure
    return UserError(
        f"{path}: process {processes.rank()} finds it damaged, and the first process does not, so the disk or the "
        "memory of this machine is at fault. Nothing was changed: continue with --resume auto on another machine"
    )


def find_checkpoints(work_dir: Path, resume: str) -> list[Path]:
    """Returns the checkpoints that a run may continue from, the newest first; none for a new run.

    Args:
        work_dir: Folder of the run.
        resume: As for `read_resumed`.

    Raises:
        UserError: If a new run, or one that continues another folder's, is wanted where there is one already; or if
            there is no such file.
    """
    saved = saved_checkpoints(work_dir)
    if resume == "auto":
        return saved[::-1]
    holds_run = bool(saved) or (work_dir / METRICS).exists()
    if not resume:
        if holds_run:
            raise UserError(
                f"{work_dir} already holds a run. Continue it with --resume auto, or choose another --work-dir."
            )
        return []
    checkpoint = Path(resume)
    if holds_run and checkpoint.resolve().parent != best_path(work_dir).resolve().parent:
        raise UserError(
            f"{work_dir} already holds a run, and {checkpoint} is none of its checkpoints. Continue it with --resume "
            "auto, or choose another --work-dir."
        )
    if not os.path.isfile(checkpoint):
        raise UserError(f"{checkpoint}: no such checkpoint")
    return [checkpoint]


def prepare_work_dir(work_dir: Path, recipe: Recipe, lock: RunLock) -> None:
    """Makes the work dir, takes it, and writes recipe.json into it; removes what a killed process left half written.

    Raises:
        UserError: If the work dir cannot be written to, or another run has come there meanwhile.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        if lock.take():
            find_checkpoints(work_dir, "")  # the folder was not there when it was looked into: it may hold a run now
        with atomic_write(work_dir / "recipe.json") as file:  # `runs` and `watch` may read it at any moment
            file.write((to_json(recipe) + "\n").encode())
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

    Raises:
        UserError: If a file that may be it is not damaged, and cannot be read.
    """
    for path in saved_checkpoints(work_dir):
        if path > checkpoint_path(work_dir, state.step):
            path.rename(path.with_suffix(".pt.discarded"))
    best = best_path(work_dir)
    if _is_best(best, state, origin):
        return True
    if best.exists():
        best.rename(best.with_suffix(".pt.discarded"))
    if state.best_step is None or origin is None:
        return False
    name = checkpoint_path(work_dir, state.best_step).name
    for candidate in (best.with_name(name), origin.with_name(best.name), origin.with_name(name)):
        if _is_best(candidate, state, origin):
            copy_checkpoint(candidate, best)
            return True
    return False


def _is_best(path: Path, state: TrainState, origin: Path | None) -> bool:
    """Returns whether a file is an intact checkpoint of the best step; `origin` has been verified already.

    Raises:
        UserError: If it is there, not damaged, and cannot be read.
    """
    if state.best_step is None or not path.is_file():
        return False
    if origin is not None and origin.exists() and path.samefile(origin):
        return state.step == state.best_step
    with contextlib.suppress(DamagedCheckpoint):  # whether it is damaged, the whole file says better
        if read_header(path).step != state.best_step:
            return False
    try:
        return read_checkpoint(path).state["step"] == state.best_step
    except DamagedCheckpoint:
        return False


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
