"""Weights to load: recognizers whose tensors all differ from fresh ones, and image networks made of them."""

from __future__ import annotations

import torch
from torch import Tensor

from omnisource.models.recognizer import Recognizer


def snapshot(recognizer: Recognizer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}


def perturbed(recognizer: Recognizer, seed: int = 5) -> Recognizer:
    """Changes every tensor, so that what was loaded differs from what was there."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in recognizer.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.02 * torch.rand(tensor.shape, generator=generator))
        else:
            tensor.add_(seed)
    return recognizer


def image_resnet(recognizer: Recognizer, classes: int = 10) -> dict[str, Tensor]:
    """Returns a state dict in torchvision's format: the backbone with its kernels summed, and a linear layer."""
    state = {name: t.sum(dim=2) if t.ndim == 5 else t for name, t in recognizer.backbone.state_dict().items()}
    channels = recognizer.backbone.out_channels
    return {**state, "fc.weight": torch.randn(classes, channels), "fc.bias": torch.randn(classes)}
