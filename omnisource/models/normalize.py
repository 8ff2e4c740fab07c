"""How pixels become what a backbone was made for: a mean and a deviation for each color."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Normalization:
    """What a backbone expects of its input.

    Attributes:
        mean: Mean of red, green and blue, of frames of 0-255.
        std: Their standard deviation.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Normalize(nn.Module):
    """Maps frames of 0-255 to zero mean and unit variance.

    The two constants are kept as the bits of their float32: a change of the model's floating point type must not round
    them. They are no part of the state dict.

    Args:
        normalization: The constants.
    """

    mean_bits: Tensor
    std_bits: Tensor

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        for name, values in (("mean_bits", normalization.mean), ("std_bits", normalization.std)):
            bits = torch.tensor(values, dtype=torch.float32).view(torch.int32)
            self.register_buffer(name, bits.view(3, 1, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Returns (frames - mean) / std in float32; frames: [N, 3, T, H, W] uint8, 0-255, RGB."""
        return (frames.float() - self.mean_bits.view(torch.float32)) / self.std_bits.view(torch.float32)
