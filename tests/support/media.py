"""Makes the small real media that tests read: videos, images, sounds, and frames that carry their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.container
import numpy as np
from PIL import Image

# Numbers are written as 4 x 4 blocks of two colors, most significant bit first: large areas survive any codec.
BLOCKS = 4
ZERO_COLOR = (24, 40, 96)
ONE_COLOR = (232, 200, 56)

PIXEL_FORMATS = {"gif": "rgb8", "mjpeg": "yuvj420p", "prores": "yuv422p10le", "ffv1": "yuv444p"}
QUIET = {"libx265": {"x265-params": "log-level=none:pools=1:frame-threads=1"}}


def numbered_frames(count: int, height: int = 64, width: int = 64, first: int = 0) -> np.ndarray:
    """Returns frames [count, height, width, 3] uint8 that show the numbers first, first + 1, ... (below 65536)."""
    return np.stack([numbered_frame(number, height, width) for number in range(first, first + count)])


def numbered_frame(number: int, height: int = 64, width: int = 64) -> np.ndarray:
    """Returns one frame [height, width, 3] uint8 that shows `number` (see `read_number`)."""
    bits = np.array([number >> bit & 1 for bit in reversed(range(BLOCKS * BLOCKS))]).reshape(BLOCKS, BLOCKS)
    blocks = np.where(bits[..., None] == 1, ONE_COLOR, ZERO_COLOR).astype(np.uint8)
    rows = np.arange(height) * BLOCKS // height
    columns = np.arange(width) * BLOCKS // width
    return blocks[rows][:, columns]


def read_number(frame: np.ndarray) -> int:
    """Returns the number that a frame [H, W, 3] of `numbered_frames` shows, also after coding and resizing."""
    height, width = frame.shape[:2]
    number = 0
    for row in range(BLOCKS):
        for column in range(BLOCKS):
            top, left = (2 * row + 1) * height // (2 * BLOCKS), (2 * column + 1) * width // (2 * BLOCKS)
            green = frame[top - 1 : top + 2, left - 1 : left + 2, 1].mean()
            number = number * 2 + int(green > 120)
    return number


def read_numbers(frames: np.ndarray) -> list[int]:
    """Returns the numbers that the frames [T, H, W, 3] show."""
    return [read_number(frame) for frame in frames]


def scenery(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """Returns a picture [height, width, 3] uint8 of soft blotches of all sizes, as photographs have them."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for side in (2, 4, 8, 16, 32):
        blotches = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        picture += np.asarray(blotches.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64) / 5
    return picture.astype(np.uint8)


