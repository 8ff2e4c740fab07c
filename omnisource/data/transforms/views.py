"""The views of an item: the random one of training, and the fixed ones of evaluation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from omnisource.data.transforms.augment import augment
from omnisource.data.transforms.boxes import random_box
from omnisource.data.transforms.resize import Resize, resized_shape
from omnisource.recipe.data import EvaluationViews, TrainingView


def training_view(frames: np.ndarray, view: TrainingView, rng: np.random.Generator) -> Tensor:
    """Returns one random view of a clip: [3, T, S, S] uint8, with the same draws for all its frames.

    The published order "short side to 256, then crop, then resize" is one antialiased resampling here, straight from
    the pixels of the source.

    Args:
        frames: [T, H, W, 3] uint8.
        view: What to draw; S is its crop size.
        rng: Draws the crop, then the flip, then what the augmentations that are set need.
    """
    _, frame_height, frame_width, _ = frames.shape
    top, left, height, width = random_resized_crop_box(frame_height, frame_width, view, rng)
    return view_of_crop(frames[:, top : top + height, left : left + width], view, rng)


def view_of_crop(crop: np.ndarray, view: TrainingView, rng: np.random.Generator) -> Tensor:
    """Returns what `training_view` makes of a crop that was drawn before: [3, T, S, S] uint8.

    Args:
        crop: [T, h, w, 3] uint8.
        view: What to draw; S is its crop size.
        rng: Draws the flip, then what the augmentations that are set need.
    """
    is_flipped = rng.random() < view.flip_probability
    # [T, h, w, 3] -> [T, 3, h, w] as a view: the layout in which torch resizes uint8 fastest.
    pixels = torch.from_numpy(np.ascontiguousarray(crop)).permute(0, 3, 1, 2)
    size = (view.crop_size, view.crop_size)
    pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    clip = pixels.numpy().transpose(1, 0, 2, 3)  # [T, 3, S, S] -> [3, T, S, S]
    clip = np.ascontiguousarray(clip[..., ::-1] if is_flipped else clip)  # flipped and laid out in one copy
    return augment(torch.from_numpy(clip), view.rand_augment, view.color_jitter, view.random_erasing, rng)


def random_resized_crop_box(
    height: int, width: int, view: TrainingView, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Returns (top, left, height, width) of a random crop, in pixels of a frame of the given size.

    After ten draws that do not fit it is the largest centered square.

    Source: open-mmlab/mmaction2 v1.2.0 (commit 4d6c9347), mmaction/datasets/transforms/processing.py.
    """
    box = random_box(height, width, view, rng)
    if box is not None:
        return box
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def evaluation_views(frames: np.ndarray, views: EvaluationViews) -> Tensor:
    """Returns the fixed views of an item: [V, 3, T, S, S] uint8, ordered by crop, then by clip.

    Args:
        frames: [num_clips, T, H, W, 3] uint8, or [T, H, W, 3] for one clip.
        views: Short side, crops and their size S; V is the number of crops times that of the clips given.

    Source: open-mmlab/mmaction2 v1.2.0 (commit 4d6c9347), configs/recognition/omnisource, as it behaves when run.
    """
    clips = frames if frames.ndim == 5 else frames[None]
    num_clips, clip_length, frame_height, frame_width, _ = clips.shape
    height, width = resized_shape(frame_height, frame_width, views.short_side)
    corners = crop_corners(height, width, views)
    top, left = min(top for top, _ in corners), min(left for _, left in corners)
    bottom = max(top for top, _ in corners) + views.crop_size
    right = max(left for _, left in corners) + views.crop_size
    resize = Resize((frame_height, frame_width), (height, width), rows=slice(top, bottom), columns=slice(left, right))

    size = views.crop_size
    result = torch.empty((len(corners), num_clips, 3, clip_length, size, size), dtype=torch.uint8)
    for clip_number, clip in enumerate(clips):
        for frame_number, frame in enumerate(clip):
            pixels = torch.from_numpy(resize(frame))
            for crop_number, (crop_top, crop_left) in enumerate(corners):
                y, x = crop_top - top, crop_left - left
                result[crop_number, clip_number, :, frame_number] = pixels[:, y : y + size, x : x + size]
    return result.flatten(0, 1)  # [crops, num_clips, ...] -> [V, ...]


def crop_corners(height: int, width: int, views: EvaluationViews) -> list[tuple[int, int]]:
    """Returns (top, left) of every crop of a resized frame, in the order of the views.

    One crop is the center. Three lie at the start, at the end and in the center of the longer side (the width, where
    both are equal), in this order.
    """
    size = views.crop_size
    assert size <= min(height, width), (size, height, width)
    if views.num_crops == 1:
        return [((height - size) // 2, (width - size) // 2)]
    if width >= height:
        step = (width - size) // 2
        return [((height - size) // 2, left) for left in (0, 2 * step, step)]
    step = (height - size) // 2
    return [(top, (width - size) // 2) for top in (0, 2 * step, step)]
