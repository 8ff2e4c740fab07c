"""An exponential moving average of the weights, which is evaluated beside them."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class Ema:
    """The moving average of everything in a model's state dict.

    After step n (from 1) a tensor becomes d x average + (1 - d) x tensor, where d is the smaller of `decay` and
    (1 + n) / (10 + n): early on the average forgets the initial weights quickly. Whole numbers are taken over as they
    are.

    Source: the bounded decay is that of TensorFlow's `tf.train.ExponentialMovingAverage` with `num_updates`.

    Args:
        decay: Share of the average that a step keeps, in [0, 1).
        model: What is averaged; the average begins as its state.
    """

    def __init__(self, decay: float, model: nn.Module) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes the state of `model` after `step` steps, from 1, into the average."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        # One call for all tensors of a kind: a call for each of hundreds takes longer than the arithmetic on a GPU.
        pairs: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
        for name, tensor in model.state_dict().items():
            averages, tensors = pairs[tensor.device, tensor.dtype]
            averages.append(self.tensors[name])
            tensors.append(tensor)
        for (_, dtype), (averages, tensors) in pairs.items():
            if dtype.is_floating_point:
                torch._foreach_lerp_(averages, tensors, weight)  # pyright: ignore[reportPrivateImportUsage]
            else:
                torch._foreach_copy_(averages, tensors)  # pyright: ignore[reportPrivateImportUsage]

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Gives `model` the average for the time of the block, and its own state back afterward."""
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over the average of a checkpoint."""
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)
