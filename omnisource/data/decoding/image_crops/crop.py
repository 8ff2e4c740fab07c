"""The part of an image that a training view shows, of which no more is decoded than it needs."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from omnisource.data.decoding.image_crops.geometry import (
    Box,
    reduced_box,
    reduction_for,
    stored_box,
    turn_of,
    turned_upright,
)
from omnisource.data.decoding.image_crops.jpeg import decode_jpeg_crop
from omnisource.data.decoding.images import ChooseBox, orientation_of, read_image, to_rgb


def decode_crop(
    path: str | os.PathLike[str], choose_box: ChooseBox, min_side: int, content: bytes | None = None
) -> np.ndarray:
    """Returns the chosen part of an image, upright: [h, w, 3] uint8, RGB; perhaps not writable.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where the part is large enough for that; the part is then rounded
    to whole pixels of the reduced image.

    Args:
        path: The file.
        choose_box: Chooses the part, given height and width of the upright image; called again where a file is read in
            a second way, and must then choose the same.
        min_side: No side of the part is reduced below this, in pixels.
        content: The bytes of the file, where they do not lie at `path`, which then only names them.

    Raises:
        UnreadableMedia: The file is missing, no image, damaged, or larger than `MAX_IMAGE_PIXELS`.
    """
    content = _content(path) if content is None else content
    pixels = None if content is None else decode_jpeg_crop(content, choose_box, min_side)
    if pixels is not None:
        return pixels

    def read(image: Image.Image) -> np.ndarray:
        is_jpeg = image.format in ("JPEG", "MPO")
        if not is_jpeg:
            image.load()  # the orientation may stand behind the pixels
        width, height = image.size
        turn = turn_of(orientation_of(image))
        upright = choose_box(*((width, height) if turn.is_transposed else (height, width)))
        box = stored_box(Box(*upright), turn, height, width)
        if is_jpeg and (reduction := reduction_for(box, min_side)) > 1:
            image.draft(None, (width // reduction, height // reduction))
            box = reduced_box(box, reduction, height, width)
        image.load()
        part = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
        return turned_upright(to_rgb(os.fspath(path), part), turn)

    return read_image(path, content, read)


def _content(path: str | os.PathLike[str]) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # whoever opens it again says why
        return None
