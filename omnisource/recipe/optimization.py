"""How the weights are changed: the optimizer, and the learning rate over the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from omnisource.recipe.marks import NonNegativeFloat, PositiveFloat, PositiveInt, ShareBelowOne


@dataclass(frozen=True)
class Optimizer:
    """How the weights are changed by the gradients."""

    method: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW."""

    learning_rate: PositiveFloat = 0.1
    """Highest learning rate, for `base_batch_size` clips of the main source a step."""

    base_batch_size: PositiveInt = 128
    """Clips of the main source a step, over all processes and accumulation, that `learning_rate` is meant for;
    `--auto-scale-lr` multiplies by the real number and divides by this one."""

    momentum: NonNegativeFloat = 0.9
    """Momentum of SGD."""

    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.999)
    """Decay rates of AdamW's two moments."""

    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay: added to the gradient by SGD, decoupled in AdamW."""

    decay_norm_and_bias: bool = True
    """Whether the parameters of normalizations, biases, and learned positions and tokens decay too."""

    layer_decay: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Factor on the learning rate of each layer of the backbone that is one further from the heads. 1: all alike.
    Pretrained ViTs are fine-tuned with 0.65 to 0.75."""

    max_gradient_norm: PositiveFloat | None = 40.0
    """Norm to which the gradient of all parameters together is clipped. None: no clipping."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a run: linear warm-up, then half a cosine down to `final_factor`, both per step."""

    warmup_epochs: NonNegativeFloat = 34.0
    """Length of the warm-up, in epochs of the main source."""

    warmup_start_factor: NonNegativeFloat = 0.1
    """Factor on the learning rate at the first step."""

    final_factor: NonNegativeFloat = 0.0
    """Factor on the learning rate at the end of the run."""
