"""Parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

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

    With a decay of layers they are that many groups for each depth, the lowest first, of which each has the factor on
    its learning rate as `lr_scale`. Within a group they keep the model's order, by which checkpoints know them.

    Source: Clark et al. 2020, "ELECTRA", and Bao et al. 2022, "BEiT", for the learning rates of layers.
    """
    of_name = {name: group for group in model.parameter_groups() for name in group.names}
    last = max(group.depth for group in of_name.values())
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        depth = last if optimizer.layer_decay == 1 else of_name[name].depth
        is_kept = not (of_name[name].decays or optimizer.decay_norm_and_bias)
        found.setdefault((depth, is_kept), []).append(parameter)
    groups: list[dict[str, Any]] = []
    for (depth, is_kept), parameters in sorted(found.items(), key=lambda item: item[0]):
        groups.append({"params": parameters, "weight_decay": 0.0 if is_kept else optimizer.weight_decay})
        if optimizer.layer_decay != 1:
            groups[-1]["lr_scale"] = optimizer.layer_decay ** (last - depth)
    if optimizer.method == "sgd":
        return torch.optim.SGD(groups, lr=optimizer.learning_rate, momentum=optimizer.momentum)
    return torch.optim.AdamW(groups, lr=optimizer.learning_rate, betas=optimizer.betas)
