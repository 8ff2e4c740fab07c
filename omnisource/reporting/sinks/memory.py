"""How much memory a run takes: of the GPU, of the training process, of its workers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_GIB = 2**30


def memory_in_use(worker_ids: Iterable[int]) -> dict[str, float]:
    """Returns memory in GiB by name, as far as this system says.

    "process_gib" and "workers_gib" are resident memory; of the workers the sum, which counts what they share several
    times. "gpu_highest_gib" is the most that tensors have taken at once, "gpu_reserved_gib" what torch keeps for them.

    Args:
        worker_ids: Process ids of the workers.
    """
    import torch  # seconds of imports, and there already in a training run

    memory: dict[str, float] = {}
    own = _resident_bytes("self")
    if own is not None:
        memory["process_gib"] = own / _GIB
    workers = [size for number in worker_ids if (size := _resident_bytes(str(number))) is not None]
    if workers:
        memory["workers_gib"] = sum(workers) / _GIB
    if torch.cuda.is_initialized():
        memory["gpu_highest_gib"] = torch.cuda.max_memory_allocated() / _GIB
        memory["gpu_reserved_gib"] = torch.cuda.memory_reserved() / _GIB
    return memory


def _resident_bytes(process: str) -> int | None:
    """Returns the resident memory of a process; None where it has ended, or the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    kib = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), None)
    return None if kib is None else kib * 1024
