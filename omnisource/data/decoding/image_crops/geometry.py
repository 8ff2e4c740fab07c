"""Where a part of an upright image lies among the stored pixels, and how far these may be reduced for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

REDUCTIONS = (8, 4, 2)
"""A JPEG can be decoded at one over these of its size."""


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Turn(NamedTuple):
    """What leads from the stored pixels to the upright ones, one after the other."""

    flips_rows: bool
    flips_columns: bool
    is_transposed: bool


# By EXIF orientation. Source: Exif 2.32, section 4.6.4, tag 274.
_TURNS = {
    2: Turn(False, True, False),
    3: Turn(True, True, False),
    4: Turn(True, False, False),
    5: Turn(False, False, True),
    6: Turn(True, False, True),
    7: Turn(True, True, True),
    8: Turn(False, True, True),
}


def turn_of(orientation: int) -> Turn:
    """Returns how an image is turned upright that has an EXIF orientation; unknown ones do not turn it."""
    return _TURNS.get(orientation, Turn(False, False, False))


def stored_box(box: Box, turn: Turn, height: int, width: int) -> Box:
    """Returns where a box of the upright image lies in the stored one, whose height and width are given."""
    top, left, box_height, box_width = box
    if turn.is_transposed:
        top, left, box_height, box_width = left, top, box_width, box_height
    if turn.flips_rows:
        top = height - top - box_height
    if turn.flips_columns:
        left = width - left - box_width
    return Box(top, left, box_height, box_width)


def turned_upright(pixels: np.ndarray, turn: Turn) -> np.ndarray:
    """Returns a view of stored pixels [H, W, 3] that shows them upright."""
    if turn.flips_rows:
        pixels = pixels[::-1]
    if turn.flips_columns:
        pixels = pixels[:, ::-1]
    return pixels.transpose(1, 0, 2) if turn.is_transposed else pixels


def reduction_for(box: Box, min_side: int) -> int:
    """Returns how far an image may be reduced so that no side of a box falls below a length in pixels."""
    shortest = min(box.height, box.width)
    return next((reduction for reduction in REDUCTIONS if shortest // reduction >= min_side), 1)


def reduced_box(box: Box, reduction: int, height: int, width: int) -> Box:
    """Returns a box of an image in whole pixels of the reduced image.

    Args:
        box: In the image.
        reduction: What its sides are divided by, and rounded up.
        height: Of the image.
        width: Of the image.
    """
    box_height, box_width = round(box.height / reduction), round(box.width / reduction)
    top = min(round(box.top / reduction), -(-height // reduction) - box_height)
    left = min(round(box.left / reduction), -(-width // reduction) - box_width)
    return Box(top, left, box_height, box_width)
