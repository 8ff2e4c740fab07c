"""Steps whose loss or gradient is not finite: what is said of them, and their batches, kept for inspection."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omnisource.distributed import processes
from omnisource.errors import UserError, shortened
from omnisource.files.atomic import atomic_write
from omnisource.training.run_context import RunContext
from omnisource.training.state import TrainState
from omnisource.types import Batch


def skip_nonfinite_step(
    run: RunContext, state: TrainState, mixed: Sequence[Sequence[Batch]], losses: Tensor, gradient_norm: float
) -> str:
    """Keeps the batches of a step that is not finite; returns what is wrong, and where they are kept.

    Args:
        run: The run.
        state: As it was before the step; the step is noted as skipped.
        mixed: For each microbatch of this process the batches as the model took them, in the order of the sources.
        losses: [microbatches, sources], of this process.
        gradient_norm: Of the step.

    Raises:
        UserError: If no more such steps are permitted.
    """
    step, permitted, num_skipped = state.step + 1, run.recipe.max_skipped_steps, len(state.skipped_steps)
    chosen = [
        mixed[microbatch][source]
        for microbatch, of_microbatch in enumerate(losses.tolist())
        for source, loss in enumerate(of_microbatch)
        if not math.isfinite(loss)
    ]
    lines = [
        f"step {step}: the loss of source {batch.source} is not finite. Its samples:\n"
        + shortened(list(batch.keys), 10)
        for batch in chosen
    ]
    lines_of_all = processes.gather(lines)
    words = [line for of_process in lines_of_all for line in of_process]
    words = words or [f"step {step}: the gradient is not finite (norm {gradient_norm})"]
    chosen = chosen or [batch for batches in mixed for batch in batches]
    ranks = [rank for rank, of_process in enumerate(lines_of_all) if of_process]
    words += keep_batches(run.work_dir, step, ranks or range(processes.world_size()), chosen)
    if num_skipped >= permitted:
        raise UserError(
            "\n".join(words)
            + "\nThe weights were not changed. Let such steps be left out with max_skipped_steps=N "
            + f"(now {permitted}), or start a new run from a checkpoint (model.weights=FILE) with a lower "
            + f"optimizer.learning_rate (now {run.recipe.optimizer.learning_rate:g})."
        )
    state.skipped_steps.append(step)
    left = permitted - num_skipped - 1
    return "\n".join([*words, f"the step changed no weights; {left} more such steps are permitted"])


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
    paths: list[str] = []
    faults: list[str] = []
    for rank in ranks:  # one after the other: they may be large
        content = processes.broadcast(_plain(batches) if rank == processes.rank() else None, source=rank)
        if processes.rank() != 0:
            continue
        path = work_dir / "not_finite" / f"step_{step:09d}_process_{rank}.pt"
        try:
            _write(content, path)
            paths.append(str(path))
        except OSError as error:  # what is wrong with the run is more important
            faults.append(f"{path}: the batch cannot be kept: {error.strerror}")
    kept = [f"kept for inspection: {', '.join(paths)}"] if paths else []
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
