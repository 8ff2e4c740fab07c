"""Checkpoints: tensors and plain values, written atomically, verified by checksums, read without running anything.

Tensors that are read are mapped from the file where that is possible: they take no memory until they are used, and
processes of one machine share them. A file of a local disk that is replaced or removed meanwhile stays there for
whoever has it open. One of a network disk may not, so what is kept for long is copied.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from omnisource.errors import UserError
from omnisource.files import atomic
from omnisource.files.atomic import UNFINISHED, atomic_path, atomic_write
from omnisource.files.foreign_files import foreign_kind, is_safetensors
from omnisource.files.formats import CHECKPOINT_FORMAT
from omnisource.files.tensor_archive import load_mapped
from omnisource.files.zip_checksums import DamagedArchive, add_checksum, verify_archive

FORMAT_VERSION = 3  # 2 had a digest of the whole file at its end, and 1 nothing but the checksums of its records
FOLDER = "checkpoints"
_STEP_FILE = re.compile(r"step_(\d+)\.pt")
_UNFINISHED_FILE = re.compile(rf"\.?(step_\d+|best)\.pt\.[0-9a-f]+{re.escape(UNFINISHED)}")


class DamagedCheckpoint(UserError):
    """A checkpoint whose content is not what was written: no other try will read it."""


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of its run without its tensors.

    Attributes:
        step: Steps done.
        best_score: Highest validation top-1 of the main source so far, in [0, 1]; None before the first validation.
        best_step: Steps done when it was reached.
        recipe: The whole recipe as plain data (`recipe.plain.to_plain`).
        class_names: Class names by label space.
        facts: What the run was made with.
    """

    step: int
    best_score: float | None
    best_step: int | None
    recipe: dict[str, Any]
    class_names: dict[str, list[str]]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        recipe: The whole recipe as plain data (`recipe.plain.to_plain`).
        class_names: Class names by label space.
        facts: What the run was made with: versions, decoder, resampling, microbatches a step, digests of the lists.
        state: `TrainState.state_dict()`. Tensors that were read may be mapped; copy what outlives the file.
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
        "format": CHECKPOINT_FORMAT,
        "format_version": FORMAT_VERSION,
        "recipe": checkpoint.recipe,
        "class_names": checkpoint.class_names,
        "facts": checkpoint.facts,
        "model": checkpoint.state["model"],
        "state": {name: value for name, value in checkpoint.state.items() if name != "model"},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    add_checksum(buffer)
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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as unfinished:
            try:
                os.link(source, unfinished)
            except OSError:  # a file system without hard links
                shutil.copyfile(source, unfinished)
    except OSError as error:
        raise _cannot_write(target, error) from error


def read_header(path: Path) -> Header:
    """Returns what a checkpoint says of its run; no tensor is looked at, so that damage there goes unnoticed.

    Raises:
        DamagedCheckpoint: If it is truncated, or damaged where this is written.
        UserError: If there is no such file, or it cannot be read, or is of another format.
    """
    with _opened(path) as file:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    archive.read(name)  # compares its checksum
        content = _content(path, file)
    state = content["state"]
    return Header(
        state["step"],
        state.get("best_score"),
        state.get("best_step"),
        content["recipe"],
        content["class_names"],
        content["facts"],
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Returns the content of one of our checkpoints, verified: the file is read once, and its tensors are mapped.

    Where files cannot be mapped, the tensors are read after the verification, and so twice.

    Raises:
        DamagedCheckpoint: If it is truncated or damaged.
        UserError: If there is no such file, or it cannot be read, or is of another format.
    """
    with _opened(path) as file:
        has_checksum = verify_archive(file)
        with _undamaged(path) if has_checksum else contextlib.nullcontext():
            content = _content(path, file)
        if content["format_version"] > 2 and not has_checksum:
            raise DamagedArchive("its checksum is missing")
    return as_checkpoint(content)


def as_checkpoint(content: Mapping[str, Any]) -> Checkpoint:
    """Returns the checkpoint that the content of a file of our format is."""
    state = {"model": content["model"], **content["state"]}
    return Checkpoint(content["recipe"], content["class_names"], content["facts"], state)


def in_memory(checkpoint: Checkpoint) -> Checkpoint:
    """Returns a checkpoint with a copy of every tensor on the CPU: what becomes of the origin does not matter to it."""
    return dataclasses.replace(checkpoint, state=_copied(checkpoint.state))


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(entry) for entry in value)
    return value


def remove_unfinished(work_dir: Path) -> None:
    """Removes the files that a process left which was killed while it wrote them."""
    atomic.remove_unfinished(work_dir)
    for path in (work_dir / FOLDER).glob(f"*{UNFINISHED}"):
        if _UNFINISHED_FILE.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Yields an open checkpoint; what goes wrong with its content is an error of the user."""
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such checkpoint")
        with path.open("rb") as file:
            yield file
    except UserError:
        raise
    except DamagedArchive as error:
        if kind := foreign_kind(path):
            raise DamagedCheckpoint(f"{path}: not a whole checkpoint of ours, or truncated: {kind}") from error
        raise DamagedCheckpoint(
            f"{path}: damaged: its content is not what was written. Continue from an earlier checkpoint"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise UserError(f"{path}: cannot be read: there is not enough memory") from error
    except Exception as error:  # a broken file can fail in any way
        if named := _named(error):
            words = f"it names {named}, which no checkpoint of ours does"
            raise UserError(f"{path}: refused, and nothing of it was run: {words}") from error
        raise DamagedCheckpoint(
            f"{path}: not a whole checkpoint of ours, or truncated: {_what(path, error)}"
        ) from error


@contextlib.contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Says of what fails with a file that it is not damaged: all of its checksums are right."""
    try:
        yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # torch has no class of its own for too little memory and the like
        if _named(error):
            raise
        raise UserError(f"{path}: cannot be read, though it is not damaged: {_reason(error)}") from error


def _content(path: Path, file: BinaryIO) -> dict[str, Any]:
    """Returns the content of an open file of our format, with its tensors mapped where that is possible.

    Raises:
        UserError: If it is of another format.
        Exception: Whatever torch raises for what is none, or names what could run code.
    """
    content = load_mapped(file, path)
    if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
        raise UserError(
            f"{path}: not a checkpoint of a run of omnisource. Start a new run from its weights: model.weights={path}"
        )
    if content["format_version"] > FORMAT_VERSION:
        raise UserError(f"{path}: written by a newer omnisource (format {content['format_version']}); update yours")
    return content


def _named(error: Exception) -> str:
    """Returns what a file names that could run code, or ""."""
    mentioned = re.search(r"GLOBAL (\S+) ", str(error))
    return mentioned[1] if mentioned else ""


def _reason(error: Exception) -> str:
    """Returns why a file cannot be read, without torch's advice to trust the file."""
    inner = re.search(r"WeightsUnpickler error: *(.+)", str(error))
    return inner[1] if inner else (str(error).strip().splitlines() or [type(error).__name__])[0]


def _what(path: Path, error: Exception) -> str:
    """Returns what a file is that is no checkpoint of ours, or why it cannot be read."""
    try:
        kind = foreign_kind(path)
        if kind is None and is_safetensors(path):
            kind = f"it is a safetensors file, of weights alone. Start a new run from them: model.weights={path}"
        return kind or _reason(error)
    except OSError:
        return _reason(error)


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: the checkpoint cannot be written: {error.strerror or error}. Earlier checkpoints are untouched; "
        "make space, then continue with --resume auto."
    )
