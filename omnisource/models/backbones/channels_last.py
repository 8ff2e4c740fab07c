"""The layout of features in evaluation: channels last in memory, which makes convolutions faster.

In training features keep the layout of the input: with the channels last, torch's batch normalization on the CPU adds
up float32 without the digits that it has otherwise, and variances of large batches are off by 1e-5 to 1e-4 of their
size. Parameters are never laid out so: files and gradients keep their layout. Nor is what is exported: the program that
runs a graph chooses, and to ask for a layout would fix sizes in it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def with_channels_last(x: Tensor) -> Tensor:
    """Returns x, [N, C, T, H, W] or [N, C, H, W], with the channels last in memory."""
    if torch.compiler.is_exporting():
        return x
    return x.contiguous(memory_format=torch.channels_last_3d if x.ndim == 5 else torch.channels_last)


def has_channels_last(clips: Tensor) -> bool:
    """Returns whether the channels of clips, [N, C, T, H, W], lie last in memory."""
    return not torch.compiler.is_exporting() and clips.is_contiguous(memory_format=torch.channels_last_3d)


def as_frames(clips: Tensor) -> Tensor:
    """Returns clips as images: [N, C, T, H, W] -> [N * T, C, H, W]; a view where the channels are last."""
    return clips.transpose(1, 2).flatten(0, 1)


def as_clips(frames: Tensor, num_clips: int) -> Tensor:
    """Returns a view of images as clips: [N * T, C, H, W] -> [N, C, T, H, W]."""
    return frames.unflatten(0, (num_clips, -1)).transpose(1, 2)


def pool(x: Tensor) -> Tensor:
    """Returns the pool of images, [N, C, H, W], at half their height and width."""
    return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def pool_clips(x: Tensor) -> Tensor:
    """Returns the pool of [N, C, T, H, W] along space; on a GPU torch's 3-D pool has no deterministic gradient."""
    if has_channels_last(x):
        return as_clips(pool(as_frames(x)), len(x))
    return pool(x.flatten(1, 2)).unflatten(1, x.shape[1:3])  # [N, C, T, H, W] -> [N, C * T, H, W] and back
