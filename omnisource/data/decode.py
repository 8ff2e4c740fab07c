"""Videos, images and folders of raw frames as uint8 RGB pixels.

With its parts `video_index.py` and `images.py` the only user of PyAV and Pillow. What is returned for frame i of a
video is the frame that decoding the whole file in order returns as the i-th, in every container and codec, and its
length is the number of frames that such decoding returns.

FFmpeg does not survive a fork: a process that has decoded must start others by forkserver or spawn.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain, pairwise
from types import TracebackType
from typing import cast

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import SideData
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from omnisource.data.images import decode_frame_folder, decode_image, is_empty_file
from omnisource.data.video_index import first_video_stream, read_index, read_packets
from omnisource.errors import UnreadableMedia

__all__ = ["FewerFrames", "VideoFile", "decode_frame_folder", "decode_image"]


class FewerFrames(Exception):
    """A video gave another number of frames, in practice fewer, than its packets promised.

    Not for users: whoever asked for frames chooses them again, with the corrected `VideoFile.num_frames`.

    Attributes:
        actual: Frames that the video has.
    """

    def __init__(self, actual: int) -> None:
        super().__init__(actual)
        self.actual = actual


class VideoFile:
    """An opened video: its length and any of its frames. A context manager, because open containers leak.

    Attributes:
        path: The file, as it was given.
        num_frames: Frames that decoding the whole file returns.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens a video and finds its frames.

        Raises:
            UnreadableMedia: The file is missing, no video, or damaged.
        """
        self.path = os.fspath(path)
        self._container, self._stream = _open(self.path)
        try:
            index = read_index(self._container, self._stream)
        except FFmpegError as error:
            self.close()
            raise UnreadableMedia(self.path, f"damaged: its packets cannot be read ({_reason(error)})") from error
        except BaseException:
            self.close()
            raise
        self._index = index
        self._can_seek = index.timestamps is not None
        if not self._can_seek:
            self.close()  # counting frames opens the file anew, which rewinds every container the same
        self.num_frames = index.num_frames
        if not index.is_count_certain:
            try:
                self._correct_length()
            except BaseException:
                self.close()
                raise
        if self.num_frames == 0:
            self.close()
            raise UnreadableMedia(self.path, "none of its frames can be decoded")

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; may be called again."""
        self._container.close()

    def frames(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the frames at `indices`: [len(indices), H, W, 3] uint8, RGB, turned as the file says.

        The indices come in any order and may repeat: each frame is decoded and converted once. No more than the
        returned frames are held in memory.

        Args:
            indices: 0-based, below `num_frames`; at least one.

        Raises:
            UnreadableMedia: The file is damaged before or at one of the frames.
            FewerFrames: The file has another length than was known; `num_frames` is right from now on.
        """
        collected = _CollectedFrames(self.path, np.asarray(indices, dtype=np.int64))
        if collected.positions[0] < 0 or collected.positions[-1] >= self.num_frames:
            raise IndexError(f"frames {list(indices)} of {self.path}, which has {self.num_frames}")
        if self._can_seek:
            if self._read_by_timestamp(collected):
                return collected.pixels()
            # The index is wrong about this file, so nothing that was read with its help counts.
            self._can_seek = False
            if self._correct_length():
                raise FewerFrames(self.num_frames)
        self._read_by_counting(collected)
        return collected.pixels()

    def decode_all(self) -> int:
        """Decodes every frame, keeping one; returns how many there are.

        Raises:
            UnreadableMedia: The file is damaged somewhere, its frames change their size, or its pixel format is not
                supported.
        """
        position = -1
        collected: _CollectedFrames | None = None
        with closing(self._decode_from_start()) as frames:
            for position, (frame, damaged) in enumerate(frames):
                if damaged is not None:
                    raise UnreadableMedia(self.path, f"damaged: frame {damaged} is not whole")
                if collected is None:
                    collected = _CollectedFrames(self.path, np.zeros(1, dtype=np.int64))
                    size = (frame.width, frame.height)
                    collected.take(0, frame)
                elif (frame.width, frame.height) != size:
                    reason = f"the size of its frames changes from {size[0]}x{size[1]} to {frame.width}x{frame.height}"
                    raise UnreadableMedia(self.path, f"{reason} before frame {position}")
        return position + 1

    def _read_by_timestamp(self, collected: _CollectedFrames) -> bool:
        """Reads frames by seeking; returns False when anything is not as the index says."""
        timestamps = self._index.timestamps
        assert timestamps is not None
        frames: Iterator[VideoFrame] = iter(())
        position = -1  # of the frame that the decoder returns next
        try:
            for target in collected.positions:
                keyframe = self._index.keyframe_before(target)
                has_sought = position < 0 or keyframe.position > position
                if has_sought:
                    self._container.seek(keyframe.seek_timestamp, stream=self._stream)
                    frames = (
                        frame for packet in read_packets(self._container, self._stream) for frame in packet.decode()
                    )
                    position = keyframe.position
                for frame in frames:
                    if has_sought and frame.pts is not None and frame.pts < timestamps[position]:
                        continue  # it leads up to the keyframe, and is whole only when decoding started earlier
                    has_sought = False
                    if frame.pts != timestamps[position] or frame.is_corrupt:
                        return False
                    position += 1
                    if position > target:
                        break
                else:
                    return False
                collected.take(target, frame)
        except FFmpegError:
            return False
        return True

    def _read_by_counting(self, collected: _CollectedFrames) -> None:
        """Reads frames by decoding all from the start."""
        targets = iter(collected.positions)
        target = next(targets)
        position = -1
        with closing(self._decode_from_start()) as frames:
            for position, (frame, damaged) in enumerate(frames):
                if position < target:
                    continue
                if damaged is not None:
                    raise UnreadableMedia(self.path, f"damaged: frame {damaged} is not whole")
                collected.take(target, frame)
                target = next(targets, None)
                if target is None:
                    return
        self.num_frames = position + 1
        if self.num_frames == 0:
            raise UnreadableMedia(self.path, "none of its frames can be decoded")
        raise FewerFrames(self.num_frames)

    def _correct_length(self) -> bool:
        """Counts the frames by decoding all of them; returns whether there are not as many as the index says."""
        with closing(self._decode_from_start()) as frames:
            self.num_frames = sum(1 for _ in frames)
        is_other = self.num_frames != self._index.num_frames
        self._can_seek = self._can_seek and not is_other
        return is_other

    def _decode_from_start(self) -> Generator[tuple[VideoFrame, int | None], None, None]:
        """Yields all frames in order, each with the position of the damaged frame that it leans on, or None.

        Raises:
            UnreadableMedia: Something in the file cannot be decoded.
        """
        container, stream = _open(self.path)
        position, damaged = 0, None
        try:
            end = cast("av.Packet[VideoStream]", av.Packet())
            for packet, following in pairwise(chain(read_packets(container, stream), [end])):
                # Where a file was cut off, its last packet is incomplete. What decoders make of it counts as a frame,
                # as it does for every other program; what they refuse is the end.
                is_at_end = not following.size
                try:
                    frames = packet.decode()
                except FFmpegError:
                    if is_at_end and packet.is_corrupt:
                        continue
                    raise
                for frame in frames:
                    if frame.is_corrupt and not is_at_end:
                        damaged = position
                    elif frame.key_frame:
                        damaged = None
                    yield frame, damaged
                    position += 1
        except FFmpegError as error:
            raise UnreadableMedia(self.path, f"damaged after {position} frames ({_reason(error)})") from error
        finally:
            container.close()


class _CollectedFrames:
    """The frames that were asked for: each is converted once, and copied to wherever it is wanted."""

    def __init__(self, path: str, indices: np.ndarray) -> None:
        assert indices.ndim == 1 and len(indices), indices
        unique, places = np.unique(indices, return_inverse=True)
        self.positions: list[int] = unique.tolist()
        self._path = path
        self._places = {position: np.flatnonzero(places == rank) for rank, position in enumerate(self.positions)}
        self._reformatter = VideoReformatter()
        self._length = len(indices)
        self._pixels: np.ndarray | None = None

    def take(self, position: int, frame: VideoFrame) -> None:
        try:
            # FFmpeg would convert with several threads, which costs more than it gains (and workers share cores).
            frame_rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        except (FFmpegError, ValueError) as error:
            raise UnreadableMedia(self._path, f"its pixel format {frame.format.name} is not supported") from error
        pixels = _turned(frame_rgb.to_ndarray(), frame)
        if self._pixels is None:
            self._pixels = np.empty((self._length, *pixels.shape), np.uint8)
        if pixels.shape != self._pixels.shape[1:]:
            sizes = " to ".join(f"{width}x{height}" for height, width, _ in (self._pixels.shape[1:], pixels.shape))
            raise UnreadableMedia(self._path, f"the size of its frames changes from {sizes} before frame {position}")
        self._pixels[self._places[position]] = pixels

    def pixels(self) -> np.ndarray:
        assert self._pixels is not None
        return self._pixels


def _open(path: str) -> tuple[InputContainer, VideoStream]:
    """Opens a file and its first video stream, for decoding with one thread."""
    try:
        # As a "file:", so that a name with a colon is not taken for a network address, nor a play list for its targets.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except av.error.FileNotFoundError as error:
        raise UnreadableMedia(path, "no such file") from error
    except av.error.IsADirectoryError as error:
        raise UnreadableMedia(path, "a folder, not a file") from error
    except FFmpegError as error:
        reason = "the file is empty" if is_empty_file(path) else f"not a video, or damaged ({_reason(error)})"
        raise UnreadableMedia(path, reason) from error
    stream = first_video_stream(container)
    if stream is None or stream.codec_context is None:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        container.close()
        raise UnreadableMedia(
            path, f"it holds no video, only {kinds}" if stream is None else "there is no decoder for its video codec"
        )
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    stream.codec_context.thread_count = 1  # short reads do not gain from more, and workers share the cores
    return container, stream


def _turned(pixels: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Returns the pixels [H, W, 3] turned and mirrored as the file tells players to, to the nearest quarter turn."""
    try:
        side_data = cast(Iterator[SideData], iter(frame.side_data))  # a mapping by name in its stubs only
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


def _reason(error: FFmpegError) -> str:
    return f"FFmpeg: {error.strerror}"
