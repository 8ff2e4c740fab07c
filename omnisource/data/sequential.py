"""Decoding a video from its start: what every other way of reading it is held against."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import chain, pairwise
from typing import cast

import av
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from omnisource.data.video_container import open_video, reason_of
from omnisource.data.video_index import read_packets
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


def decode_in_order(path: str, packets: Iterable[Packet[VideoStream]]) -> DecodedFrames:
    """Yields all frames in order, each with the position of the first damaged frame up to it, or None.

    Where the last packet is damaged, the file was cut off, and ends before its first damaged frame.

    Args:
        path: The file, for errors.
        packets: All packets of a stream whose decoder has not decoded anything yet, and the empty one at the end.

    Raises:
        UnreadableMedia: Something in the file cannot be decoded.
    """
    position, damaged = 0, None
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
                if damaged is None and (frame.is_corrupt or not suspects.isdisjoint((frame.pts, None))):
                    if is_at_end:
                        return
                    damaged = position
                yield frame, damaged
                position += 1
    except FFmpegError as error:
        raise UnreadableMedia(path, f"damaged after {position} frames ({reason_of(error)})") from error


def _packets_to_the_end(packets: Iterable[Packet[VideoStream]]) -> Iterator[tuple[Packet[VideoStream], bool]]:
    """Yields all packets, each with whether no other with content follows."""
    end = cast("Packet[VideoStream]", av.Packet())
    for packet, following in pairwise(chain(packets, [end])):
        yield packet, not following.size
