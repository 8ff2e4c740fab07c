"""Videos, images and folders of raw frames as uint8 RGB pixels.

What is returned for frame i of a video is the frame that decoding the whole file in order (`sequential.py`) returns as
the i-th, in every container and codec, and its length is the number of frames that such decoding returns.

Three ways lead to frames, each of which returns them or says why it cannot; the first that returns some is it:

1. selectively: only what is needed is decoded, of frames that are verified (`selective.py`);
2. on from a keyframe: all is decoded that follows the last verified one (`continued.py`);
3. in order: all is decoded from the start (`sequential.py`).

FFmpeg does not survive a fork: a process that has decoded must start others by forkserver or spawn.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from fractions import Fraction
from types import TracebackType

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame

from omnisource.data.decoding.checksum import RunningChecksum, claimed_checksum, seems_to_carry_checksum
from omnisource.data.decoding.container import open_video, reason_of
from omnisource.data.decoding.continued import last_verified_keyframe, read_on_from
from omnisource.data.decoding.heartbeat import FRAMES_A_BEAT
from omnisource.data.decoding.packet_index import read_index
from omnisource.data.decoding.rgb import RgbCollector
from omnisource.data.decoding.selective import Refusal, read_what_is_needed
from omnisource.data.decoding.sequential import DecodedFrames, decode_file_in_order, decode_held
from omnisource.data.decoding.verified_files import VerifiedFiles, fingerprint, verified_files
from omnisource.errors import UnreadableMedia

# What is wrong with a video that has packets and gives no frame.
NO_FRAMES = "none of its frames can be decoded"


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
        frames_per_second: Their mean rate as the container tells it; None where it does not.
        time_base: Seconds in one step of the frames' timestamps; None where the container does not tell it.
        declared_frames: Their number as the container tells it, which may be wrong; None where it does not.
    """

    def __init__(
        self, path: str | os.PathLike[str], content: bytes | None = None, verified: VerifiedFiles | None = None
    ) -> None:
        """Opens a video and finds its frames.

        Args:
            path: The file.
            content: Its bytes, where they do not lie at `path`, which then only names them. They are not copied.
            verified: What is known of files that were decoded before, and takes up what is found out about this one. By
                default the memory of the process. It saves time and changes no frame.

        Raises:
            UnreadableMedia: The file is missing, no video, or damaged.
        """
        self.path = os.fspath(path)
        self._content = content
        self._verified = verified_files() if verified is None else verified
        self._fingerprint = fingerprint(self.path, content)
        trusts_container = self._verified.num_verified(self._fingerprint) > 0 or seems_to_carry_checksum(
            self.path, content
        )
        self._container, self._stream = open_video(self.path, content, trusts_container)
        self.frames_per_second: Fraction | None = self._stream.average_rate
        self.time_base: Fraction | None = self._stream.time_base
        declared_packets = self._stream.frames
        try:
            claimed, checksum = claimed_checksum(self._container), RunningChecksum(self._stream)
            self._index = read_index(self._container, self._stream, None if claimed is None else checksum.add)
            # The timestamps of the index, for as long as no frame contradicts them; None: frames are found by counting.
            self._timestamps = self._index.timestamps
            if self._timestamps is None:
                self.close()  # counting frames opens the file again, which rewinds every container the same
            # The packets in memory, for as long as the decoder would decode them as a plain decode does.
            self._undecoded = None if trusts_container else self._index.held_packets
            self.num_frames = self._index.num_frames
            num_hidden = len(self._index.packets) - self.num_frames  # by an edit list
            self.declared_frames = declared_packets - num_hidden if declared_packets else None
            self._is_as_prepared = self._compare_checksum(claimed, checksum)
            if not self._index.is_count_certain:
                self._correct_length()
            self._require_frames()
        except FFmpegError as error:
            self.close()
            raise UnreadableMedia(self.path, f"damaged: its packets cannot be read ({reason_of(error)})") from error
        except BaseException:
            self.close()
            raise

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
        """Returns the frames at `indices`: [len(indices), H, W, 3] uint8, RGB, rotated as the file says.

        The indices come in any order and may repeat: each frame is decoded and converted once. No more than the
        returned frames are held in memory.

        Args:
            indices: 0-based, below `num_frames`; at least one.

        Raises:
            UnreadableMedia: The file is damaged before or at one of the frames.
            FewerFrames: The file has another length than was known; `num_frames` is right from now on.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        positions = RgbCollector(self.path, wanted).positions
        if positions[0] < 0 or positions[-1] >= self.num_frames:
            raise IndexError(f"frames {list(indices)} of {self.path}, which has {self.num_frames}")
        counted = self._verified.num_frames(self._fingerprint)
        if counted is not None and counted <= positions[-1]:
            self.num_frames = counted
            self._require_frames()
            raise FewerFrames(counted)
        for read in (self._read_selectively, self._read_on, self._read_in_order):
            collected = RgbCollector(self.path, wanted)  # what another way has taken does not count
            if read(collected) is None:
                break
        return collected.pixels()

    def all_frames(self) -> Generator[VideoFrame, None, None]:
        """Yields every frame in order, as its decoder returns it: in its pixel format, and not rotated.

        Raises:
            UnreadableMedia: The file is damaged somewhere, gives no frame, or its frames change their size.
        """
        size: tuple[int, int] | None = None
        position = -1
        with closing(self._decode_in_order()) as frames:
            for position, (frame, damaged) in enumerate(frames):
                if damaged is not None:
                    raise UnreadableMedia(self.path, f"damaged: frame {damaged} is not whole")
                if size is not None and (frame.width, frame.height) != size:
                    reason = f"the size of its frames changes from {size[0]}x{size[1]} to {frame.width}x{frame.height}"
                    raise UnreadableMedia(self.path, f"{reason} before frame {position}")
                size = (frame.width, frame.height)
                self._compare_with_index(position, frame)
                self._note_verified(position + 1, is_last=False)
                yield frame
        self._note_verified(position + 1, is_last=True)
        if position + 1 != self._index.num_frames:
            self._verified.remember_num_frames(self._fingerprint, position + 1)
        if size is None:  # the packets promised some, but all of them are taken for a last one that was cut off
            raise UnreadableMedia(self.path, NO_FRAMES)

    def _num_verified(self) -> int:
        """Returns how many frames from the start on may be read without decoding those that precede them."""
        return self.num_frames if self._is_as_prepared else self._verified.num_verified(self._fingerprint)

    def _note_verified(self, num_verified: int, is_last: bool) -> None:
        """Remembers now and then, and where `is_last`, that so many frames came in order and whole."""
        if self._timestamps is not None and (is_last or not num_verified % FRAMES_A_BEAT):
            self._verified.remember_num_verified(self._fingerprint, num_verified)

    def _compare_checksum(self, claimed: str | None, checksum: RunningChecksum) -> bool:
        """Returns whether all packets are as `omnisource prepare` wrote them; False where it did not.

        Raises:
            UnreadableMedia: It wrote them, and they were changed since.
        """
        if claimed is None:
            return False
        # What was prepared can be sought in: if this cannot, its timestamps were changed.
        if self._timestamps is None or checksum.text() != claimed:
            raise UnreadableMedia(self.path, "damaged: it was changed since it was prepared; prepare it again")
        self._verified.remember_num_verified(self._fingerprint, self.num_frames)
        return True

    def _read_selectively(self, collected: RgbCollector) -> Refusal | None:
        """Takes frames that are verified, decoding only what they need."""
        if self._timestamps is None:
            return Refusal("its frames are found by counting")
        num_verified = self._num_verified()
        if num_verified <= collected.positions[-1]:
            return Refusal(f"only {num_verified} of its frames are verified")
        self._undecoded = None
        refusal = read_what_is_needed(self._container, self._stream, self._index, collected.positions, collected)
        if refusal is not None:
            self._give_index_up()
        return refusal

    def _read_on(self, collected: RgbCollector) -> Refusal | None:
        """Takes frames by decoding all that follow the last verified keyframe."""
        if self._timestamps is None:
            return Refusal("its frames are found by counting")
        keyframe = last_verified_keyframe(self._index, self._num_verified(), collected.positions[-1])
        if keyframe is None:
            return Refusal("no keyframe but the first is verified")
        self._undecoded = None
        return read_on_from(keyframe, self._container, self._stream, self._index, collected, self._note_verified)

    def _read_in_order(self, collected: RgbCollector) -> None:
        """Takes frames by decoding all from the start."""
        targets = iter(collected.positions)
        target = next(targets)
        position, damaged = -1, None
        with closing(self._decode_in_order()) as frames:
            for position, (frame, damaged) in enumerate(frames):
                if not self._compare_with_index(position, frame):
                    self._give_index_up()
                if damaged is not None and position >= target:
                    raise UnreadableMedia(self.path, f"damaged: frame {damaged} is not whole")
                if position == target:
                    collected.take(target, frame)
                    target = next(targets, None)
                if damaged is None:
                    self._note_verified(position + 1, is_last=target is None)
                if target is None:
                    return
        if damaged is None:
            self._note_verified(position + 1, is_last=True)
        self.num_frames = position + 1
        self._require_frames()
        self._verified.remember_num_frames(self._fingerprint, self.num_frames)
        raise FewerFrames(self.num_frames)

    def _decode_in_order(self) -> DecodedFrames:
        """Yields all frames from the first on, of the packets that are in memory, or else of the file opened again."""
        held, self._undecoded = self._undecoded, None
        if held is None:
            return decode_file_in_order(self.path, self._content)
        return decode_held(self.path, self._stream, held)

    def _compare_with_index(self, position: int, frame: VideoFrame) -> bool:
        """Returns whether a frame is where the index says; from the first on that is not, the index says nothing."""
        if self._timestamps is not None and not self._index.is_at(position, frame.pts):
            self._timestamps = None
            return False
        return True

    def _give_index_up(self) -> None:
        """Finds frames by counting from now on, the index being wrong about this file.

        Raises:
            FewerFrames: The file has another length than the index says.
        """
        self._timestamps = None
        if self._correct_length():
            raise FewerFrames(self.num_frames)

    def _require_frames(self) -> None:
        if self.num_frames == 0:
            raise UnreadableMedia(self.path, NO_FRAMES)

    def _correct_length(self) -> bool:
        """Counts the frames by decoding all of them; returns whether `num_frames` had to be changed."""
        counted = self._verified.num_frames(self._fingerprint)
        if counted is None:
            with closing(self._decode_in_order()) as frames:
                counted = sum(1 for _ in frames)
            self._verified.remember_num_frames(self._fingerprint, counted)
        before, self.num_frames = self.num_frames, counted
        self._require_frames()
        if counted != self._index.num_frames:
            self._timestamps = None
        return counted != before
