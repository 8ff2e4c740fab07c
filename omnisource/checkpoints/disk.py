"""Whether the disk has room for the next checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

NEEDED_CHECKPOINTS = 3
"""Checkpoints for which there must be space: the one that is about to be written, before the oldest goes; a best one of
its own; one more."""

NEEDED_BESIDES_BYTES = 256 * 2**20
"""Space for metrics, log and curves."""


def warn_if_disk_is_nearly_full(work_dir: Path, checkpoint_bytes: int) -> str | None:
    """Returns a warning if the file system of a work dir has too little space for what comes, else None.

    Args:
        work_dir: Folder of the run.
        checkpoint_bytes: Size of the checkpoint that is about to be written.
    """
    needed = NEEDED_CHECKPOINTS * checkpoint_bytes + NEEDED_BESIDES_BYTES
    try:
        free = shutil.disk_usage(work_dir).free
    except OSError as error:
        return f"warning: {work_dir}: how much space is left on its disk cannot be found out: {error.strerror}"
    if free >= needed:
        return None
    return (
        f"warning: {work_dir}: the disk is nearly full: {free / 2**30:.1f} GiB are free, and the next checkpoints need "
        f"{needed / 2**30:.1f} GiB. Make space, or lower checkpoints.keep_last and resume: a checkpoint that finds no "
        "space ends the run"
    )


def tensor_bytes(value: Any) -> int:
    """Returns the size of all tensors in plain data: nearly that of the checkpoint which holds it."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(tensor_bytes, value.values()))
    return sum(map(tensor_bytes, value)) if isinstance(value, list | tuple) else 0
