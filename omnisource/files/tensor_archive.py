"""Reading an archive that `torch.save` wrote, with its tensors mapped from the file where that is possible."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import torch


def load_mapped(file: BinaryIO, path: Path) -> Any:
    """Returns what is in an open archive: tensors on the CPU and plain values; nothing of it is run.

    The tensors are mapped: they take no memory until they are used. They are read into memory where files cannot be
    mapped, as on some network disks.

    Args:
        file: The archive; the tensors stay those of this file, whatever takes its place.
        path: Its name, for systems that have none for an open file.

    Raises:
        Exception: Whatever torch raises for what is no archive of its own, or names what could run code.
    """
    # torch opens the file by its name, twice: it must be this one, and not one that has taken its place meanwhile.
    this_one = f"/proc/self/fd/{file.fileno()}"
    name = this_one if os.path.exists(this_one) else path
    try:
        return torch.load(name, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError):  # it cannot be mapped; if there is something else, it fails again
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
