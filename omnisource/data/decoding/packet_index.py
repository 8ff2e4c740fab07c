"""Finding the frames of a video file without decoding it: one pass over its packets."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, dropwhile, groupby
from typing import NamedTuple, cast

from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

# Containers whose seeking can be relied on. The first of FFmpeg's names for each: "mov" is mp4 as well.
SEEKABLE_CONTAINERS = ("mov", "matroska")

# Containers that give each packet the timestamp of its frame.
TIMED_CONTAINERS = (*SEEKABLE_CONTAINERS, "flv")

# Containers that store one frame to a packet, from a keyframe on. Elsewhere (transport streams, raw streams) a
# packet may be a field, or belong to frames that were cut away.
COUNTABLE_CONTAINERS = (*TIMED_CONTAINERS, "avi")

# Codecs that give one frame for each packet. VP8 is not among them, because it has packets that are never shown.
COUNTABLE_CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg")

# Codecs of covers. A stream of theirs of which the container tells one frame, or none, is taken for a video only where
# there is no other.
STILL_CODECS = ("mjpeg", "png", "bmp", "gif", "webp")

# A packet of MPEG-4 Part 2 that repeats the frame before it holds a header only, and decodes to nothing.
MAX_EMPTY_PACKET_BYTES = 10

# Packets of this size together stay in memory, so that none is read twice.
MAX_HELD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Keyframe:
    """A packet from which decoding can start.

    Attributes:
        position: Index of the first shown frame that is not before the keyframe, 0-based.
        packet_number: Its index among the packets of the stream, 0-based.
        seek_timestamp: What the container must be asked for to get here, in the stream's time base.
    """

    position: int
    packet_number: int
    seek_timestamp: int


class IndexedPacket(NamedTuple):
    """What is kept of every packet.

    Attributes:
        pts: When its frame is shown, in the stream's time base.
        dts: When it is decoded, in the stream's time base.
        size_bytes: Its size.
        is_keyframe: Whether decoding can start here.
        is_shown: Whether its frame is shown; an edit list hides frames that others need.
        is_damaged: Whether the container says that it is not whole.
    """

    pts: int | None
    dts: int | None
    size_bytes: int
    is_keyframe: bool
    is_shown: bool
    is_damaged: bool


@dataclass(frozen=True)
class Run:
    """Wanted frames that are reached from the same keyframe.

    Attributes:
        keyframe: Where decoding starts.
        first_timestamp: Of the first frame that is whole when it starts there; those before lead up to the keyframe,
            and are whole only when decoding started earlier.
        end: Number of the packet behind the last that is needed.
        wanted: Positions of the wanted frames by their timestamps.
    """

    keyframe: Keyframe
    first_timestamp: int
    end: int
    wanted: dict[int, int]


@dataclass(frozen=True)
class VideoIndex:
    """What the packets of a video say about its frames.

    Attributes:
        num_frames: Packets that are to be shown.
        is_count_certain: Whether that is also the number of frames that a decoder will return.
        timestamps: Presentation timestamps of the frames, ascending, in the stream's time base; None where frames can
            only be found by counting from the start.
        keyframes: Keyframes in ascending order of their positions; empty where there are no timestamps.
        packets: All packets, in the order of decoding.
        held_packets: The packets themselves; None where there are no timestamps, or where they take too much memory.
    """

    num_frames: int
    is_count_certain: bool
    timestamps: tuple[int, ...] | None
    keyframes: tuple[Keyframe, ...]
    packets: Sequence[IndexedPacket]
    held_packets: Sequence[Packet[VideoStream]] | None

    def keyframe_before(self, position: int) -> Keyframe:
        """Returns the last keyframe from which the frame at `position` can be reached."""
        return self.keyframes[bisect_right(self.keyframes, position, key=lambda keyframe: keyframe.position) - 1]

    def is_at(self, position: int, timestamp: int | None) -> bool:
        """Returns whether the frame at `position` has this timestamp; not for an index without timestamps."""
        assert self.timestamps is not None
        return position < len(self.timestamps) and timestamp == self.timestamps[position]

    def runs(self, positions: Sequence[int]) -> Iterator[Run]:
        """Yields what must be decoded for the frames at `positions` (ascending), one run a keyframe."""
        assert self.timestamps is not None
        for keyframe, members in groupby(positions, self.keyframe_before):
            wanted = {self.timestamps[position]: position for position in members}
            end, missing = keyframe.packet_number, len(wanted)
            while missing and end < len(self.packets):
                packet = self.packets[end]
                missing -= packet.is_shown and packet.pts in wanted
                end += 1
            yield Run(keyframe, self.timestamps[keyframe.position], end, wanted)


def first_video_stream(container: InputContainer) -> VideoStream | None:
    """Returns the first stream of moving images; covers and thumbnails are none, also where nothing calls them so."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & still]
    return next((stream for stream in streams if not _seems_still(stream)), streams[0] if streams else None)


def _seems_still(stream: VideoStream) -> bool:
    context = cast("VideoCodecContext | None", stream.codec_context)
    return context is not None and context.codec.canonical_name in STILL_CODECS and stream.frames <= 1


