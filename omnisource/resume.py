"""Stopping and continuing a run: signals, saving in time, which checkpoint, whether it is of the same run."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import platform
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from omnisource import config, distributed
from omnisource.data.annotations import Items
from omnisource.data.unreadable import Replacement, UnreadableLog
from omnisource.data.video_container import decoder_versions
from omnisource.errors import UserError, shortened
from omnisource.plan import Plan
from omnisource.recipe import Recipe
from omnisource.training.checkpoint import (
    Checkpoint,
    best_path,
    checkpoint_path,
    copy_checkpoint,
    read_checkpoint,
    remove_unfinished,
    saved_checkpoints,
)
from omnisource.training.metrics_file import METRICS
from omnisource.training.run_lock import RunLock
from omnisource.training.state import TrainState

RESAMPLING = "training: antialiased bilinear, crop before resize; evaluation: bilinear without antialiasing"
"""How frames are resized; another way makes other pixels of the same files, so checkpoints remember it."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that end a run after the step that is under way, saved. SLURM warns with the last, when told to."""

MAY_DIFFER = (
    "accumulation",  # what counts is its product with the number of processes, which is compared by itself
    "num_workers",
    "item_timeout_seconds",
    "item_processor_seconds",
    "log_interval_steps",
    "views_at_a_time",
    "max_unreadable",
    "max_skipped_steps",
    "checkpoints.",
    "validation.",
    "model.weights",
)
"""Keys, or beginnings of keys, that a resumed run may change: they do not touch what is trained."""

EVALUATION_KEYS = re.compile(r"sources\.[^.]+\.(validation|test|validation_views|test_views)\b")
"""Keys that say what is validated and tested, and how; a resumed run may change them too."""

PATH_KEYS = (".root", ".folder", ".list", ".urls", ".classes")
"""Ends of keys that say where data lies; a resumed run may change them as long as the lists are the same."""


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
            + f"\nNo checkpoint of {saved[-1].parent} is whole. Give a whole one with --resume PATH, or start anew in "
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


def set_aside_later_files(work_dir: Path, origin: Path | None, state: TrainState) -> bool:
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


def run_facts(numbers: Plan, items: Mapping[str, Items]) -> dict[str, Any]:
    """Returns what a checkpoint remembers of how its run was made."""
    versions = {name: importlib.metadata.version(name) for name in ("omnisource", "torch", "av", "pillow", "numpy")}
    return {
        "versions": versions,
        "threads": torch.get_num_threads(),
        "processor": processor_name(),
        "decoder": decoder_versions(),
        "resampling": RESAMPLING,
        "microbatches": numbers.microbatches,
        "digests": {name: of_source.digest() for name, of_source in items.items()},
    }


