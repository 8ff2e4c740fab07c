"""The qp (quantization parameter) of a video: the coarsest with which its PSNR stays as high as wanted.

The same qp gives one video 37 dB and another 42. So it is chosen for each, by encoding a sample of its frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

FINEST, COARSEST = 20, 40
"""Smallest and largest qp that are used, of x264's 0 to 51: one step is a factor of 1.12. Finer only keeps noise."""

FIRST_GUESS = 31

DECIBELS_A_STEP = 0.7
"""What the PSNR loses from one qp to the next, about."""

SAMPLE_FRAMES = 96
"""Frames that are encoded to choose the qp."""


def sample_positions(num_frames: int, group_length: int) -> list[int]:
    """Returns the frames of a sample, 0-based and ascending: whole groups of pictures (GOPs), evenly from the video.

    Args:
        num_frames: Frames of the video.
        group_length: Frames from one keyframe to the next.
    """
    num_groups = math.ceil(num_frames / group_length)
    num_sampled = min(num_groups, max(1, SAMPLE_FRAMES // group_length))
    length = min(group_length, SAMPLE_FRAMES)
    groups = np.linspace(0, num_groups - 1, num_sampled).round().astype(int).tolist()
    return [
        position
        for group in groups
        for position in range(group * group_length, group * group_length + length)
        if position < num_frames
    ]


def fitting_qp(psnr_at: Callable[[int], float], target: float) -> int:
    """Returns a qp whose PSNR is the target or a little more; the finest where none is fine enough.

    Args:
        psnr_at: The PSNR in dB with a qp; the coarser, the lower.
        target: The wanted PSNR in dB.
    """
    good, bad = FINEST, COARSEST + 1
    guess = FIRST_GUESS
    while True:
        steps = math.floor(min((psnr_at(guess) - target) / DECIBELS_A_STEP, COARSEST))
        if steps >= 0:
            good = guess
        else:
            bad = guess
        if steps == 0 or bad - good == 1:
            return good
        guess = min(max(guess + steps, good + 1), bad - 1)


def luma_psnr(frames: Sequence[VideoFrame], options: Mapping[str, str]) -> float:
    """Returns the PSNR in dB of the luma of frames that are encoded and decoded; infinite where nothing changes.

    Args:
        frames: yuv420p, all of one size.
        options: Options of libx264.
    """
    encoder = VideoCodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
    encoder.time_base, encoder.thread_count, encoder.options = Fraction(1, 25), 1, dict(options)
    decoder = VideoCodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoded = [frame for packet in _packets(encoder, frames) for frame in decoder.decode(packet)]
    decoded += decoder.decode(None)
    total = sum(_squared_error(frame, other) for frame, other in zip(frames, decoded, strict=True))
    if total == 0:
        return math.inf
    return 10 * math.log10(255**2 * len(frames) * frames[0].width * frames[0].height / total)


def luma(frame: VideoFrame) -> np.ndarray:
    """Returns a view of the luma of a yuv420p frame: [H, W] uint8."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def _packets(encoder: VideoCodecContext, frames: Sequence[VideoFrame]) -> Iterator[Packet[VideoStream]]:
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, encoder.time_base
        yield from encoder.encode(frame)
    yield from encoder.encode(None)


def _squared_error(frame: VideoFrame, other: VideoFrame) -> int:
    difference = luma(frame).astype(np.int32) - luma(other)
    return int(np.vdot(difference, difference))