def read_packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yields the packets of `stream` from where the container stands, and an empty one after the last.

    That one tells decoders to hand out what they hold back.

    Raises:
        FFmpegError: The container is damaged.
    """
    # One of PyAV's generators that is dropped before its end leaks about 150 bytes, which pin a page of the heap.
    with closing(cast("Generator[Packet[VideoStream]]", container.demux(stream))) as packets:
        for packet in packets:
            if packet.size:
                yield packet
            elif packet.dts is None:
                # The end. PyAV must not be asked for more: it stumbles over streams that showed up meanwhile.
                yield packet
                return


def read_packets_from(
    container: InputContainer, stream: VideoStream, index: VideoIndex, keyframe: Keyframe
) -> Iterator[Packet[VideoStream]]:
    """Yields the packets of `stream` from a keyframe of its index on, and an empty one after the last.

    None but that one comes where the keyframe is not found.

    Raises:
        FFmpegError: The container is damaged.
    """
    if index.held_packets is not None:
        return chain(index.held_packets[keyframe.packet_number :], [end_of(stream)])
    container.seek(keyframe.seek_timestamp, stream=stream)
    indexed = index.packets[keyframe.packet_number]
    wanted = (indexed.pts, indexed.size_bytes)
    # In mp4 with B-frames seeking leads one keyframe too far back: FFmpeg takes what it is asked for as a time of
    # presentation, and subtracts the largest distance between the two kinds of timestamps.
    packets = read_packets(container, stream)
    return dropwhile(lambda packet: packet.size and (packet.pts, packet.size) != wanted, packets)


def end_of(stream: VideoStream) -> Packet[VideoStream]:
    """Returns the empty packet that tells the decoder of `stream` to hand out what it holds back."""
    end = cast("Packet[VideoStream]", Packet())
    end.stream = stream
    return end


def read_index(
    container: InputContainer, stream: VideoStream, on_packet: Callable[[Packet[VideoStream]], None] | None = None
) -> VideoIndex:
    """Reads all packets of `stream`, without decoding them, and returns its index.

    Afterward the container stands at its end.

    Args:
        container: The file, at its start.
        stream: Its video.
        on_packet: Called with each packet.

    Raises:
        FFmpegError: The container is damaged.
    """
    packets: list[IndexedPacket] = []
    held: list[Packet[VideoStream]] | None = [] if _is_container(container, TIMED_CONTAINERS) else None
    held_bytes = 0
    for packet in read_packets(container, stream):
        size_bytes = packet.size
        if not size_bytes:
            break
        packets.append(
            IndexedPacket(
                packet.pts, packet.dts, size_bytes, packet.is_keyframe, not packet.is_discard, packet.is_corrupt
            )
        )
        held_bytes += size_bytes
        if on_packet is not None:
            on_packet(packet)
        if held is not None:
            held.append(packet)
            held = held if held_bytes <= MAX_HELD_BYTES else None
    timestamps = _timestamps(container, packets)
    if held is None and not _is_container(container, SEEKABLE_CONTAINERS):
        timestamps = None
    return VideoIndex(
        # An edit list hides frames: their packets are decoded, because others need them, and never shown.
        num_frames=sum(packet.is_shown for packet in packets),
        is_count_certain=_is_count_certain(container, stream, packets),
        timestamps=timestamps,
        keyframes=_keyframes(container, packets, timestamps) if timestamps else (),
        packets=packets,
        held_packets=held if timestamps else None,
    )


def _timestamps(container: InputContainer, packets: list[IndexedPacket]) -> tuple[int, ...] | None:
    """Returns the timestamps of the shown frames, ascending, if each frame has its own and can be found by it."""
    if not _is_container(container, TIMED_CONTAINERS) or not _starts_with_first_frame(packets):
        return None
    needs_dts = _seeks_by_decoding(container)
    if any(packet.pts is None or (needs_dts and packet.dts is None) for packet in packets):
        return None
    timestamps = sorted(packet.pts for packet in packets if packet.is_shown and packet.pts is not None)
    if not timestamps or len(set(timestamps)) < len(timestamps):
        return None
    return tuple(timestamps)


def _keyframes(
    container: InputContainer, packets: list[IndexedPacket], timestamps: tuple[int, ...]
) -> tuple[Keyframe, ...]:
    """Returns the keyframes, at most one for a position: the last that suffices."""
    keyframes: dict[int, Keyframe] = {}
    seeks_by_decoding = _seeks_by_decoding(container)
    for number, packet in enumerate(packets):
        seek_timestamp = packet.dts if seeks_by_decoding else packet.pts
        if packet.is_keyframe and packet.pts is not None and seek_timestamp is not None:
            position = bisect_left(timestamps, packet.pts)
            keyframes[position] = Keyframe(position, number, seek_timestamp)
    return tuple(keyframes[position] for position in sorted(keyframes))


def _is_count_certain(container: InputContainer, stream: VideoStream, packets: list[IndexedPacket]) -> bool:
    codec = stream.codec_context.codec.canonical_name
    return (
        _is_container(container, COUNTABLE_CONTAINERS)
        and codec in COUNTABLE_CODECS
        and _starts_with_first_frame(packets)
        and not any(packet.is_damaged for packet in packets)
        and not (codec == "mpeg4" and min(packet.size_bytes for packet in packets) <= MAX_EMPTY_PACKET_BYTES)
    )


def _starts_with_first_frame(packets: list[IndexedPacket]) -> bool:
    """Returns whether decoding starts with a keyframe that nothing precedes.

    Otherwise the stream was cut somewhere: its first frames need others that are gone, and decoders leave them out.
    """
    if not packets or not packets[0].is_keyframe:
        return False
    first = packets[0].pts
    return first is None or all(packet.pts is None or packet.pts >= first for packet in packets)


def _seeks_by_decoding(container: InputContainer) -> bool:
    """Returns whether seeking looks timestamps of decoding up (mp4 and mov), not of presentation (matroska)."""
    return _is_container(container, ("mov",))


def _is_container(container: InputContainer, names: tuple[str, ...]) -> bool:
    return container.format.name.split(",")[0] in names
