"""Checkpoints: plain tensors and values, written atomically, verified by their seal, read without running anything."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from omnisource.errors import UserError
from omnisource.files.atomic import UNFINISHED, atomic_write
from omnisource.files.seal import is_sealed, is_whole, seal

FORMAT = "omnisource-checkpoint"
FORMAT_VERSION = 2  # 1 bore no digest
FOLDER = "checkpoints"
_STEP_FILE = re.compile(r"step_(\d+)\.pt")
_UNFINISHED_FILE = re.compile(rf"\.?(step_\d+|best)\.pt\.[0-9a-f]+{re.escape(UNFINISHED)}")


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        recipe: The whole recipe as plain data (`config.to_plain`).
        class_names: Class names by label space.
        facts: What the run was made with: versions, decoder, resampling, microbatches a step, digests of the lists.
        state: `TrainState.state_dict()`.
    """

    recipe: dict[str, Any]
    class_names: dict[str, list[str]]
    facts: dict[str, Any]
    state: dict[str, Any]


def checkpoint_path(work_dir: Path, step: int) -> Path:
    """Returns where the checkpoint after `step` steps lies."""
    return work_dir / FOLDER / f"step_{step:09d}.pt"


def best_path(work_dir: Path) -> Path:
    """Returns where the checkpoint of the best validation lies."""
    return work_dir / FOLDER / "best.pt"


def saved_checkpoints(work_dir: Path) -> list[Path]:
    """Returns the step checkpoints of a run, oldest first."""
    folder = work_dir / FOLDER
    found = [(int(match[1]), path) for path in folder.glob("step_*.pt") if (match := _STEP_FILE.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def save_checkpoint(checkpoint: Checkpoint, path: Path, keep_last: int) -> None:
    """Writes a checkpoint so that at every moment either the old files or the new one are whole.

    The file is written beside its place, synced to the disk and renamed; only then are step checkpoints beyond the
    newest `keep_last` removed.

    Raises:
        UserError: If it cannot be written (no space, no permission); earlier checkpoints are untouched.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "recipe": checkpoint.recipe,
        "class_names": checkpoint.class_names,
        "facts": checkpoint.facts,
        "model": checkpoint.state["model"],
        "state": {name: value for name, value in checkpoint.state.items() if name != "model"},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    seal(buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(buffer.getbuffer())
    except OSError as error:
        raise _cannot_write(path, error) from error
    for old in saved_checkpoints(path.parent.parent)[:-keep_last]:
        old.unlink()


def copy_checkpoint(source: Path, target: Path) -> None:
    """Puts a copy of a saved checkpoint at `target`, atomically; shares the data on disk where that is possible."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _cannot_write(target, error) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Returns the content of one of our checkpoints, verified; files of omnisource 0.1 bear no digest to verify.

    Raises:
        UserError: If there is no such file, or it is truncated, damaged, or of another format.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    damaged = UserError(f"{path}: damaged: its content is not what was written. Continue from an earlier checkpoint")
    if is_sealed(data) and not is_whole(data):
        raise damaged
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can fail in any way
        raise UserError(f"{path}: {_reason(error)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(
            f"{path}: not a checkpoint of a run of omnisource. Start a new run from its weights: model.weights={path}"
        )
    if content["format_version"] > FORMAT_VERSION:
        raise UserError(f"{path}: written by a newer omnisource (format {content['format_version']}); update yours")
    if content["format_version"] > 1 and not is_sealed(data):
        raise damaged
    state = {"model": content["model"], **content["state"]}
    return Checkpoint(content["recipe"], content["class_names"], content["facts"], state)


def remove_unfinished(work_dir: Path) -> None:
    """Removes the files that a process left which was killed while it saved."""
    for path in (work_dir / FOLDER).glob(f"*{UNFINISHED}"):
        if _UNFINISHED_FILE.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """Returns why a file cannot be read, without torch's advice to trust the file."""
    named = re.search(r"GLOBAL (\S+) ", str(error))
    if named:
        return f"refused, and nothing of it was run: it names {named[1]}, which no checkpoint of ours does"
    inner = re.search(r"WeightsUnpickler error: *(.+)", str(error))
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"not a whole checkpoint of ours, or truncated: {inner[1] if inner else lines[0]}"


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: the checkpoint cannot be written: {error.strerror or error}. Earlier checkpoints are untouched; "
        "make space, then continue with --resume auto."
    )
