"""Image files without what lies beside their pixels, for readers that stumble over it.

Nothing is decoded here. Every function of a format returns the file with what its pixels need, the first picture of
several, and the orientation where it is whole; transparency may go, as in all that is read for training. It returns
None where the file is not built as its format demands.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from omnisource.data.decoding.metadata.gif import bare_gif
from omnisource.data.decoding.metadata.jpeg import bare_jpeg
from omnisource.data.decoding.metadata.png import bare_png
from omnisource.data.decoding.metadata.tiff import bare_tiff
from omnisource.data.decoding.metadata.webp import bare_webp

_FORMATS: tuple[tuple[bytes, Callable[[bytes], bytes | None]], ...] = (
    (b"\xff\xd8", bare_jpeg),
    (b"\x89PNG\r\n\x1a\n", bare_png),
    (b"RIFF", bare_webp),
    (b"GIF8", bare_gif),
    (b"II*\0", bare_tiff),
    (b"MM\0*", bare_tiff),
)

LONGEST_SIGNATURE = 8
"""Bytes from the start of a file that tell whether its metadata can be removed."""


def can_remove_metadata(beginning: bytes) -> bool:
    """Returns whether a file that begins so is of a format that is known here."""
    return any(beginning.startswith(signature) for signature, _ in _FORMATS)


def without_metadata(content: bytes) -> bytes | None:
    """Returns an image file without its metadata, or None where that cannot be had.

    Args:
        content: The bytes of the file.
    """
    for signature, bare in _FORMATS:
        if content.startswith(signature):
            try:
                return bare(content)
            except (IndexError, struct.error):  # it ends within something that the pixels need
                return None
    return None