def processor_name() -> str:
    """Returns the kind of the GPU or, without one, of the processor: sums come out differently on others."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def with_same_microbatches(
    recipe: Recipe, checkpoint: Checkpoint, path: Path, num_processes: int
) -> tuple[Recipe, list[str]]:
    """Returns the recipe with the accumulation that keeps the microbatches a step of an interrupted run.

    What it changed is said in a line.

    Raises:
        UserError: If the number of processes does not divide them.
    """
    microbatches = checkpoint.facts["microbatches"]
    accumulation, rest = divmod(microbatches, num_processes)
    if rest or not accumulation:
        counts = [str(count) for count in range(1, microbatches + 1) if microbatches % count == 0]
        raise UserError(
            f"{path}: the run has {microbatches} microbatches a step (processes x accumulation), which {num_processes} "
            f"processes cannot share out evenly. Start it with {' or '.join(counts)} processes."
        )
    if accumulation == recipe.accumulation:
        return recipe, []
    kept = f"the run goes on with {microbatches} microbatches a step"
    note = f"accumulation={accumulation}, not {recipe.accumulation}: {kept}"
    return replace(recipe, accumulation=accumulation), [note]


def check_same_run(checkpoint: Checkpoint, path: Path, recipe: Recipe, facts: Mapping[str, Any]) -> None:
    """Checks that a checkpoint is of the run that the recipe describes.

    Raises:
        UserError: Listing what differs.
    """
    differing = [
        f"  {key}: {theirs!r} in the checkpoint, {ours!r} now"
        for key, ours, theirs in config.differences(config.to_plain(recipe), checkpoint.recipe)
        if not key.startswith(MAY_DIFFER) and not key.endswith(PATH_KEYS) and not EVALUATION_KEYS.match(key)
    ]
    for name, digest in facts["digests"].items():
        theirs = checkpoint.facts["digests"].get(name)
        if theirs is not None and theirs != digest:
            differing.append(f"  the training list of source {name} has other items, labels or another order")
    if differing:
        raise UserError(
            f"{path} is of another run:\n{shortened(differing)}\nGive the recipe of the checkpoint, or start a new run "
            "from its weights with model.weights=FILE."
        )


def resume_notes(checkpoint: Checkpoint | None) -> list[str]:
    """Returns what a user should know about continuing here: versions, threads, processes that are others now."""
    if checkpoint is None:
        return []
    now = {name: importlib.metadata.version(name) for name in checkpoint.facts["versions"]}
    changed = [f"{name} {old} -> {now[name]}" for name, old in checkpoint.facts["versions"].items() if old != now[name]]
    if checkpoint.facts["resampling"] != RESAMPLING:
        changed.append(f"resampling {checkpoint.facts['resampling']!r} -> {RESAMPLING!r}")
    here = {"threads": torch.get_num_threads(), "processor": processor_name(), "decoder": decoder_versions()}
    for name, now_here in here.items():
        before = checkpoint.facts.get(name, now_here)  # version 0.1.0 noted the threads alone
        if before != now_here:
            changed.append(f"{name} {before} -> {now_here}")
    before, processes = checkpoint.facts["microbatches"] // checkpoint.recipe["accumulation"], distributed.world_size()
    if before != processes:
        changed.append(f"processes {before} -> {processes}")
    notes = [f"bit-for-bit equality with the interrupted run is not promised: {', '.join(changed)}"] if changed else []
    if before != processes and checkpoint.recipe.get("sync_batch_norm"):
        notes.append(
            f"sync_batch_norm=True: BatchNorm's batches were those of {before} processes together and are now those of "
            f"{processes}, so the run goes on as another one; start {before} processes to continue the same"
        )
    return notes


@contextlib.contextmanager
def full_disk_named(work_dir: Path) -> Iterator[None]:
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


def agree(unreadable: UnreadableLog, step: int) -> list[Replacement]:
    """Gives all processes the unreadable files that any has met.

    Returns:
        The replacements that all processes have made in the first `step` steps and not told of before.

    Raises:
        UserError: If these are, together, more than the recipe permits. The first process then has the replacements of
            all, to save with the steps that are done.
    """
    parts = distributed.gather((unreadable.reasons, unreadable.untold))
    known = [reasons for reasons, _ in parts]
    for reasons in known:
        for path, reason in reasons.items():
            unreadable.reasons.setdefault(path, reason)
    untold = [one for _, of_process in parts for one in of_process]
    count, error = len(unreadable.reasons), None
    is_first = distributed.rank() == 0
    is_too_many = count > max(unreadable.permitted, *map(len, known))
    if is_too_many:
        unreadable.untold[:] = untold if is_first else []
    if is_too_many and is_first:
        files = [f"{path}: {reason}" for path, reason in unreadable.reasons.items()]
        error = UserError(
            f"{shortened(files)}\n{count} unreadable in all processes, {unreadable.permitted} permitted. Mend or "
            "remove the files (omnisource check CONFIG finds them all), or permit more with max_unreadable=N or "
            "max_unreadable_share=S."
        )
    distributed.fail_together(error)
    return unreadable.settle(untold, step)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yields a list to which SIGINT and SIGTERM are appended instead of ending the process at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1 and number == signal.SIGINT:  # a second Ctrl-C means it
            raise KeyboardInterrupt

    previous = {}
    with contextlib.suppress(ValueError):  # not the main thread: the caller handles signals
        for number in STOP_SIGNALS:
            previous[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
