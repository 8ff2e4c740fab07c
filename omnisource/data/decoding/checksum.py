"""The checksum of a prepared video: of all its packets, kept in the file itself.

Flipped bits in a video can decode to other pixels without any error. Whoever opens a prepared video reads all packets
anyway, and knows then that every one of them is as it was written.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

CHECKSUM_KEY = "comment"
"""Name of the checksum among the metadata of a container; one that MP4 has."""

_BEGINNING = "prepared by omnisource, CRC-32 "
_HEAD_BYTES = 2**16  # the table of a prepared video is its beginning; of 10 minutes it is smaller than this


class RunningChecksum:
    """The checksum of a video whose packets come one after the other.

    Args:
        stream: The video.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._of_content = zlib.crc32(stream.codec_context.extradata or b"")
        self._timestamps: list[int] = []
        self._keyframes = bytearray()

    def add(self, packet: Packet[VideoStream]) -> None:
        """Takes up the next packet."""
        self._of_content = zlib.crc32(packet, self._of_content)
        self._timestamps.append(-1 if packet.pts is None else packet.pts)  # a prepared video has none below 0
        self._keyframes.append(packet.is_keyframe)

    def text(self) -> str:
        """Returns the checksum: a function of the packets, their timestamps and the header of the codec."""
        timestamps = np.array(self._timestamps, dtype="<i8").tobytes()
        checksum = zlib.crc32(timestamps, zlib.crc32(self._keyframes, self._of_content))
        return f"{_BEGINNING}{checksum:08x} of {len(self._timestamps)} packets"


def checksum_of(stream: VideoStream, packets: Iterable[Packet[VideoStream]]) -> str:
    """Returns the checksum of a video.

    Args:
        stream: The video.
        packets: All its packets.
    """
    checksum = RunningChecksum(stream)
    for packet in packets:
        checksum.add(packet)
    return checksum.text()


def seems_to_carry_checksum(path: str, content: bytes | None) -> bool:
    """Returns whether a file probably carries a checksum, having looked at its beginning; `claimed_checksum` knows.

    Args:
        path: The file.
        content: Its bytes, where they do not lie at `path`.
    """
    if content is not None:
        return content.find(_BEGINNING.encode(), 0, _HEAD_BYTES) >= 0
    try:
        with open(path, "rb") as file:
            return _BEGINNING.encode() in file.read(_HEAD_BYTES)
    except OSError:  # whoever opens it says so
        return False


def claimed_checksum(container: InputContainer) -> str | None:
    """Returns the checksum that a file carries, or None where it has none."""
    text = container.metadata.get(CHECKSUM_KEY, "")
    return text if text.startswith(_BEGINNING) else None
