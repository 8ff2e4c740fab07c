"""The moments of each channel of a batch, and those of several batches together, in float64.

Moments are one tensor, [2 C + 1] float64: the C means, the C sums of squared deviations from them, and the number of
values a channel. So they are joined, and sent to other processes, as they are.

Source: Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance", for joining the variances of parts
without a difference of large squares.
"""

from __future__ import annotations

import torch
from torch import Tensor


def moments_of(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns the moments of x, [N, C, ...]; means and variances are computed in `dtype`, also for x of half precision.

    Returns:
        [2 C + 1] float64.
    """
    variance, mean = torch.var_mean(x.to(dtype), dim=all_but_channels(x), correction=0)
    count = x.numel() // x.shape[1]
    mean, variance = mean.double(), variance.double()
    return torch.cat([mean, variance * count, mean.new_tensor([count])])


def joined_moments(parts: Tensor) -> Tensor:
    """Returns the moments of several parts together, [parts, 2 C + 1] -> [2 C + 1]; parts may be empty, not all."""
    channels = parts.shape[1] // 2
    means, squares, counts = parts.split([channels, channels, 1], dim=1)
    total = counts.sum()
    joined = (counts * means).sum(dim=0) / total
    squares = (squares + counts * (means - joined) ** 2).sum(dim=0)  # [parts, C] -> [C]
    return torch.cat([joined, squares, total[None]])


def split_moments(moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns means [C], sums of squared deviations [C] and the count, a scalar, all float64."""
    channels = len(moments) // 2
    mean, squares, count = moments.split([channels, channels, 1])
    return mean, squares, count[0]


def all_but_channels(x: Tensor) -> list[int]:
    """Returns the dimensions of x, [N, C, ...], over which the moments of a channel go."""
    return [dimension for dimension in range(x.ndim) if dimension != 1]