def moving_square(
    num_frames: int,
    height: int = 64,
    width: int = 80,
    direction: Literal["right", "left", "up", "down"] = "right",
    color: Sequence[int] = (230, 60, 40),
    seed: int = 0,
) -> np.ndarray:
    """Returns frames [num_frames, height, width, 3] uint8: a square crosses a gray, slightly textured ground."""
    rng = np.random.default_rng(seed)
    side = max(4, min(height, width) // 4)
    ground = np.repeat(rng.integers(90, 140, (height, width, 1), dtype=np.uint8), 3, axis=2)
    across = int(rng.integers(0, (height if direction in ("right", "left") else width) - side + 1))
    travel = (width if direction in ("right", "left") else height) - side
    frames = np.repeat(ground[None], num_frames, axis=0)
    for index, frame in enumerate(frames):
        along = round(index * travel / max(1, num_frames - 1))
        if direction in ("left", "up"):
            along = travel - along
        top, left = (across, along) if direction in ("right", "left") else (along, across)
        frame[top : top + side, left : left + side] = color
    return frames


def write_video(
    path: str | Path,
    frames: np.ndarray,
    codec: str = "libx264",
    rate: int = 30,
    options: Mapping[str, str] | None = None,
    *,
    pixel_format: str | None = None,
    timestamps_ms: Sequence[int] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    container_format: str | None = None,
    container_options: Mapping[str, str] | None = None,
    shown_from: int = 0,
    with_audio: bool = False,
) -> Path:
    """Writes frames [T, H, W, 3] uint8 as a video and returns its path.

    Args:
        path: File to write; its suffix names the container.
        frames: What to encode, RGB. Where a codec needs even sizes, give "yuv444p" as pixel format for odd ones.
        codec: Encoder.
        rate: Frames a second.
        options: Options of the encoder, such as `{"g": "10", "bf": "2"}`.
        pixel_format: What the encoder stores; by default what suits the codec.
        timestamps_ms: One timestamp a frame, ascending; by default they follow from the rate.
        rotation: Degrees counterclockwise by which a player is told to turn the picture.
        mirrored: Whether a player is told to mirror the picture from left to right, after turning it.
        container_format: Name of the container, where the suffix does not tell it.
        container_options: Options of the container, such as `{"movflags": "faststart"}`.
        shown_from: Frames before this one are stored but hidden by an edit list (mp4 and mov).
        with_audio: Whether a silent sound track lies beside the video.
    """
    height, width = frames.shape[1:3]
    with av.open(str(path), "w", format=container_format, options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=rate, options={**QUIET.get(codec, {}), **(options or {})})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = width, height
        stream.pix_fmt = pixel_format or PIXEL_FORMATS.get(codec, "yuv420p")
        stream.codec_context.thread_count = 1
        if timestamps_ms is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        audio = container.add_stream("aac", rate=16000, layout="mono") if with_audio else None
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = index if timestamps_ms is None else timestamps_ms[index]
            frame.time_base = Fraction(1, rate) if timestamps_ms is None else Fraction(1, 1000)
            _mux(container, stream.encode(frame), shown_from * Fraction(1, rate))
        _mux(container, stream.encode(None), shown_from * Fraction(1, rate))
        if audio is not None:
            _write_silence(container, audio, duration_seconds=len(frames) / rate)
    return Path(path)


def write_audio(path: str | Path, duration_seconds: float = 0.5) -> Path:
    """Writes a silent sound track without a video (the suffix names the container) and returns its path."""
    with av.open(str(path), "w") as container:
        _write_silence(container, container.add_stream("aac", rate=16000, layout="mono"), duration_seconds)
    return Path(path)


def write_image(path: str | Path, array: np.ndarray, orientation: int | None = None, **options: Any) -> Path:
    """Writes [H, W, 3], [H, W, 4] or [H, W] uint8, or [H, W] uint16, as an image and returns its path.

    Args:
        path: File to write; its suffix names the format.
        array: Pixels: RGB, RGBA or gray.
        orientation: EXIF orientation, 1 to 8, to be written beside them.
        options: Further options of Pillow's `save`, such as `quality`.
    """
    image = Image.fromarray(array)
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(path, **options)
    return Path(path)


def write_frames(folder: str | Path, frames: np.ndarray, template: str = "img_{:05d}.jpg") -> Path:
    """Writes frames [T, H, W, 3] uint8 as numbered image files, the first with number 1, and returns the folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, start=1):
        write_image(Path(folder) / template.format(number), frame)
    return Path(folder)


def truncate(path: str | Path, share: float) -> Path:
    """Cuts a file to the given share of its bytes and returns its path."""
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: int(len(data) * share)])
    return Path(path)


def zero_end_of_last_packet(path: str | Path) -> Path:
    """Overwrites the second half of a video's last packet with zeros, whole as the file stays, and returns its path."""
    with av.open(str(path)) as container:
        last = [bytes(packet) for packet in container.demux(video=0) if packet.size][-1]
    data = Path(path).read_bytes()
    half = len(last) // 2
    Path(path).write_bytes(data.replace(last, last[:half] + bytes(len(last) - half)))
    return Path(path)


def _mux(container: av.container.OutputContainer, packets: list[av.Packet], delay_seconds: Fraction) -> None:
    for packet in packets:
        if delay_seconds and packet.pts is not None and packet.dts is not None:
            delay = round(delay_seconds / packet.time_base)
            packet.pts, packet.dts = packet.pts - delay, packet.dts - delay
        container.mux(packet)


def _write_silence(container: av.container.OutputContainer, stream: av.AudioStream, duration_seconds: float) -> None:
    for start in range(0, round(duration_seconds * 16000), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
