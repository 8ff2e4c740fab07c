"""A part of a JPEG: only the rows down to its end are decoded, at a reduced size where that suffices.

Pixels are those of Pillow bit for bit, which uses the same library (libjpeg-turbo) and takes longer.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from omnisource.data.decoding.image_crops.geometry import (
    Box,
    Turn,
    reduced_box,
    reduction_for,
    stored_box,
    turn_of,
    turned_upright,
)
from omnisource.data.decoding.images import IMAGE_ERRORS, MAX_IMAGE_PIXELS, ChooseBox, orientation_of

try:
    import simplejpeg  # pyright: ignore[reportMissingImports]
except ImportError:  # there is no wheel for every machine, and Pillow gives the same pixels
    simplejpeg = None

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_BEFORE_FRAME = (0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))
_APP1 = 0xE1  # Exif and XMP, which may tell an orientation

# Rows behind those that are wanted: colors are interpolated between rows.
_NEXT_ROWS = 2


class Frame(NamedTuple):
    """What the header of a JPEG says.

    Attributes:
        height: Of the stored pixels.
        width: Of the stored pixels.
        height_position: Where the height stands in the file, in bytes.
        may_be_turned: Whether it has metadata that may tell an orientation.
    """

    height: int
    width: int
    height_position: int
    may_be_turned: bool


def decode_jpeg_crop(content: bytes, choose_box: ChooseBox, min_side: int) -> np.ndarray | None:
    """Returns the chosen part of a JPEG, upright: [h, w, 3] uint8, RGB; None where it is left to Pillow.

    That is so for everything that is unusual or damaged: Pillow is who refuses files.

    Args:
        content: The bytes of the file.
        choose_box: Chooses the part, given height and width of the upright image.
        min_side: No side of the part is reduced below this, in pixels.
    """
    frame = read_frame(content)
    if simplejpeg is None or frame is None:
        return None
    try:
        turn = _turn(content) if frame.may_be_turned else turn_of(1)
        height, width = frame.height, frame.width
        upright = choose_box(*((width, height) if turn.is_transposed else (height, width)))
        box = stored_box(Box(*upright), turn, height, width)
        reduction = reduction_for(box, min_side)
        box = reduced_box(box, reduction, height, width)
        top, left, rows, columns = box
        decoded = _decode_rows(content, frame, top + rows + _NEXT_ROWS, reduction)
    except IMAGE_ERRORS:
        return None
    if decoded is None:
        return None
    return turned_upright(decoded[top : top + rows, left : left + columns], turn)


def read_frame(content: bytes) -> Frame | None:
    """Returns what the header of a JPEG says, or None where it is not a whole file with one or three colors.

    Args:
        content: The bytes of the file.
    """
    if not content.startswith(_START) or not content.endswith(_END):
        return None
    position, may_be_turned = 2, False
    while position + 10 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker in _FRAMES:
            height = int.from_bytes(content[position + 5 : position + 7], "big")
            width = int.from_bytes(content[position + 7 : position + 9], "big")
            bits, colors = content[position + 4], content[position + 9]
            if bits != 8 or colors not in (1, 3) or not 0 < height * width <= MAX_IMAGE_PIXELS:
                return None
            return Frame(height, width, position + 5, may_be_turned)
        if marker not in _BEFORE_FRAME:
            return None
        may_be_turned |= marker == _APP1
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return None


def _turn(content: bytes) -> Turn:
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
        return turn_of(orientation_of(image))


def _decode_rows(content: bytes, frame: Frame, num_rows: int, reduction: int) -> np.ndarray | None:
    """Returns the first rows of the reduced image, at least so many or all: [H', W', 3] uint8."""
    assert simplejpeg is not None
    height = min(frame.height, num_rows * reduction)
    if height < frame.height:
        # The decoder is told that the image ends there. It passes over what follows without decoding it.
        start = frame.height_position
        content = b"".join((content[:start], height.to_bytes(2, "big"), content[start + 2 :]))
    expected = (-(-height // reduction), -(-frame.width // reduction), 3)
    # What libjpeg-turbo warns of, Pillow does not mind either; it would mind the passed over bytes.
    decoded = simplejpeg.decode_jpeg(content, "RGB", min_height=expected[0], min_width=expected[1], strict=False)
    return decoded if decoded.shape == expected else None
