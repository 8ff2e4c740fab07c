"""Decoding only what some frames of a video need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from omnisource.data.decoding.container import reason_of
from omnisource.data.decoding.heartbeat import FRAMES_A_BEAT, beat
from omnisource.data.decoding.non_reference import non_reference_packets
from omnisource.data.decoding.packet_index import MAX_HELD_BYTES, IndexedPacket, Run, VideoIndex, read_packets_from
from omnisource.data.decoding.rgb import RgbCollector


@dataclass(frozen=True)
class Refusal:
    """What a way of reading a video returns in place of frames: the next way is tried.

    Attributes:
        reason: Why it cannot read them.
    """

    reason: str


def read_what_is_needed(
    container: InputContainer,
    stream: VideoStream,
    index: VideoIndex,
    positions: Sequence[int],
    collected: RgbCollector,
) -> Refusal | None:
    """Takes frames, decoding from the keyframes before them.

    Args:
        container: The file; where it stands changes, if its packets are not in memory.
        stream: Its video, of which the decoder starts again.
        index: Its index, with timestamps.
        positions: Frames that are wanted, ascending; at least one.
        collected: Takes them; where they are refused, it may hold wrong ones.

    Raises:
        UnreadableMedia: Frames cannot be converted.
    """
    try:
        for run in index.runs(positions):
            refusal = _read_run(container, stream, index, run, collected)
            if refusal is not None:
                return refusal
        return None
    except FFmpegError as error:
        return Refusal(reason_of(error))


def _read_run(
    container: InputContainer, stream: VideoStream, index: VideoIndex, run: Run, collected: RgbCollector
) -> Refusal | None:
    """Takes the wanted frames of a run, if just those frames come that the decoder was given packets of."""
    packets, expected = _needed_packets(container, stream, index, run)
    num_seen, num_taken = 0, 0
    decoder = stream.codec_context
    decoder.flush_buffers()
    for packet in chain(packets, [None]):  # None: the decoder hands out what it holds back
        for frame in decoder.decode(packet):
            if frame.pts is not None and frame.pts < run.first_timestamp:
                continue  # it leads up to the keyframe, and is whole only when decoding started earlier
            if frame.is_corrupt or num_seen == len(expected) or frame.pts != expected[num_seen]:
                return Refusal(f"another frame came than number {num_seen} of the packets that were decoded")
            if frame.pts == index.packets[run.keyframe.packet_number].pts and not frame.key_frame:
                return Refusal("the container calls something a keyframe that is none")
            num_seen += 1
            if not num_seen % FRAMES_A_BEAT:
                beat()
            if frame.pts in run.wanted:
                collected.take(run.wanted[frame.pts], frame)
                num_taken += 1
    if num_seen < len(expected) or num_taken < len(run.wanted):
        return Refusal("fewer frames came than packets were decoded")
    return None


def _needed_packets(
    container: InputContainer, stream: VideoStream, index: VideoIndex, run: Run
) -> tuple[Iterable[Packet[VideoStream]], list[int]]:
    """Returns the packets that wanted frames are in, or frames that others need; and the timestamps of their frames.

    Those of a run that is too large for memory come one after the other, and all of them. What the container gives
    instead of them, should it, shows in the timestamps of the frames.
    """
    indexed = index.packets[run.keyframe.packet_number : run.end]
    packets = islice(read_packets_from(container, stream, index, run.keyframe), len(indexed))
    if index.held_packets is None and sum(packet.size_bytes for packet in indexed) > MAX_HELD_BYTES:
        return packets, _shown(indexed, run)
    held = list(packets)
    codec = stream.codec_context
    unneeded = non_reference_packets(codec.codec.canonical_name, codec.extradata, (bytes(packet) for packet in held))
    needed = [number for number in range(len(held)) if number not in unneeded or held[number].pts in run.wanted]
    return [held[number] for number in needed], _shown([indexed[number] for number in needed], run)


def _shown(indexed: Iterable[IndexedPacket], run: Run) -> list[int]:
    """Returns the timestamps of the frames of packets that are shown, ascending, from the first of the run on."""
    timestamps = (packet.pts for packet in indexed if packet.is_shown)
    return sorted(pts for pts in timestamps if pts is not None and pts >= run.first_timestamp)
