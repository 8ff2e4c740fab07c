"""Decoding a video from its start: what every other way of reading it is held against."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import cast

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from omnisource.data.decoding.container import open_video, reason_of
from omnisource.data.decoding.heartbeat import FRAMES_A_BEAT, beat
from omnisource.data.decoding.packet_index import Keyframe, VideoIndex, end_of, read_packets, read_packets_from
from omnisource.errors import UnreadableMedia

DecodedFrames = Generator[tuple[VideoFrame, int | None], None, None]


def decode_file_in_order(path: str, content: bytes | None) -> DecodedFrames:
    """Opens a file and yields what `decode_in_order` makes of it.

    Args:
        path: The file.
        content: Its bytes, where they do not lie at `path`, which then only names them.

    Raises:
        UnreadableMedia: The file, or something in it, cannot be decoded.
    """
    container, stream = open_video(path, content)
    try:
        yield from decode_in_order(path, read_packets(container, stream))
    finally:
        container.close()


def decode_from_keyframe(
    path: str, container: InputContainer, stream: VideoStream, index: VideoIndex, keyframe: Keyframe
) -> DecodedFrames:
    """Yields what `decode_in_order` does from a keyframe on: nothing before it is decoded.

    Args:
        path: The file, for errors.
        container: The file; where it stands changes, if its packets are not in memory.
        stream: Its video, of which the decoder starts again.
        index: Its index, with timestamps.
        keyframe: One of its keyframes.

    Raises:
        UnreadableMedia: Something behind it cannot be decoded.
        FFmpegError: The container cannot be read there.
    """
    packets = read_packets_from(container, stream, index, keyframe)
    stream.codec_context.flush_buffers()
    assert index.timestamps is not None
    first_timestamp = index.timestamps[keyframe.position]
    yield from decode_in_order(path, packets, keyframe.position, first_timestamp)


def decode_held(path: str, stream: VideoStream, packets: Sequence[Packet[VideoStream]]) -> DecodedFrames:
    """Yields what `decode_in_order` does of all packets of a stream, which are in memory.

    Raises:
        UnreadableMedia: Something in the file cannot be decoded.
    """
    return decode_in_order(path, chain(packets, [end_of(stream)]))


def decode_in_order(
    path: str, packets: Iterable[Packet[VideoStream]], position: int = 0, first_timestamp: int | None = None
) -> DecodedFrames:
    """Yields all frames in order, each with the position of the first damaged frame up to it, or None.

    Where the last packet is damaged, the file was cut off, and ends before its first damaged frame.

    Args:
        path: The file, for errors.
        packets: All packets of a stream whose decoder has not decoded anything yet, and the empty one at the end.
        position: Of the first frame, 0-based.
        first_timestamp: Frames before it, in the stream's time base, lead up to the first one and are left out; None
            where there are none.

    Raises:
        UnreadableMedia: Something in the file cannot be decoded.
    """
    damaged = None
    suspects: set[int | None] = set()  # timestamps of frames whose packets are not whole
    try:
        for packet, is_at_end in _packets_to_the_end(packets):
            if packet.is_corrupt:
                suspects.add(packet.pts)
            try:
                frames = packet.decode()
            except FFmpegError:
                if is_at_end:
                    return
                raise
            while frames:
                # Kept no longer than a plain loop would: pixels that a damaged packet leaves undefined are those of an
                # earlier frame, and of which depends on the frames that are still kept.
                frame = frames.pop(0)
                if first_timestamp is not None and frame.pts is not None and frame.pts < first_timestamp:
                    continue
                if damaged is None and (frame.is_corrupt or not suspects.isdisjoint((frame.pts, None))):
                    if is_at_end:
                        return
                    damaged = position
                yield frame, damaged
                position += 1
                if not position % FRAMES_A_BEAT:
                    beat()
    except FFmpegError as error:
        raise UnreadableMedia(path, f"damaged after {position} frames ({reason_of(error)})") from error


def _packets_to_the_end(packets: Iterable[Packet[VideoStream]]) -> Iterator[tuple[Packet[VideoStream], bool]]:
    """Yields all packets, each with whether no other with content follows."""
    end = cast("Packet[VideoStream]", Packet())
    for packet, following in pairwise(chain(packets, [end])):
        yield packet, not following.size
