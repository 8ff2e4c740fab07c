"""Which frames of a video make a clip: index arithmetic, apart from decoding."""

from __future__ import annotations

import numpy as np

from omnisource.recipe.data import ClipSampling


def training_indices(num_frames: int, sampling: ClipSampling, rng: np.random.Generator) -> np.ndarray:
    """Returns the frames of one random clip: [T] int64, 0-based; beyond the end they wrap around to the start.

    Args:
        num_frames: Length of the video, at least 1.
        sampling: Length and interval of the clip.
        rng: Draws the start, uniformly from the integers 0 .. max(0, num_frames - T * interval).

    Source: open-mmlab/mmaction2 v1.2.0 (commit 4d6c9347), configs/recognition/omnisource, as it behaves when run.
    """
    last_start = max(0, num_frames - sampling.clip_length * sampling.frame_interval)
    start = rng.integers(0, last_start, endpoint=True)
    return _clips_from(np.array([start]), num_frames, sampling)[0]


def evaluation_indices(num_frames: int, sampling: ClipSampling, num_clips: int) -> np.ndarray:
    """Returns the frames of clips spread evenly over a video: [num_clips, T] int64, 0-based, wrapping at the end.

    One clip lies in the middle; of several the first starts with the video, and the last ends with it.

    Args:
        num_frames: Length of the video, at least 1.
        sampling: Length and interval of the clips.
        num_clips: How many clips, at least 1.

    Source: open-mmlab/mmaction2 v1.2.0 (commit 4d6c9347), configs/recognition/omnisource, as it behaves when run.
    """
    assert num_clips >= 1, num_clips
    # Unlike in training, where the published system counts the interval after the last frame as part of the clip.
    span = (sampling.clip_length - 1) * sampling.frame_interval + 1
    last_start = max(0, num_frames - span)
    if num_clips == 1:
        starts = np.array([last_start // 2])
    else:
        starts = np.rint(np.arange(num_clips) * last_start / (num_clips - 1))  # halves to even
    return _clips_from(starts, num_frames, sampling)


def _clips_from(starts: np.ndarray, num_frames: int, sampling: ClipSampling) -> np.ndarray:
    assert num_frames >= 1, num_frames
    offsets = np.arange(sampling.clip_length) * sampling.frame_interval
    return (starts.astype(np.int64)[:, None] + offsets) % num_frames
