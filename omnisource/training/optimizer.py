"""Parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import nn

from omnisource.models.backbones.backbone import ParameterGroup
from omnisource.recipe.optimization import Optimizer, Schedule


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


class GroupedModel(Protocol):
    """A model that says how its parameters are to be treated, as a recognizer does."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yields every parameter with its name."""
        ...

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns every parameter once, by decay and depth."""
        ...


def build_optimizer(optimizer: Optimizer, model: GroupedModel) -> torch.optim.Optimizer:
    """Returns the torch optimizer over all parameters of `model`, in one or, without decay of norms, two groups.

    Within a group they keep the model's order, by which checkpoints know them.
    """
    decays = {name: group.decays for group in model.parameter_groups() for name in group.names}
    decayed, kept = [], []
    for name, parameter in model.named_parameters():
        (decayed if decays[name] or optimizer.decay_norm_and_bias else kept).append(parameter)
    groups = [{"params": decayed, "weight_decay": optimizer.weight_decay}]
    if kept:
        groups.append({"params": kept, "weight_decay": 0.0})
    if optimizer.method == "sgd":
        return torch.optim.SGD(groups, lr=optimizer.learning_rate, momentum=optimizer.momentum)
    return torch.optim.AdamW(groups, lr=optimizer.learning_rate, betas=optimizer.betas)
