"""Images and folders of raw frames as uint8 RGB pixels, read with Pillow."""

from __future__ import annotations

import functools
import io
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from omnisource.errors import UnreadableMedia

# The formats of images that data sets hold. Pillow knows more, some of which start other programs.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")

# More pixels than any camera takes: 512 MiB as RGB. A file that declares more is an attack or a mistake.
MAX_IMAGE_PIXELS = 2**29 // 3

# What Pillow's readers raise for damaged files, depending on the format and on where the damage lies.
IMAGE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

EXIF_ORIENTATION = 0x0112
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(
    path: str | os.PathLike[str], min_short_side: int | None = None, content: bytes | None = None
) -> np.ndarray:
    """Returns an image: [H, W, 3] uint8, RGB, upright. Of an animation the first image; transparency is dropped.

    Args:
        path: The file.
        min_short_side: Allows a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size, which is much faster, as long as
            its short side does not fall below this, in pixels. None: full size.
        content: The bytes of the file, where they do not lie at `path`, which then only names them.

    Raises:
        UnreadableMedia: The file is missing, no image, damaged, or larger than `MAX_IMAGE_PIXELS`.
    """
    name = os.fspath(path)
    too_large = f"it declares more than the {MAX_IMAGE_PIXELS} pixels that are allowed"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strange notes beside the image, and of a size below our limit
            with Image.open(name if content is None else io.BytesIO(content), formats=_available_formats()) as image:
                width, height = image.size
                if width * height > MAX_IMAGE_PIXELS:
                    raise UnreadableMedia(name, too_large)
                if min_short_side is not None:
                    image.draft(None, (min_short_side, min_short_side))
                image.load()
                transposition = TRANSPOSITIONS.get(_orientation(image))
                upright = image if transposition is None else image.transpose(transposition)
                return _rgb(name, upright)
    except FileNotFoundError as error:
        raise UnreadableMedia(name, "no such file") from error
    except PermissionError as error:
        raise UnreadableMedia(name, f"cannot be read: {error.strerror}") from error
    except IsADirectoryError as error:
        raise UnreadableMedia(name, "a folder, not a file") from error
    except Image.DecompressionBombError as error:
        raise UnreadableMedia(name, too_large) from error
    except Image.UnidentifiedImageError as error:
        reason = (
            "the file is empty"
            if (is_empty_file(name) if content is None else not content)
            else f"not an image of the kinds {', '.join(_available_formats())}"
        )
        raise UnreadableMedia(name, reason) from error
    except IMAGE_ERRORS as error:
        raise UnreadableMedia(name, f"cannot be decoded ({str(error) or type(error).__name__})") from error


def decode_frame_folder(
    folder: str | os.PathLike[str],
    template: str,
    indices: Sequence[int] | np.ndarray,
    min_short_side: int | None = None,
) -> np.ndarray:
    """Returns frames that lie in a folder as images: [len(indices), H, W, 3] uint8, RGB.

    Args:
        folder: The folder.
        template: File name of a frame, given its number, such as "img_{:05d}.jpg".
        indices: 0-based, in any order; index i is number i + 1. Repeated frames are decoded once.
        min_short_side: As for `decode_image`.

    Raises:
        UnreadableMedia: A frame is missing, damaged, or of another size than the one before.
    """
    unique, ranks = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
    frames: np.ndarray | None = None
    for rank, index in enumerate(unique.tolist()):
        path = str(Path(folder) / template.format(index + 1))
        pixels = decode_image(path, min_short_side)
        if frames is None:
            frames = np.empty((len(ranks), *pixels.shape), np.uint8)
        if pixels.shape != frames.shape[1:]:
            (height, width, _), (first_height, first_width, _) = pixels.shape, frames.shape[1:]
            first = template.format(int(unique[0]) + 1)
            raise UnreadableMedia(
                path, f"its size {width}x{height} is not that of {first}, {first_width}x{first_height}"
            )
        frames[ranks == rank] = pixels
    assert frames is not None, "no indices"
    return frames


@functools.cache
def _available_formats() -> list[str]:
    """Returns the formats that this build of Pillow reads; old ones lack AVIF."""
    Image.init()
    return [name for name in IMAGE_FORMATS if name in Image.OPEN]


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except IMAGE_ERRORS:
        return 1  # the notes beside the image are damaged, the image is not


def _rgb(path: str, image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        # The high byte, as for 16 bits a color; Pillow's own conversion would make everything above 255 white.
        gray = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UnreadableMedia(path, "its gray values have 32 bits, of which no brightness can be told: give it 8 or 16")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # palettes may hold transparency, which the next line drops
    return np.array(image.convert("RGB"))  # a copy, which unlike the view can be written to


def is_empty_file(path: str) -> bool:
    """Returns whether `path` is a file without content."""
    return os.path.isfile(path) and os.path.getsize(path) == 0
