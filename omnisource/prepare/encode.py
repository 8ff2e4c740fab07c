"""Videos re-encoded, so that any frame of them is quick to reach: what `omnisource prepare` makes of videos.

A prepared video is H.264 in MP4, 8 bit, 4:2:0, upright, without sound. Every `keyframe_interval`-th frame is a
keyframe, the others are predicted from the frame before, and none is reordered. So frame i has the
timestamp i, every reader finds it, and at most `keyframe_interval` frames are decoded for it.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from omnisource.data.decoding.checksum import CHECKSUM_KEY, checksum_of, claimed_checksum
from omnisource.data.decoding.container import reason_of
from omnisource.data.decoding.video import VideoFile
from omnisource.errors import UnreadableMedia
from omnisource.prepare.qp import fitting_qp, luma_psnr, sample_positions
from omnisource.prepare.shrink import Encoded, prepared_frames

PSNR = 38.0
"""PSNR of the luma of a prepared video in dB, against its original scaled to the same size. docs/prepared_data.md says
what it costs."""

HELD_BYTES = 2**28
"""Up to this size the scaled frames of a video are kept in memory, and it is decoded once instead of twice."""

DEFAULT_FRAMES_PER_SECOND = Fraction(25)
"""Frame rate of a prepared video whose original declares none."""


def prepare_video(source: str, target: Path, short_side: int, keyframe_interval: int) -> Encoded:
    """Writes a video any frame of which is quick to reach; equal videos give equal bytes, with one version of PyAV.

    Args:
        source: The original.
        target: File to write, whatever its suffix.
        short_side: Short side in pixels, even. A video with a smaller one keeps its size, except for the last column
            or row where a side is odd: chroma is stored for 2 x 2 pixels.
        keyframe_interval: Frames from one keyframe to the next.

    Raises:
        UnreadableMedia: The original cannot be decoded to its end, or its frames change their size.
        OSError: The file cannot be written.
    """
    with VideoFile(source) as video:
        positions = set(sample_positions(video.num_frames, keyframe_interval))
        sample, frames = _sampled(video, short_side, positions)

        def psnr_at(qp: int) -> float:
            return luma_psnr(sample, video_options(keyframe_interval, qp))

        with _encoding_errors(source, target):
            options = video_options(keyframe_interval, fitting_qp(psnr_at, PSNR))
            return write_video(frames, target, rate_of(video), options)


def video_options(keyframe_interval: int, qp: int) -> dict[str, str]:
    """Returns the options of libx264 for a video any frame of which is quick to reach.

    Args:
        keyframe_interval: Frames from one keyframe to the next.
        qp: Quantization parameter of all frames: a constant one gives more PSNR for the bytes than a perceptual rate
            control.
    """
    return {
        "preset": "medium",
        "tune": "psnr,fastdecode",  # nothing perceptual; nothing that costs decoders most: deblocking, CABAC
        "qp": str(qp),
        "g": str(keyframe_interval),
        "sc_threshold": "0",  # no further keyframes at scene cuts
        "bf": "0",  # no B-frames: the order of the packets is that of the frames
    }


def write_video(frames: Iterable[VideoFrame], target: Path, rate: Fraction, options: Mapping[str, str]) -> Encoded:
    """Writes frames as an H.264 video in MP4 that carries its checksum, and reads it back to check it.

    Args:
        frames: yuv420p, all of one size; at least one.
        target: File to write, whatever its suffix.
        rate: Frames per second.
        options: Options of libx264.

    Raises:
        FFmpegError: The frames cannot be encoded, or the file not be written.
    """
    unchecked = target.with_name(f"{target.name}.unchecked")
    try:
        encoded = _encode(iter(frames), unchecked, rate, options)
        _add_checksum(unchecked, target)
    finally:
        unchecked.unlink(missing_ok=True)
    _check(target, encoded.num_frames)
    return encoded


def _sampled(
    video: VideoFile, short_side: int, positions: Collection[int]
) -> tuple[list[VideoFrame], Iterable[VideoFrame]]:
    """Returns the prepared frames at `positions`, and all of them."""
    sample: list[VideoFrame] = []
    held: list[VideoFrame] | None = []
    for position, frame in enumerate(prepared_frames(video, short_side)):
        if position in positions:
            sample.append(frame)
        if held is not None:
            held.append(frame)
            num_bytes = len(held) * frame.width * frame.height * 3 // 2
            held = held if num_bytes <= HELD_BYTES else None
    return sample, prepared_frames(video, short_side) if held is None else held


@contextlib.contextmanager
def _encoding_errors(source: str, target: Path) -> Iterator[None]:
    """Reports an error of FFmpeg with its file: the target where it cannot be written, otherwise the source."""
    try:
        yield
    except FFmpegError as error:
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise UnreadableMedia(source, f"it cannot be encoded ({reason_of(error)})") from error


def _encode(frames: Iterator[VideoFrame], target: Path, rate: Fraction, options: Mapping[str, str]) -> Encoded:
    first = next(frames)  # there is one: `VideoFile.all_frames` raises where none can be decoded
    num_frames = 0
    with av.open(f"file:{target}", "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options=dict(options))
        assert isinstance(stream, VideoStream)
        _describe(stream, first)
        for frame in chain([first], frames):
            frame.pts, frame.time_base = num_frames, 1 / rate
            container.mux(stream.encode(frame))
            num_frames += 1
        container.mux(stream.encode(None))
    return Encoded(num_frames, first.width, first.height)


def _add_checksum(unchecked: Path, target: Path) -> None:
    """Copies the packets of a video into a file that carries their checksum, with the index (moov) before them."""
    with av.open(f"file:{unchecked}") as container:
        stream = container.streams.video[0]
        checksum = checksum_of(stream, _packets(container))
    with (
        av.open(f"file:{unchecked}") as container,
        av.open(f"file:{target}", "w", format="mp4", options={"movflags": "faststart"}) as checked,
    ):
        checked.metadata[CHECKSUM_KEY] = checksum
        stream = checked.add_stream_from_template(container.streams.video[0])
        for packet in _packets(container):
            packet.stream = stream
            checked.mux(packet)


def _check(target: Path, num_frames: int) -> None:
    """Checks what was written, by reading it."""
    with av.open(f"file:{target}") as container:
        checksum = checksum_of(container.streams.video[0], _packets(container))
        if checksum != claimed_checksum(container) or not checksum.endswith(f" of {num_frames} packets"):
            raise OSError(
                errno.EIO, f"what was written is not what was to be written, {num_frames} frames", str(target)
            )


def _packets(container: InputContainer) -> Iterator[Packet[VideoStream]]:
    return (packet for packet in container.demux(container.streams.video[0]) if packet.size)


def _describe(stream: VideoStream, first: VideoFrame) -> None:
    context = stream.codec_context
    context.width, context.height = first.width, first.height
    context.pix_fmt = "yuv420p"
    context.thread_count = 1  # equal bytes every time; and there is a worker for each core
    context.colorspace, context.color_range = first.colorspace, first.color_range
    context.color_primaries, context.color_trc = first.color_primaries, first.color_trc


def rate_of(video: VideoFile) -> Fraction:
    """Returns frames per second; the mean where the rate varies."""
    rate = video.frames_per_second
    if rate is None or not 1 <= rate <= 1000:
        return DEFAULT_FRAMES_PER_SECOND
    return rate.limit_denominator(1001)  # that of 30000/1001
