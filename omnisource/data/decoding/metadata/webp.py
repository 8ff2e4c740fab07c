"""WebP files without their metadata."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_HAS_EXIF = 0x08
_PIXELS = (b"VP8 ", b"VP8L")


def bare_webp(content: bytes) -> bytes | None:
    """Returns a WebP file with its first picture alone, and its Exif segment where that is whole.

    None is returned for an animation whose first picture does not fill it, too.
    """
    pixels, exif, canvas = None, None, None
    for kind, payload in _chunks(content, 12):
        if kind == b"VP8X":
            canvas = payload[4:10]
        elif kind == b"ANMF" and pixels is None:
            if payload[:6] != bytes(6) or payload[6:12] != canvas:
                return None
            pixels = next(((part, data) for part, data in _chunks(payload, 16) if part in _PIXELS), None)
        elif kind in _PIXELS and pixels is None:
            pixels = (kind, payload)
        elif kind == b"EXIF":
            exif = payload
    if pixels is None:
        return None
    chunks = _chunk(*pixels)
    if exif is not None and canvas is not None:
        header = bytes([_HAS_EXIF, 0, 0, 0]) + canvas
        chunks = _chunk(b"VP8X", header) + chunks + _chunk(b"EXIF", exif)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def _chunks(content: bytes, position: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields kind and payload of the chunks that are whole."""
    while position + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, position)
        end = position + 8 + length
        if end <= len(content):
            yield kind, content[position + 8 : end]
            position = end + length % 2
            continue
        if kind in (*_PIXELS, b"ANMF"):
            return  # cut off
        # Its length is wrong: the pixels begin somewhere behind.
        found = [place for name in _PIXELS if (place := content.find(name, position + 8)) >= 0]
        if not found:
            return
        position = min(found)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)
