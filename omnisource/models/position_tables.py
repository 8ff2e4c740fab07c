"""Where the tokens of a ViT are: tables of sines, and tables that are resampled for another size."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omnisource.recipe.backbones.vit import Resampling

ROTARY_BASE = 100.0
"""Base of the periods of DINOv3's rotary positions."""


@dataclass(frozen=True)
class Grid:
    """The patches of an input.

    Attributes:
        frames: In time; 1 for images.
        rows: From top to bottom.
        columns: From left to right.
    """

    frames: int
    rows: int
    columns: int


def resampled(table: Tensor, rows: int, columns: int, how: Resampling) -> Tensor:
    """Returns a table of positions for another grid, [rows, columns, C]; of the same grid as it is.

    Bicubic interpolation is one matrix for each direction. Products of matrices have deterministic gradients, which
    torch's interpolation has not on a GPU.

    Args:
        table: [old rows, old columns, C].
        rows: Of the new grid.
        columns: Of the new grid.
        how: As `ViT.resampling`.
    """
    if table.shape[:2] == (rows, columns):
        return table
    down, across = _bicubic(table.shape[0], rows, how, table), _bicubic(table.shape[1], columns, how, table)
    return torch.einsum("ri,cj,ijk->rck", down, across, table)


def interpolated(table: Tensor, frames: int) -> Tensor:
    """Returns positions in time, [frames, C], linearly interpolated from a table [old frames, C]."""
    if len(table) == frames:
        return table
    columns = torch.eye(len(table), dtype=table.dtype, device=table.device)[None]  # [1, old, old]
    return F.interpolate(columns, size=frames, mode="linear")[0].T @ table


def _bicubic(old: int, new: int, how: Resampling, like: Tensor) -> Tensor:
    """Returns the matrix that resamples a row, [new, old], on the device and in the type of a tensor."""
    rows = torch.eye(old, dtype=like.dtype, device=like.device)[:, None, None]  # [old, 1, 1, old]
    if how == "scale_factor":
        return F.interpolate(rows, scale_factor=(1.0, (new + 0.1) / old), mode="bicubic")[:, 0, 0].T
    return F.interpolate(rows, size=(1, new), mode="bicubic", antialias=how == "antialias")[:, 0, 0].T


def rotary_periods(channels: int) -> Tensor:
    """Returns the periods of DINOv3's rotary positions for heads of so many channels, [channels / 4] float32."""
    return ROTARY_BASE ** (2 * torch.arange(channels // 4, dtype=torch.float32) / (channels // 2))


def sines_in_space(rows: int, columns: int, width: int, device: torch.device) -> Tensor:
    """Returns the fixed table of MAE, [rows, columns, width] float32: half of it from the column, half from the row.

    Source: facebookresearch/mae efb2a80 `util/pos_embed.py`, get_2d_sincos_pos_embed.
    """
    count = functools.partial(torch.arange, dtype=torch.float64, device=device)
    frequencies = 10000.0 ** -(count(width // 4) / (width / 4))
    of_rows, of_columns = (count(n)[:, None] * frequencies for n in (rows, columns))
    by_row = torch.cat([of_rows.sin(), of_rows.cos()], dim=1)[:, None].expand(rows, columns, -1)
    by_column = torch.cat([of_columns.sin(), of_columns.cos()], dim=1)[None].expand(rows, columns, -1)
    return torch.cat([by_column, by_row], dim=2).float()


def sines_over_tokens(grid: Grid, width: int, device: torch.device) -> Tensor:
    """Returns the fixed table of VideoMAE, [frames, rows, columns, width] float32: by the number of the token.

    Source: MCG-NJU/VideoMAE 14ef8d8 `modeling_finetune.py`, get_sinusoid_encoding_table.
    """
    count = functools.partial(torch.arange, dtype=torch.float64, device=device)
    frequencies = 10000.0 ** -(2 * count(width // 2) / width)
    angles = count(grid.frames * grid.rows * grid.columns)[:, None] * frequencies  # [tokens, width / 2]
    table = torch.stack([angles.sin(), angles.cos()], dim=2)  # sine and cosine in turns
    return table.view(grid.frames, grid.rows, grid.columns, width).float()
