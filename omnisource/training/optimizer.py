"""Parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Optimizer:
    """How the weights are changed by the gradients."""

    method: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW."""

    learning_rate: float = 0.1
    """Highest learning rate, for `base_batch_size` clips of the main source a step."""

    base_batch_size: int = 128
    """Clips of the main source a step, over all processes and accumulation, that `learning_rate` is meant for;
    `--auto-scale-lr` multiplies by the real number and divides by this one."""

    momentum: float = 0.9
    """Momentum of SGD."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's two moments."""

    weight_decay: float = 1e-4
    """Weight decay: added to the gradient by SGD, decoupled in AdamW."""

    decay_norm_and_bias: bool = True
    """Whether BatchNorm's parameters and biases decay too."""

    max_gradient_norm: float | None = 40.0
    """Norm to which the gradient of all parameters together is clipped. None: no clipping."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a run: linear warm-up, then half a cosine down to `final_factor`, both per step."""

    warmup_epochs: float = 34.0
    """Length of the warm-up, in epochs of the main source."""

    warmup_start_factor: float = 0.1
    """Factor on the learning rate at the first step."""

    final_factor: float = 0.0
    """Factor on the learning rate at the end of the run."""


def learning_rate(optimizer: Optimizer, schedule: Schedule, step: int, epoch_steps: int, num_epochs: int) -> float:
    """Returns the learning rate of a step.

    The warm-up rises from `warmup_start_factor` at step 0 to 1 at its last step; the cosine starts at 1 on the step
    after it and would reach `final_factor` one step after the end of the run.

    Args:
        optimizer: Gives the highest learning rate.
        schedule: The shape.
        step: 0-based step of the run.
        epoch_steps: Steps in an epoch.
        num_epochs: Epochs in the run.

    Source: open-mmlab/mmengine `mmengine/optim/scheduler/param_scheduler.py`, LinearLR and
    CosineAnnealingLR with `convert_to_iter_based`.
    """
    warmup_steps = round(schedule.warmup_epochs * epoch_steps)
    total_steps = num_epochs * epoch_steps
    if step < warmup_steps:
        progress = step / max(1, warmup_steps - 1)
        factor = schedule.warmup_start_factor + (1 - schedule.warmup_start_factor) * progress
    else:
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        factor = schedule.final_factor + (1 - schedule.final_factor) * (1 + math.cos(math.pi * min(1, progress))) / 2
    return optimizer.learning_rate * factor


def build_optimizer(optimizer: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """Returns the torch optimizer over all parameters of `model`, in one or, without decay of norms, two groups."""
    decayed, kept = [], []
    for module in model.modules():
        is_norm = isinstance(module, nn.modules.batchnorm._NormBase)
        for name, parameter in module.named_parameters(recurse=False):
            keeps = not optimizer.decay_norm_and_bias and (is_norm or name == "bias")
            (kept if keeps else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": optimizer.weight_decay}]
    if kept:
        groups.append({"params": kept, "weight_decay": 0.0})
    if optimizer.method == "sgd":
        return torch.optim.SGD(groups, lr=optimizer.learning_rate, momentum=optimizer.momentum)
    return torch.optim.AdamW(groups, lr=optimizer.learning_rate, betas=optimizer.betas)
