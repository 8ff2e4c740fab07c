"""Resizing, cropping, flipping and augmenting of uint8 frames."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from omnisource.data.transforms.augment import augment
from omnisource.recipe.data import EvaluationViews, TrainingView

# A random crop that does not fit into the frame is drawn again, this often.
CROP_TRIES = 10

# OpenCV's weights of neighboring pixels are integers that sum to this.
WEIGHT_SCALE = 2048


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
    is_flipped = rng.random() < view.flip_probability
    crop = np.ascontiguousarray(frames[:, top : top + height, left : left + width])
    # [T, h, w, 3] -> [T, 3, h, w] as a view: the layout in which torch resizes uint8 fastest.
    pixels = torch.from_numpy(crop).permute(0, 3, 1, 2)
    size = (view.crop_size, view.crop_size)
    pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    if is_flipped:
        pixels = pixels.flip(-1)
    clip = pixels.transpose(0, 1).contiguous()  # [T, 3, S, S] -> [3, T, S, S]
    return augment(clip, view.rand_augment, view.color_jitter, view.random_erasing, rng)


def random_resized_crop_box(
    height: int, width: int, view: TrainingView, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Returns (top, left, height, width) of a random crop, in pixels of a frame of the given size.

    Its area is drawn uniformly as a share of the frame's, its aspect log-uniformly. After ten draws that do not fit it
    is the largest centerd square.

    Source: open-mmlab/mmaction2 v1.2.0 (commit 4d6c9347), mmaction/datasets/transforms/processing.py.
    """
    areas = rng.uniform(view.min_area, view.max_area, CROP_TRIES) * height * width
    aspects = np.exp(rng.uniform(np.log(view.min_aspect), np.log(view.max_aspect), CROP_TRIES))
    crop_heights = np.rint(np.sqrt(areas / aspects)).astype(int).tolist()
    crop_widths = np.rint(np.sqrt(areas * aspects)).astype(int).tolist()
    for crop_height, crop_width in zip(crop_heights, crop_widths, strict=True):
        if 1 <= crop_height <= height and 1 <= crop_width <= width:
            top = int(rng.integers(0, height - crop_height, endpoint=True))
            left = int(rng.integers(0, width - crop_width, endpoint=True))
            return top, left, crop_height, crop_width
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
    resize = _Resize((frame_height, frame_width), (height, width), rows=slice(top, bottom), columns=slice(left, right))

    size = views.crop_size
    result = torch.empty((len(corners), num_clips, 3, clip_length, size, size), dtype=torch.uint8)
    for clip_number, clip in enumerate(clips):
        for frame_number, frame in enumerate(clip):
            pixels = torch.from_numpy(resize(frame))
            for crop_number, (crop_top, crop_left) in enumerate(corners):
                y, x = crop_top - top, crop_left - left
                result[crop_number, clip_number, :, frame_number] = pixels[:, y : y + size, x : x + size]
    return result.flatten(0, 1)  # [crops, num_clips, ...] -> [V, ...]


def resized_shape(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Returns (height, width) of a frame after resizing its short side to `short_side` pixels."""
    scale = short_side / min(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


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


class _Resize:
    """Bilinear resizing of [H, W, 3] uint8 without antialiasing, bit for bit as OpenCV's INTER_LINEAR does it.

    OpenCV counts in integers and cuts bits off in the vertical pass, which is why a general routine differs by a level
    here and there. Only the rows and columns that are asked for are computed.

    Source: opencv/opencv 4.x, modules/imgproc/src/resize.cpp: the coefficients of `resize`, and `VResizeLinear` of
    uchar.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int], rows: slice, columns: slice) -> None:
        self._is_identity = source == target
        self._rows, self._columns = rows, columns
        upper, lower, lower_weights = _neighbors(source[0], target[0], rows)
        self._source_rows, places = np.unique(np.concatenate([upper, lower]), return_inverse=True)
        self._upper, self._lower = np.split(places, 2)  # among the source rows that are read at all
        self._lower_weights = lower_weights[:, None, None]
        self._upper_weights = WEIGHT_SCALE - self._lower_weights
        self._left, self._right, right_weights = _neighbors(source[1], target[1], columns)
        self._right_sixteenths, self._right_rest = (
            part.astype(np.int16)[:, None, None] for part in np.divmod(right_weights, 16)
        )
        # Room for what comes between, because asking for new memory takes longer than the sums.
        num_rows, height, width = len(self._source_rows), len(upper), len(self._left)
        self._source = np.empty((num_rows, source[1], 3), np.uint8)
        self._source_columns = np.empty((source[1], 3, num_rows), np.uint8)
        self._picked = np.empty((width, 3, num_rows), np.uint8)
        self._wide, self._change, self._product = np.empty((3, width, 3, num_rows), np.int16)
        self._wide_rows = np.empty((num_rows, 3, width), np.int16)
        self._picked_rows = np.empty((height, 3, width), np.int16)
        self._sum, self._part = np.empty((2, height, 3, width), np.int32)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Returns the chosen rows and columns of the resized frame: [3, h, w] uint8."""
        if self._is_identity:
            return np.ascontiguousarray(frame[self._rows, self._columns].transpose(2, 0, 1))
        # This runs for every frame of every evaluation: columns lie as runs of bytes when columns are picked, rows when
        # rows are, and numbers have 16 bits for as long as they fit.
        frame.take(self._source_rows, axis=0, out=self._source, mode="clip")
        np.copyto(self._source_columns, self._source.transpose(1, 2, 0))  # [H', W, 3] -> [W, 3, H']
        self._resize_columns()
        np.copyto(self._wide_rows, self._wide.transpose(2, 1, 0))  # [w, 3, H'] -> [H', 3, w]
        self._scaled_rows(self._upper, self._upper_weights, self._sum)
        self._scaled_rows(self._lower, self._lower_weights, self._part)
        self._sum += self._part
        self._sum += 2
        self._sum >>= 2
        return self._sum.astype(np.uint8).transpose(1, 0, 2)  # [h, 3, w] -> [3, h, w]

    def _resize_columns(self) -> None:
        """Computes (left * (WEIGHT_SCALE - weight) + right * weight) >> 4, of which no part exceeds 16 bits."""
        self._source_columns.take(self._left, axis=0, out=self._picked, mode="clip")
        np.copyto(self._wide, self._picked)
        self._source_columns.take(self._right, axis=0, out=self._picked, mode="clip")
        np.subtract(self._picked, self._wide, out=self._change)
        self._wide *= np.int16(WEIGHT_SCALE >> 4)
        self._wide += np.multiply(self._change, self._right_sixteenths, out=self._product)
        self._change *= self._right_rest
        self._change >>= 4
        self._wide += self._change

    def _scaled_rows(self, rows: np.ndarray, weights: np.ndarray, result: np.ndarray) -> None:
        """Computes (row * weight) >> 16."""
        self._wide_rows.take(rows, axis=0, out=self._picked_rows, mode="clip")
        np.copyto(result, self._picked_rows)
        result *= weights
        result >>= 16


def _neighbors(source: int, target: int, wanted: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns, for each wanted pixel of a side, the two source pixels around it and the weight of the second."""
    centers = ((np.arange(target)[wanted] + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(centers).astype(np.int64)
    weights = np.rint((centers - first.astype(np.float32)) * np.float32(WEIGHT_SCALE)).astype(np.int32)
    return first.clip(0, source - 1), (first + 1).clip(0, source - 1), weights
