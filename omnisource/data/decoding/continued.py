"""Decoding on from the last verified keyframe of a video that is not verified to its end."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from contextlib import closing

from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from omnisource.data.decoding.packet_index import Keyframe, VideoIndex
from omnisource.data.decoding.rgb import RgbCollector
from omnisource.data.decoding.selective import Refusal, read_what_is_needed
from omnisource.data.decoding.sequential import decode_from_keyframe
from omnisource.errors import UnreadableMedia


def last_verified_keyframe(index: VideoIndex, num_verified: int, last_position: int) -> Keyframe | None:
    """Returns the last keyframe from which decoding can go on, or None where that is the beginning.

    Args:
        index: Index of the video, with timestamps.
        num_verified: Frames from the start on that are verified.
        last_position: Of the last frame that is wanted.
    """
    # The frame of the keyframe must have come in its place, too: decoders can leave out just that one.
    # Other processes may have verified more meanwhile than is wanted.
    keyframe = index.keyframe_before(min(max(0, num_verified - 1), last_position))
    return keyframe if keyframe.position else None


def read_on_from(
    keyframe: Keyframe,
    container: InputContainer,
    stream: VideoStream,
    index: VideoIndex,
    collected: RgbCollector,
    note_verified: Callable[[int, bool], None],
) -> Refusal | None:
    """Takes frames by decoding all that follow a keyframe; those before it, which are verified, selectively.

    Args:
        keyframe: From `last_verified_keyframe`.
        container: The file; where it stands changes, if its packets are not in memory.
        stream: Its video, of which the decoder starts again.
        index: Its index, with timestamps.
        collected: Takes them; where they are refused, it may hold wrong ones.
        note_verified: Called after each frame with the number of frames that are whole up to it, and whether it was the
            last that is decoded.
    """
    first = bisect_left(collected.positions, keyframe.position)
    earlier, targets = collected.positions[:first], deque(collected.positions[first:])
    try:
        with closing(decode_from_keyframe(collected.path, container, stream, index, keyframe)) as frames:
            for position, (frame, damaged) in enumerate(frames, keyframe.position):
                if damaged is not None or not index.is_at(position, frame.pts):
                    return Refusal(f"frame {position} is damaged, or is not where the index says")
                if position == keyframe.position and not frame.key_frame:
                    return Refusal("the container calls something a keyframe that is none")
                if position == targets[0]:
                    collected.take(targets.popleft(), frame)
                note_verified(position + 1, not targets)
                if not targets:
                    break
        if targets:
            return Refusal("its frames end before the last that is wanted")
        return read_what_is_needed(container, stream, index, earlier, collected) if earlier else None
    except (UnreadableMedia, FFmpegError) as error:
        return Refusal(str(error))
