"""Batches that are kept for inspection, since their loss or gradient was not finite."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from omnisource.distributed import processes
from omnisource.files.atomic import atomic_write
from omnisource.types import Batch


def keep_batches(work_dir: Path, step: int, ranks: Iterable[int], batches: Sequence[Batch]) -> list[str]:
    """Has the first process write the batches of some processes, a file each; called by all processes together.

    Args:
        work_dir: The run; the files lie in `not_finite/`, and `torch.load` reads them.
        step: Number of the step.
        ranks: The processes.
        batches: Of this process; taken if it is among `ranks`.

    Returns:
        What to say of it, in lines: where they lie, and what went wrong with that.
    """
    places: list[str] = []
    faults: list[str] = []
    for rank in ranks:  # one after the other: they may be large
        content = processes.broadcast(_plain(batches) if rank == processes.rank() else None, source=rank)
        if processes.rank() != 0:
            continue
        path = work_dir / "not_finite" / f"step_{step:09d}_process_{rank}.pt"
        try:
            _write(content, path)
            places.append(str(path))
        except OSError as error:  # what is wrong with the run is more important
            faults.append(f"{path}: the batch cannot be kept: {error.strerror}")
    kept = [f"kept for inspection: {', '.join(places)}"] if places else []
    return processes.broadcast([*faults, *kept])


def _write(content: list[dict[str, Any]] | None, path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)  # into a file, it would make other errors of those of the disk
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def _plain(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    return [
        {"source": batch.source, "keys": list(batch.keys), "labels": batch.labels.cpu(), "clips": batch.clips.cpu()}
        for batch in batches
    ]
