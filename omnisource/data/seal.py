"""The seal of a prepared video: a checksum of all its packets, kept in the file itself.

Flipped bits in a video can decode to other pixels without any error. Whoever opens a sealed video reads all packets
anyway, and knows then that every one of them is as it was written.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

SEAL_KEY = "comment"
"""Name of the seal among the metadata of a container; one that MP4 has."""

_BEGINNING = "prepared by omnisource, CRC-32 "
_HEADER = struct.Struct("<q?")  # of a packet: its timestamp and whether it is a keyframe


def seal_of(stream: VideoStream, packets: Iterable[Packet[VideoStream]]) -> str:
    """Returns the seal of a video: a function of its packets, their timestamps and the header of its codec.

    Args:
        stream: The video.
        packets: All its packets.
    """
    checksum, count = zlib.crc32(stream.codec_context.extradata or b""), 0
    for packet in packets:
        count += 1
        pts = packet.pts if packet.pts is not None else -1  # a prepared video has none below 0
        checksum = zlib.crc32(_HEADER.pack(pts, packet.is_keyframe), checksum)
        checksum = zlib.crc32(packet, checksum)
    return f"{_BEGINNING}{checksum:08x} of {count} packets"


def claimed_seal(container: InputContainer) -> str | None:
    """Returns the seal that a file carries, or None where it has none."""
    text = container.metadata.get(SEAL_KEY, "")
    return text if text.startswith(_BEGINNING) else None
