"""Images and folders of raw frames as uint8 RGB pixels, read with Pillow."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from omnisource.data.decoding.metadata.removal import LONGEST_SIGNATURE, can_remove_metadata, without_metadata
from omnisource.errors import UnreadableMedia

# The formats of images that data sets hold. Pillow knows more, some of which start other programs.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")

# More pixels than any camera takes: 512 MiB as RGB. A file that declares more is an attack or a mistake.
MAX_IMAGE_PIXELS = 2**29 // 3
TOO_LARGE = f"it declares more than the {MAX_IMAGE_PIXELS} pixels that are allowed"

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
    Image.DecompressionBombError,
    struct.error,
    zlib.error,
)

ChooseBox = Callable[[int, int], tuple[int, int, int, int]]
"""Given height and width of an image, chooses a part: its top, left, height and width, in pixels."""

EXIF_ORIENTATION = 0x0112
_EXIF = b"Exif\0\0"
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

    def read(image: Image.Image) -> np.ndarray:
        if min_short_side is not None:
            image.draft(None, (min_short_side, min_short_side))
        image.load()
        transposition = TRANSPOSITIONS.get(orientation_of(image))
        return to_rgb(os.fspath(path), image if transposition is None else image.transpose(transposition))

    return read_image(path, content, read)


def read_image(
    path: str | os.PathLike[str], content: bytes | None, read: Callable[[Image.Image], np.ndarray]
) -> np.ndarray:
    """Returns what is read of an image that Pillow has opened; if it fails, once more without the metadata.

    Args:
        path: The file.
        content: Its bytes, where they do not lie at `path`, which then only names them.
        read: Reads it; may be called twice.

    Raises:
        UnreadableMedia: The file is missing, no image, damaged, or larger than `MAX_IMAGE_PIXELS`.
    """
    name = os.fspath(path)
    try:
        return _read(name, name if content is None else io.BytesIO(content), read)
    except IMAGE_ERRORS as error:
        bare = _without_metadata(name, content)  # its pixels may be whole where what lies beside them is not
        if bare is not None:
            with contextlib.suppress(*IMAGE_ERRORS):
                return _read(name, io.BytesIO(bare), read)
        raise _explained(name, content, error) from error


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


def _read(name: str, file: str | io.BytesIO, read: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strange notes beside the image, and of a size below our limit
        with Image.open(file, formats=_available_formats()) as image:
            width, height = image.size
            if width * height > MAX_IMAGE_PIXELS:
                raise UnreadableMedia(name, TOO_LARGE)
            return read(image)


def _without_metadata(name: str, content: bytes | None) -> bytes | None:
    if content is not None:
        return without_metadata(content)
    try:
        with open(name, "rb") as file:
            beginning = file.read(LONGEST_SIGNATURE)
            return without_metadata(beginning + file.read()) if can_remove_metadata(beginning) else None
    except OSError:  # whoever opened it says so
        return None


def _explained(name: str, content: bytes | None, error: Exception) -> UnreadableMedia:
    if isinstance(error, FileNotFoundError):
        return UnreadableMedia(name, "no such file")
    if isinstance(error, PermissionError):
        return UnreadableMedia(name, f"cannot be read: {error.strerror}")
    if isinstance(error, IsADirectoryError):
        return UnreadableMedia(name, "a folder, not a file")
    if isinstance(error, Image.DecompressionBombError):
        return UnreadableMedia(name, TOO_LARGE)
    if isinstance(error, Image.UnidentifiedImageError):
        is_empty = is_empty_file(name) if content is None else not content
        kinds = ", ".join(_available_formats())
        return UnreadableMedia(name, "the file is empty" if is_empty else f"not an image of the kinds {kinds}")
    return UnreadableMedia(name, f"cannot be decoded ({str(error) or type(error).__name__})")


@functools.cache
def _available_formats() -> list[str]:
    """Returns the formats that this build of Pillow reads; old ones lack AVIF."""
    Image.init()
    return [name for name in IMAGE_FORMATS if name in Image.OPEN]


def orientation_of(image: Image.Image) -> int:
    """Returns the EXIF orientation of an image, 1 where none is told; some formats tell it once they are loaded."""
    # Pillow reads several Exif segments of a JPEG as one: where the first is damaged, the others are read here.
    segments = [data for name, data in getattr(image, "applist", ()) if name == "APP1" and data.startswith(_EXIF)]
    for segment in (None, *segments):
        with contextlib.suppress(*IMAGE_ERRORS):  # damaged notes beside the image, which is not damaged by that
            exif = image.getexif() if segment is None else Image.Exif()
            if segment is not None:
                exif.load(segment)
            orientation = exif.get(EXIF_ORIENTATION)
            if orientation is not None:
                return orientation[0] if isinstance(orientation, bytes) else int(orientation)
    return 1


def to_rgb(path: str, image: Image.Image) -> np.ndarray:
    """Returns the pixels of an image: [H, W, 3] uint8, RGB.

    Raises:
        UnreadableMedia: They are none that can be shown; names `path`.
    """
    if image.mode.startswith("I;16"):
        # The high byte, as for 16 bits a color; Pillow's own conversion would make everything above 255 white.
        gray = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UnreadableMedia(path, "its gray values have 32 bits, of which no brightness can be told: give it 8 or 16")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # palettes may hold transparency, which the next line drops
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # a copy that can be written to


def is_empty_file(path: str) -> bool:
    """Returns whether `path` is a file without content."""
    return os.path.isfile(path) and os.path.getsize(path) == 0
