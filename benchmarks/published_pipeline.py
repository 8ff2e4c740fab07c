"""What the published pipeline does with a video, out of its parts: decord and OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import decord
import numpy as np

from omnisource.data.loading.clip_sampling import evaluation_indices, training_indices
from omnisource.data.transforms.resize import resized_shape
from omnisource.data.transforms.views import crop_corners, random_resized_crop_box
from omnisource.recipe.data import ClipSampling, EvaluationViews, TrainingView

SHORT_SIDE = 256
TEN_BY_THREE = EvaluationViews(num_clips=10, num_crops=3, short_side=SHORT_SIDE, crop_size=256)


def their_clip(path: Path, rng: np.random.Generator) -> np.ndarray:
    """Source: configs/recognition/slowonly of open-mmlab/mmaction2: decord, Resize, RandomResizedCrop, Resize, Flip."""
    video = decord.VideoReader(str(path), num_threads=1)
    frames = video.get_batch(training_indices(len(video), ClipSampling(), rng)).asnumpy()
    height, width = resized_shape(*frames.shape[1:3], SHORT_SIDE)
    resized = [cv2.resize(frame, (width, height)) for frame in frames]
    top, left, rows, columns = random_resized_crop_box(height, width, TrainingView(), rng)
    cropped = [cv2.resize(frame[top : top + rows, left : left + columns], (224, 224)) for frame in resized]
    flipped = [frame[:, ::-1] for frame in cropped] if rng.random() < 0.5 else cropped
    return np.ascontiguousarray(np.stack(flipped).transpose(3, 0, 1, 2))


def their_views(path: Path, rng: np.random.Generator) -> np.ndarray:
    """Returns views [30, 3, 8, 256, 256] uint8.

    Source: configs/recognition/omnisource of open-mmlab/mmaction2: decord, Resize, ThreeCrop.
    """
    del rng  # tests draw nothing
    video = decord.VideoReader(str(path), num_threads=1)
    indices = evaluation_indices(len(video), ClipSampling(), TEN_BY_THREE.num_clips)
    return three_crops(video.get_batch(indices.ravel()).asnumpy(), indices.shape)


def their_views_in_order(path: Path, rng: np.random.Generator) -> np.ndarray:
    """Returns the same, with the frames of all clips read in one pass, which the published pipeline does not do."""
    del rng
    video = decord.VideoReader(str(path), num_threads=1)
    indices = evaluation_indices(len(video), ClipSampling(), TEN_BY_THREE.num_clips)
    unique, places = np.unique(indices, return_inverse=True)
    return three_crops(video.get_batch(unique).asnumpy()[places.ravel()], indices.shape)


def three_crops(frames: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns views [30, 3, 8, 256, 256] uint8 of frames [80, H, W, 3] of clips of `shape`."""
    height, width = resized_shape(*frames.shape[1:3], TEN_BY_THREE.short_side)
    resized = [cv2.resize(frame, (width, height)) for frame in frames]
    size = TEN_BY_THREE.crop_size
    crops = [
        np.stack([frame[top : top + size, left : left + size] for frame in resized])
        for top, left in crop_corners(height, width, TEN_BY_THREE)
    ]
    views = np.stack(crops).reshape(-1, *shape, size, size, 3)  # [crops, clips, T, H, W, 3]
    return np.ascontiguousarray(views.transpose(0, 1, 5, 2, 3, 4)).reshape(-1, 3, shape[1], size, size)
