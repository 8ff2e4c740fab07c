"""Random boxes in a frame: those that are cropped, and those that are erased."""

from __future__ import annotations

import math

import numpy as np

from omnisource.recipe.data import RandomErasing, TrainingView

TRIES = 10
"""A box that does not fit into the frame is drawn again, this often."""


def random_box(
    height: int,
    width: int,
    ranges: TrainingView | RandomErasing,
    rng: np.random.Generator,
    *,
    is_smaller: bool = False,
) -> tuple[int, int, int, int] | None:
    """Returns (top, left, height, width) of a random box in a frame, in pixels, or None if no draw fits.

    Its area is drawn uniformly, its aspect log-uniformly, its place uniformly among those where it fits.

    Args:
        height: Of the frame.
        width: Of the frame.
        ranges: Its minimal and maximal area, as a share of the frame's, and aspect, width by height.
        rng: Draws all areas, then all aspects, then the place of the first box that fits.
        is_smaller: Whether both sides must be smaller than those of the frame, and not only as large.
    """
    areas = rng.uniform(ranges.min_area, ranges.max_area, TRIES) * height * width
    aspects = np.exp(rng.uniform(np.log(ranges.min_aspect), np.log(ranges.max_aspect), TRIES))
    for area, aspect in zip(areas.tolist(), aspects.tolist(), strict=True):  # mostly the first fits
        box_height, box_width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 1 <= box_height <= height - is_smaller and 1 <= box_width <= width - is_smaller:
            top = int(rng.integers(0, height - box_height, endpoint=True))
            left = int(rng.integers(0, width - box_width, endpoint=True))
            return top, left, box_height, box_width
    return None
