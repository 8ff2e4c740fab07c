"""The processor cores that this process may use, and the processes of the run that share them."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Returns the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def local_processes() -> int:
    """Returns the number of processes of the run on this machine, as `torchrun` says it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
