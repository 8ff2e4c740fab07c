"""Rotary positions of a ViT: queries and keys are turned by angles that tell where a token is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnisource.models.position_tables import Grid, rotary_periods


@dataclass(frozen=True)
class Rotation:
    """What rotary positions do to queries and keys.

    Attributes:
        cosines: [patches, channels of a head].
        sines: The same.
        has_neighbors: Whether channels 0 and 1, 2 and 3 and so on are turned together, and not those of the two halves.
    """

    cosines: Tensor
    sines: Tensor
    has_neighbors: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Returns x, [N, heads, prefix + patches, channels], with the patches turned, in its type."""
        patches = x[:, :, -len(self.cosines) :]
        if self.has_neighbors:
            first, second = patches.unflatten(3, (-1, 2)).unbind(4)
            across = torch.stack([-second, first], dim=4).flatten(3)
        else:
            first, second = patches.chunk(2, dim=3)
            across = torch.cat([-second, first], dim=3)
        turned = patches * self.cosines + across * self.sines
        return torch.cat([x[:, :, : -len(self.cosines)], turned.to(x.dtype)], dim=2)


class RotaryInSpace(nn.Module):
    """DINOv3's rotary positions: rows and columns from -1 to 1, at any image size.

    Args:
        channels: Of a head.

    Attributes:
        periods: [channels / 4]; a buffer, since its published files have them rounded.

    Source: facebookresearch/dinov3 6876159 `dinov3/layers/rope_position_encoding.py`.
    """

    periods: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("periods", rotary_periods(channels))

    def forward(self, grid: Grid) -> Rotation:
        """Returns the rotation of all patches, alike in every frame."""
        rows, columns = (
            2 * (torch.arange(n, device=self.periods.device, dtype=self.periods.dtype) + 0.5) / n - 1
            for n in (grid.rows, grid.columns)
        )
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=2).flatten(0, 1)  # [patches, 2]
        angles = (2 * torch.pi * places[:, :, None] / self.periods).flatten(1)  # [patches, channels / 2]
        angles = angles.repeat(grid.frames, 2)  # both halves of a head, and every frame
        return Rotation(angles.cos(), angles.sin(), has_neighbors=False)


class RotaryInSpaceAndTime(nn.Module):
    """V-JEPA 2's rotary positions: a third of the channels each for frame, row and column, by their number.

    Its weights were trained with frequencies that are repeated one after the other, while neighboring channels are
    turned together; so it stays.

    Args:
        channels: Of a head.

    Source: facebookresearch/vjepa2 c2963a4 `src/models/utils/modules.py`, rotate_queries_or_keys and RoPEAttention.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, grid: Grid, like: Tensor) -> Rotation:
        """Returns the rotation of all patches, on the device and in the type of a tensor."""
        part = 2 * (self.channels // 3 // 2)
        sizes = (grid.frames, grid.rows, grid.columns)
        numbers = [torch.arange(n, device=like.device, dtype=like.dtype) for n in sizes]
        places = torch.stack(torch.meshgrid(*numbers, indexing="ij"), dim=3).flatten(0, 2)  # [patches, 3]
        frequencies = 10000.0 ** -(torch.arange(part // 2, device=like.device, dtype=like.dtype) / (part / 2))
        angles = (places[:, :, None] * frequencies).repeat(1, 1, 2).flatten(1)  # [patches, 3 * part]
        angles = F.pad(angles, (0, self.channels - 3 * part))  # what is left over is not turned
        return Rotation(angles.cos(), angles.sin(), has_neighbors=True)
