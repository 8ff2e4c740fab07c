"""Writes the files that are damaged: every format that videos and images come in, small, and the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from omnisource.prepare.encode import prepare_video
from tests.support.media import moving_square, write_image, write_video

FRAMES, HEIGHT, WIDTH = 36, 96, 128

LONG_FRAMES = 620
"""Frames of a video of many groups of pictures."""

B_FRAMES = {"bf": "2", "g": "12"}
VPX = {"g": "12", "cpu-used": "5", "deadline": "good"}  # in "realtime" the file depends on how busy the machine is
AV1 = {"g": "12", "preset": "12", "crf": "30", "svtav1-params": "lp=1"}

VIDEOS: dict[str, dict] = {
    "h264.mp4": {"options": B_FRAMES},
    "h264_faststart.mp4": {
        "options": B_FRAMES,
        "container_options": {"movflags": "faststart"},
        "with_audio": True,
        "rotation": 90,
    },
    "h264_fragmented.mp4": {
        "options": B_FRAMES,
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "h264.mkv": {"options": B_FRAMES, "with_audio": True},
    "h264.ts": {"options": B_FRAMES},
    "h264.avi": {"options": B_FRAMES},
    "h264.flv": {"options": B_FRAMES},
    "raw.h264": {"options": B_FRAMES, "container_format": "h264"},
    "h264_open_groups.mov": {"options": {**B_FRAMES, "x264-params": "open-gop=1"}},
    "h264_long.mp4": {"options": {"preset": "ultrafast", "bf": "2", "g": "50"}},
    "h265.mp4": {"codec": "libx265", "options": {"g": "12"}},
    "h265.mkv": {"codec": "libx265", "options": {"g": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": VPX},
    "vp8.webm": {"codec": "libvpx", "options": {**VPX, "b": "800k"}},
    "av1.mkv": {"codec": "libsvtav1", "options": AV1},
    "mpeg4.avi": {"codec": "mpeg4", "options": {**B_FRAMES, "b": "800k"}},
    "mpeg4.3gp": {"codec": "mpeg4", "options": {"g": "12", "b": "800k"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {**B_FRAMES, "b": "800k"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {**B_FRAMES, "b": "800k"}},
    "motion_jpeg.avi": {"codec": "mjpeg", "options": {"q": "8"}},
    "animation.gif": {"codec": "gif"},
    "wmv2.asf": {"codec": "wmv2", "options": {"g": "12", "b": "800k"}},
}
"""File name -> how `write_video` writes it."""

PREPARED = "prepared.mp4"
"""File name of a video as `omnisource prepare` writes it, with a checksum."""

IMAGES: dict[str, dict] = {
    "baseline.jpg": {"quality": 90, "orientation": 6},
    "progressive.jpg": {"quality": 90, "progressive": True},
    "picture.png": {},
    "picture.webp": {"quality": 90},
    "picture.avif": {"quality": 80, "max_threads": 1},
    "still.GIF": {},
    "picture.bmp": {},
    "picture.tiff": {"compression": "tiff_lzw"},
    "picture.ppm": {},
    "picture.jp2": {},
}
"""File name -> how `write_image` writes it."""


def write_media(folder: Path) -> dict[str, bytes]:
    """Writes every file below `folder` and returns their bytes by name; they are the same each time.

    The videos of `VIDEOS`, the images of `IMAGES`, and `PREPARED`.
    """
    frames, long_frames = _frames(), moving_square(LONG_FRAMES, 48, 64)
    files = {}
    for name, how in VIDEOS.items():
        container_options = {"fflags": "bitexact", **how.get("container_options", {})}
        shown = long_frames if "long" in name else frames
        path = write_video(folder / name, shown, **{**how, "container_options": container_options})
        files[name] = path.read_bytes()
    prepare_video(str(folder / "h264.mp4"), folder / PREPARED, short_side=HEIGHT, keyframe_interval=8)
    files[PREPARED] = (folder / PREPARED).read_bytes()
    for name, how in IMAGES.items():
        files[name] = write_image(folder / name, frames[0], **how).read_bytes()
    return files


def _frames() -> np.ndarray:
    """Returns frames [T, H, W, 3] uint8 with enough detail that most of a file is payload."""
    grain = np.random.default_rng(0).integers(-12, 13, (FRAMES, HEIGHT, WIDTH, 1))
    return np.clip(moving_square(FRAMES, HEIGHT, WIDTH).astype(int) + grain, 0, 255).astype(np.uint8)
