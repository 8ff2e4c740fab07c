"""A hash of what a picture shows: two pictures are compared by the number of bits in which their hashes differ.

It is made of the signs of the slowest waves in the picture, so that encoding it again, resizing it or making it a
little brighter changes few bits, while pictures of other things differ in about half of them. A video is known by some
of its frames and by what changes from each to the next: in videos from a camera that stands still only that differs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

HASH_BITS = 256
"""Bits of a hash: 16 waves along each side. The first, which would be the mean brightness, is always 0."""

HASH_BYTES = HASH_BITS // 8
"""Bytes of a hash."""

_SIDE = 32  # pixels of the small gray picture that the waves are found in
_WAVES = 16  # of each direction
_CLEAR = 1.0  # gray levels: weaker waves are noise of the encoding, and so are their signs
_MIN_CLEAR_WAVES = 128
_GRAY = (0.299, 0.587, 0.114)  # shares of red, green and blue in the brightness, ITU-R BT.601


@dataclass(frozen=True)
class PictureHash:
    """The hash of a picture, or of the change from one to another.

    Attributes:
        bits: `HASH_BYTES` bytes.
        is_plain: Whether noise of the encoding decides most of the bits, as in a picture of one color or a plain
            gradient: it cannot be told from others.
    """

    bits: bytes
    is_plain: bool


def image_hash(pixels: np.ndarray) -> PictureHash:
    """Returns the hash of a picture [H, W, 3] uint8, RGB."""
    return _hash(_small(pixels))


def video_hashes(frames: Sequence[np.ndarray] | np.ndarray) -> tuple[PictureHash, ...]:
    """Returns the hashes of some frames [H, W, 3] uint8, RGB, and then those of the changes from each to the next."""
    pictures = [_small(frame) for frame in frames]
    return tuple(map(_hash, [*pictures, *(second - first for first, second in pairwise(pictures))]))


def _small(pixels: np.ndarray) -> np.ndarray:
    """Returns a picture in gray, [_SIDE, _SIDE] float64."""
    # [H, W, 3] -> [1, 3, H, W] as a view, then small; in this order it is the small picture that becomes floats.
    picture = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    small = functional.interpolate(picture, (_SIDE, _SIDE), mode="bilinear", antialias=True)[0].numpy()
    return np.tensordot(np.array(_GRAY), small.astype(np.float64), axes=1)


def _hash(picture: np.ndarray) -> PictureHash:
    waves = (_cosines() @ picture @ _cosines().T).ravel()[1:]
    bits = np.packbits(np.concatenate([[False], waves > 0])).tobytes()
    return PictureHash(bits, is_plain=bool((np.abs(waves) > _CLEAR).sum() < _MIN_CLEAR_WAVES))


@functools.cache
def _cosines() -> np.ndarray:
    """Returns the first rows of the orthonormal discrete cosine transform, [_WAVES, _SIDE] float64."""
    wave, position = np.arange(_WAVES)[:, None], np.arange(_SIDE)[None]
    cosines = np.cos(np.pi * (2 * position + 1) * wave / (2 * _SIDE)) * np.sqrt(2 / _SIDE)
    cosines[0] /= np.sqrt(2)
    return cosines
