"""What processes tell one another in every step. It travels with the losses: a collective of its own would cost a wait.

All of it is summed, so that each process learns the same, and all stop, save and report at one step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from omnisource.distributed import processes
from omnisource.signals import STOP_SIGNALS
from omnisource.training.stepping.sample_digest import DIGEST_PARTS, digest_text


@dataclass(frozen=True)
class LocalStep:
    """What one process has to tell of a step.

    Attributes:
        losses: [sources] float64, on the device: means over the microbatches of the process.
        data_seconds: Time that it has waited for them.
        digest_parts: What `digest_parts` returned of their samples.
        received_signals: The signals that it has received.
        asks_saving: Whether it wants a checkpoint now; the first process is heard.
    """

    losses: Tensor
    data_seconds: float
    digest_parts: Sequence[float]
    received_signals: Collection[int]
    asks_saving: bool


@dataclass(frozen=True)
class ReducedStep:
    """What all processes together tell of a step, the same on each of them.

    Attributes:
        losses: Means over the processes, in the order of the sources.
        data_seconds: The longest wait of any process.
        samples_digest: Of the samples of all.
        stop_signal: The signal that asked any of them to stop, or 0.
        is_saving_asked: Whether the first process asked for a checkpoint.
    """

    losses: tuple[float, ...]
    data_seconds: float
    samples_digest: str
    stop_signal: int
    is_saving_asked: bool


def reduce_step(local: LocalStep) -> ReducedStep:
    """Returns what all processes tell of a step; called by all of them together."""
    signals = [float(number in local.received_signals) for number in STOP_SIGNALS]
    asks_saving = [float(local.asks_saving and processes.rank() == 0)]
    waits = [0.0] * processes.world_size()
    waits[processes.rank()] = local.data_seconds
    besides = [*signals, *asks_saving, *waits, *local.digest_parts]
    values = torch.cat([local.losses, local.losses.new_tensor(besides)])  # float64
    sizes = [len(local.losses), len(signals), len(asks_saving), len(waits), DIGEST_PARTS]
    averages = processes.average(values).cpu().split(sizes)
    losses, signals, asks_saving, waits, digest = (part.tolist() for part in averages)
    return ReducedStep(
        losses=tuple(losses),
        data_seconds=max(waits) * processes.world_size(),
        samples_digest=digest_text([part * processes.world_size() for part in digest]),
        stop_signal=max((number for number, share in zip(STOP_SIGNALS, signals, strict=True) if share), default=0),
        is_saving_asked=asks_saving[0] > 0,
    )
