"""Decoding only what some frames of a video need."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from omnisource.data.collected_frames import CollectedFrames
from omnisource.data.spare_pictures import spare_packets
from omnisource.data.video_index import MAX_HELD_BYTES, Run, VideoIndex, read_packets_from


def read_what_is_needed(
    container: InputContainer, stream: VideoStream, index: VideoIndex, collected: CollectedFrames
) -> bool:
    """Takes the frames to collect, decoding from the keyframes before them; returns whether all was as expected.

    If not, frames that were taken may be wrong.

    Args:
        container: The file; where it stands changes, if its packets are not in memory.
        stream: Its video, of which the decoder starts anew.
        index: Its index, with timestamps.
        collected: Says which frames are wanted, and takes them.

    Raises:
        UnreadableMedia: Frames cannot be converted.
    """
    try:
        return all(_read_run(container, stream, index, run, collected) for run in index.runs(collected.positions))
    except FFmpegError:
        return False


def _read_run(
    container: InputContainer, stream: VideoStream, index: VideoIndex, run: Run, collected: CollectedFrames
) -> bool:
    """Takes the wanted frames of a run; returns whether all frames came that the decoder was given packets of."""
    packets = _needed_packets(container, stream, index, run)
    timestamps = (packet.pts for packet in packets if not packet.is_discard)
    expected = sorted(pts for pts in timestamps if pts is not None and pts >= run.first_timestamp)
    num_seen, num_taken = 0, 0
    decoder = stream.codec_context
    decoder.flush_buffers()
    for packet in (*packets, None):  # None: the decoder hands out what it holds back
        for frame in decoder.decode(packet):
            if frame.pts is not None and frame.pts < run.first_timestamp:
                continue  # it leads up to the keyframe, and is whole only when decoding started earlier
            if frame.is_corrupt or num_seen == len(expected) or frame.pts != expected[num_seen]:
                return False
            if frame.pts == packets[0].pts and not frame.key_frame:
                return False  # the container calls something a keyframe that is none
            num_seen += 1
            if frame.pts in run.wanted:
                collected.take(run.wanted[frame.pts], frame)
                num_taken += 1
    return num_seen == len(expected) and num_taken == len(run.wanted)


def _needed_packets(
    container: InputContainer, stream: VideoStream, index: VideoIndex, run: Run
) -> list[Packet[VideoStream]]:
    """Returns the packets that wanted frames are in, or frames that others need; none where they are not found."""
    packets = _packets_of(container, stream, index, run)
    codec = stream.codec_context
    spare = spare_packets(codec.codec.canonical_name, codec.extradata, (bytes(packet) for packet in packets))
    return [packet for place, packet in enumerate(packets) if place not in spare or packet.pts in run.wanted]


def _packets_of(
    container: InputContainer, stream: VideoStream, index: VideoIndex, run: Run
) -> Sequence[Packet[VideoStream]]:
    """Returns all packets of a run; none where they are too many, or the container gives others than before."""
    indexed = index.packets[run.keyframe.packet_number : run.end]
    if index.held_packets is None and sum(packet.size_bytes for packet in indexed) > MAX_HELD_BYTES:
        return []
    packets = list(islice(read_packets_from(container, stream, index, run.keyframe), len(indexed)))
    is_same = [(packet.pts, packet.size) for packet in packets] == [(one.pts, one.size_bytes) for one in indexed]
    return packets if is_same else []
