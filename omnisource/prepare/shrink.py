"""Images and the frames of videos made smaller, as `omnisource prepare` stores them."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from omnisource.data.decoding.images import decode_image
from omnisource.data.decoding.rgb import apply_rotation
from omnisource.data.decoding.video import VideoFile
from omnisource.errors import UnreadableMedia

JPEG_QUALITY = 95
"""Quality of shrunk JPEG and WebP images; a higher one costs bytes and is not seen."""

# Suffixes whose format keeps every pixel as it is. With any other suffix an image is written as JPEG.
_IMAGE_FORMATS = {
    **{".png": "PNG", ".apng": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"},
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
}


@dataclass(frozen=True)
class Encoded:
    """What was written.

    Attributes:
        num_frames: Frames of a video, 1 for an image.
        width: Width as displayed, in pixels.
        height: Height as displayed, in pixels.
    """

    num_frames: int
    width: int
    height: int


def shrink_image(source: str, target: Path, short_side: int, suffix: str) -> Encoded:
    """Writes an image with its short side shrunk; one that is small enough is copied byte for byte.

    Args:
        source: The original.
        target: File to write, whatever its suffix.
        short_side: Short side in pixels.
        suffix: Suffix that the file will have, which decides its format.

    Raises:
        UnreadableMedia: The original cannot be decoded.
        OSError: The file cannot be written.
    """
    # A JPEG may be decoded at half its size and less, with twice the pixels that are wanted.
    # Source: `Image.thumbnail` of Pillow 12, reducing_gap=2.0.
    pixels = decode_image(source, min_short_side=2 * short_side)
    height, width, _ = pixels.shape
    if min(height, width) <= short_side:
        shutil.copyfile(source, target)
        return Encoded(1, width, height)
    size = shrunk_size(width, height, short_side)
    shrunk = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    image_format = _IMAGE_FORMATS.get(suffix.lower(), "JPEG")
    quality = {"quality": JPEG_QUALITY} if image_format in ("JPEG", "WEBP") else {}
    shrunk.save(target, image_format, **quality)
    return Encoded(1, *size)


def prepared_frames(video: VideoFile, short_side: int) -> Generator[VideoFrame, None, None]:
    """Yields the frames of a video as they are encoded: scaled, upright, of even size, yuv420p.

    The colors keep the matrix and the range of the original, which are written beside them. Scaling is swscale's
    bicubic filter, which is antialiased.
    Source: tools/data/resize_videos.py of open-mmlab/mmaction2 (commit 21ab110), `ffmpeg -vf scale=-2:256`, with
    ffmpeg's default filter.

    Raises:
        UnreadableMedia: The video cannot be decoded to its end, its frames change their size, or it has a pixel format
            that cannot be converted.
    """
    reformatter = VideoReformatter()
    with closing(video.all_frames()) as frames:
        for frame in frames:
            size = shrunk_size(frame.width, frame.height, short_side, multiple=2)
            width, height = (max(2, side) for side in size)  # chroma is stored for 2 x 2 pixels
            try:
                # FFmpeg would scale with several threads; there is a worker for each core already.
                scaled = reformatter.reformat(
                    frame, width, height, "yuv420p", interpolation=Interpolation.BICUBIC, threads=1
                )
            except (FFmpegError, ValueError) as error:
                reason = f"its pixel format {frame.format.name} is not supported"
                raise UnreadableMedia(video.path, reason) from error
            yield _upright(scaled, frame)


def shrunk_size(width: int, height: int, short_side: int, multiple: int = 1) -> tuple[int, int]:
    """Returns the size with this short side, the other in proportion; nothing is ever enlarged. In pixels.

    Args:
        width: Of the original.
        height: Of the original.
        short_side: The short side to have, where the original's is larger.
        multiple: What the long side is rounded to a multiple of.
    """
    short = min(width, height)
    if short <= short_side:
        return width, height
    long = max(short_side, round(max(width, height) * short_side / short / multiple) * multiple)
    return (short_side, long) if width <= height else (long, short_side)


def _upright(scaled: VideoFrame, original: VideoFrame) -> VideoFrame:
    """Returns a copy of a yuv420p frame, rotated as the original is to be displayed and cropped to even sides."""
    width, height = scaled.width - scaled.width % 2, scaled.height - scaled.height % 2
    sizes = [(height, width), (height // 2, width // 2), (height // 2, width // 2)]
    planes = [
        apply_rotation(plane[:rows, :columns], original)
        for plane, (rows, columns) in zip(_planes(scaled), sizes, strict=True)
    ]
    height, width = planes[0].shape
    upright = VideoFrame(width, height, "yuv420p")
    for target, pixels in zip(_planes(upright), planes, strict=True):
        target[:, : pixels.shape[1]] = pixels
    upright.colorspace, upright.color_range = scaled.colorspace, scaled.color_range
    upright.color_primaries, upright.color_trc = scaled.color_primaries, scaled.color_trc
    return upright


def _planes(frame: VideoFrame) -> list[np.ndarray]:
    """Returns views of a frame's planes, [rows, bytes of a row with its padding] uint8."""
    return [np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size) for plane in frame.planes]
