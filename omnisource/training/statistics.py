"""BatchNorm's statistics computed again for evaluation, over the last microbatches that were trained on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from omnisource.data.loading.loader import Loader
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.transforms.mixing import mix_batches
from omnisource.distributed import processes
from omnisource.evaluation.precision import autocast
from omnisource.models.pooled_statistics import PooledStatistics
from omnisource.randomness import seed_microbatch
from omnisource.signals import Interrupted
from omnisource.training.run_context import RunContext
from omnisource.training.state import RecomputedStatistics, TrainState
from omnisource.types import Batch


def recompute_statistics(
    run: RunContext, state: TrainState, streams: Sequence[Stream], local_microbatches: Sequence[int]
) -> RecomputedStatistics | None:
    """Returns BatchNorm's statistics with the weights of now, None where the plan wants none; all processes call this.

    The last microbatches of training are loaded again, augmented and mixed as they were, so it is a function of the
    step: a run that goes on from a checkpoint comes to the same. Each process takes those that it trained on. The state
    stays as it is. With a moving average of the weights, each microbatch goes through the model with it, too.

    Args:
        run: The run.
        state: Its state, after a whole step.
        streams: Those of its sources.
        local_microbatches: The microbatches of a step that this process does, 0-based.

    Raises:
        Interrupted: If a signal came before the end, and there is one process: several could not agree at once.
        UserError: If more files are unreadable than the recipe permits.
    """
    num_steps = run.plan.recomputed_steps(state.step)
    if not num_steps:
        return None
    started = time.monotonic()
    of_model, of_average = PooledStatistics(state.model), PooledStatistics(state.model)
    passes: list[tuple[PooledStatistics, dict[str, Tensor]]] = [(of_model, {})]
    if state.ema is not None:
        passes.append((of_average, state.ema.tensors))
    advance = run.report.recomputing(num_steps * len(local_microbatches))
    # What replaces a file that cannot be read was counted when it was trained on.
    unreadable = UnreadableLog(run.unreadable.permitted, run.unreadable.reasons, run.unreadable.notify)
    loader = Loader(streams, run.workers, run.plan.microbatches, local_microbatches, unreadable, device=run.device)
    state.model.train()
    with contextlib.closing(loader):
        loader.seek(state.step - num_steps)
        for step in range(state.step - num_steps, state.step):
            for microbatch, batches in zip(local_microbatches, next(loader), strict=True):
                mixed = mixed_batches(run, batches, step, microbatch)
                for pooled, weights in passes:
                    seed_microbatch(run.recipe.seed, step, microbatch)
                    with torch.no_grad(), pooled.pooling(), autocast(run.device, run.recipe.precision):
                        functional_call(state.model, weights, (mixed,))
                advance()
                if run.stop and processes.world_size() == 1:
                    raise Interrupted(run.stop[0])
    recomputed = RecomputedStatistics(
        state.step,
        num_steps,
        of_model.combine(),
        of_average.combine() if state.ema is not None else {},
    )
    run.report.message(
        f"step {state.step}: BatchNorm's statistics computed again over the last {num_steps * run.plan.microbatches} "
        f"microbatches in {time.monotonic() - started:.1f} s"
    )
    return recomputed


def mixed_batches(run: RunContext, batches: Sequence[Batch], step: int, microbatch: int) -> list[Batch]:
    """Returns the batches of a microbatch as the model takes them in a step: on the device, and mixed."""
    recipe = run.recipe
    on_device = [batch.to(run.device) for batch in batches]
    mixing = recipe.mixings(), recipe.class_counts(), recipe.seed
    return mix_batches(on_device, *mixing, step, microbatch)
