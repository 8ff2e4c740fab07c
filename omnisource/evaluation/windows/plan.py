"""Where the windows of a long video lie, and which of its frames they look at: arithmetic, apart from decoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from omnisource.data.loading.clip_sampling import evaluation_indices
from omnisource.recipe.data import ClipSampling


@dataclass(frozen=True)
class WindowSpan:
    """How long windows are, and how far one is from the next, in frames.

    Attributes:
        length: Frames of a window, at least 1.
        stride: Frames from one start to the next, at least 1.
    """

    length: int
    stride: int


def window_span(
    sampling: ClipSampling, frames_per_second: float, window_seconds: float | None, stride_seconds: float | None
) -> WindowSpan:
    """Returns windows of given seconds.

    Args:
        sampling: How clips are taken.
        frames_per_second: Of the video.
        window_seconds: None: as long as one clip.
        stride_seconds: None: half a window.
    """
    if window_seconds is None:
        length = (sampling.clip_length - 1) * sampling.frame_interval + 1
    else:
        length = max(1, round(window_seconds * frames_per_second))
    stride = max(1, length // 2) if stride_seconds is None else max(1, round(stride_seconds * frames_per_second))
    return WindowSpan(length, stride)


def window_starts(num_frames: int, span: WindowSpan) -> list[int]:
    """Returns the first frame of every window: one a stride, and a last one that ends with the video.

    A video that is shorter than a window is one window.
    """
    last = num_frames - span.length
    if last <= 0:
        return [0]
    starts = list(range(0, last + 1, span.stride))
    return starts if starts[-1] == last else [*starts, last]


class WindowFrames:
    """Which frames windows look at: in each window those that testing looks at in a video of its length.

    Args:
        length: Frames of a window; that of the video where it is shorter.
        sampling: How clips are taken.
        num_clips: Clips of the test protocol.

    Attributes:
        offsets: [clips, T] frames of a window, counted from its start; the clips are one where all would be the same.
    """

    def __init__(self, length: int, sampling: ClipSampling, num_clips: int) -> None:
        offsets = evaluation_indices(length, sampling, num_clips)
        self.offsets = offsets[:1] if (offsets == offsets[0]).all() else offsets
        self._unique = frozenset(self.offsets.ravel().tolist())

    @property
    def last(self) -> int:
        """The last frame of a window that is looked at."""
        return max(self._unique)

    def is_wanted(self, position: int, starts: Iterator[int] | list[int]) -> bool:
        """Returns whether one of the windows that start at `starts` looks at the frame at a position of the video."""
        return any(position - start in self._unique for start in starts)


def clip_positions(start: int, frames: WindowFrames) -> np.ndarray:
    """Returns the frames of the video that one window looks at: [clips, T] int64."""
    return frames.offsets + start
