"""A third clip for the benchmarks, beside mma_test.mp4 and mma_demo.mp4: 10 s, 340x256, x264's default settings."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

NUM_FRAMES, WIDTH, HEIGHT = 300, 340, 256


def make_clip(media: Path, target: Path) -> None:
    """Writes the first 300 frames of flipping_a_pancake.mkv, scaled as Kinetics usually is, at 30 frames a second.

    Args:
        media: Folder that has the video.
        target: File to write.
    """
    with av.open(str(media / "flipping_a_pancake.mkv")) as source, av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1  # the same clip on every machine, but for a few bytes
        for number, frame in zip(range(NUM_FRAMES), source.decode(video=0), strict=False):
            scaled = frame.reformat(WIDTH, HEIGHT, "yuv420p")
            scaled.pts, scaled.time_base, scaled.pict_type = number, Fraction(1, 30), 0
            container.mux(stream.encode(scaled))
        container.mux(stream.encode(None))
