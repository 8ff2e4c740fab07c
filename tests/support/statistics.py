"""What the batch normalizations of a model are given, and its mean and variance: computed apart from the package."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from omnisource.models.backbones.slow_only import MediaBatchNorm
from omnisource.models.batch_norm import BatchNorm

Inputs = dict[str, list[tuple[str, Tensor]]]
"""By the name of a norm, the media and the input [C, values] float64 of every forward."""


@contextlib.contextmanager
def inputs_of_norms(module: nn.Module) -> Iterator[Inputs]:
    """Yields what the batch normalizations of a module are given within."""
    inputs: Inputs = defaultdict(list)
    handles = []
    for name, norm in module.named_modules():
        if isinstance(norm, BatchNorm):

            def note(norm: nn.Module, arguments: tuple, output: object, name: str = name) -> None:
                x, media = arguments
                inputs[name].append((media, x.detach().double().transpose(0, 1).flatten(1).clone()))

            handles.append(norm.register_forward_hook(note))
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def statistics_of_inputs(module: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """Returns the mean and the unbiased variance of all that each norm was given, by the names of its buffers.

    As in training: a single value a channel does not count, nor do images in the backbone without image statistics.
    """
    norms = dict(module.named_modules())
    values: dict[str, list[Tensor]] = defaultdict(list)
    for name, of_norm in inputs.items():
        norm = norms[name]
        assert isinstance(norm, BatchNorm)
        for media, x in of_norm:
            is_apart = media == "image" and norm.has_image_statistics
            if x.shape[1] == 1 or (media == "image" and isinstance(norm, MediaBatchNorm) and not is_apart):
                continue
            values[f"{name}.{'image_' if is_apart else ''}running_"].append(x)
    pooled = {prefix: torch.cat(parts, dim=1) for prefix, parts in values.items()}
    means = {f"{prefix}mean": x.mean(dim=1) for prefix, x in pooled.items()}
    return means | {f"{prefix}var": x.var(dim=1) for prefix, x in pooled.items()}
