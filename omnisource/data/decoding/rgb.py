"""Decoded frames as RGB pixels, rotated as their file says."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import SideData, SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from omnisource.errors import UnreadableMedia

# What `frame.side_data` returns. That would tie frame and side data to one another until garbage is collected, and with
# them the frame's memory, which its decoder is to reuse.
SIDE_DATA = cast(Callable[[VideoFrame], Iterable[SideData]], SideDataContainer)


@dataclass(frozen=True)
class StreamedFrame:
    """A frame that goes by.

    Attributes:
        position: 0-based.
        seconds: When it is shown, as the file says; None where it does not.
        pixels: [H, W, 3] uint8, RGB; None if it is not wanted.
    """

    position: int
    seconds: float | None
    pixels: np.ndarray | None


def stream_rgb(
    path: str, frames: Iterable[VideoFrame], time_base: Fraction | None, is_wanted: Callable[[int], bool]
) -> Generator[StreamedFrame, None, None]:
    """Yields every frame in its order, with the pixels of those that are wanted: only they are converted.

    Args:
        path: The file, for errors.
        frames: All frames of a video.
        time_base: Seconds in one step of their timestamps; None where it is not known.
        is_wanted: Takes a position; asked once for each, in their order.

    Raises:
        UnreadableMedia: As what yields the frames raises, or the pixel format of one is not supported.
    """
    reformatter = VideoReformatter()
    for position, frame in enumerate(frames):
        seconds = None if frame.pts is None or time_base is None else float(frame.pts * time_base)
        yield StreamedFrame(position, seconds, to_rgb(path, frame, reformatter) if is_wanted(position) else None)


class RgbCollector:
    """The frames that were asked for: each is converted once, and copied to wherever it is wanted.

    Attributes:
        path: The file, for errors.
        positions: Frames to take, ascending, each once.
    """

    def __init__(self, path: str, indices: np.ndarray) -> None:
        """Prepares for the frames at `indices` [N] int64, in any order and with repetitions."""
        assert indices.ndim == 1 and len(indices), indices
        unique, ranks = np.unique(indices, return_inverse=True)
        self.positions: list[int] = unique.tolist()
        self.path = path
        self._indices = {position: np.flatnonzero(ranks == rank) for rank, position in enumerate(self.positions)}
        self._reformatter = VideoReformatter()
        self._length = len(indices)
        self._pixels: np.ndarray | None = None

    def take(self, position: int, frame: VideoFrame) -> None:
        """Converts the frame at `position` and copies it to wherever it is wanted.

        Raises:
            UnreadableMedia: Its pixel format is not supported, or its size is not that of the frames before.
        """
        pixels = to_rgb(self.path, frame, self._reformatter)
        if self._pixels is None:
            self._pixels = np.empty((self._length, *pixels.shape), np.uint8)
        if pixels.shape != self._pixels.shape[1:]:
            sizes = " to ".join(f"{width}x{height}" for height, width, _ in (self._pixels.shape[1:], pixels.shape))
            raise UnreadableMedia(self.path, f"the size of its frames changes from {sizes} before frame {position}")
        self._pixels[self._indices[position]] = pixels

    def pixels(self) -> np.ndarray:
        """Returns all frames: [N, H, W, 3] uint8, RGB."""
        assert self._pixels is not None
        return self._pixels


def to_rgb(path: str, frame: VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """Returns the pixels of a frame, rotated as its file says: [H, W, 3] uint8, RGB.

    Raises:
        UnreadableMedia: Its pixel format is not supported.
    """
    try:
        # FFmpeg would convert with several threads, which costs more than it gains (and workers share cores).
        frame_rgb = reformatter.reformat(frame, format="rgb24", threads=1)
    except (FFmpegError, ValueError) as error:
        raise UnreadableMedia(path, f"its pixel format {frame.format.name} is not supported") from error
    return apply_rotation(frame_rgb.to_ndarray(), frame)


def apply_rotation(pixels: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Returns the pixels [H, W, ...] rotated and mirrored as the file tells players to, to the nearest quarter turn."""
    try:
        side_data = iter(SIDE_DATA(frame))
    except ValueError:
        # PyAV knows not all that FFmpeg may lay beside a frame, but the angle it can always tell.
        return np.rot90(pixels, round(frame.rotation / 90))
    matrix = next((bytes(data) for data in side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return pixels
    # A point at column p and row q is shown at column a*p + c*q and row b*p + d*q.
    # Source: libavutil/display.h of FFmpeg 8.
    a, b, _, c, d = np.frombuffer(matrix, dtype=np.int32)[:5].astype(np.int64)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        mirrors_columns, mirrors_rows = a < 0, d < 0
    else:
        pixels = pixels.swapaxes(0, 1)
        mirrors_columns, mirrors_rows = c < 0, b < 0
    if mirrors_columns:
        pixels = pixels[:, ::-1]
    if mirrors_rows:
        pixels = pixels[::-1]
    return pixels
