"""PNG files without their metadata."""

from __future__ import annotations

import struct
import zlib

_SIGNATURE_BYTES = 8
_PALETTE_COLORS = 3  # the color type whose pixels are indices


def bare_png(content: bytes) -> bytes | None:
    """Returns a PNG file with its header, palette and pixels alone, and its orientation where its checksum is right."""
    kept, position, has_pixels = [content[:_SIGNATURE_BYTES]], _SIGNATURE_BYTES, False
    color_type = content[_SIGNATURE_BYTES + 8 + 9]
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if not kind.isalpha() or (end > len(content) and kind != b"IDAT"):
            if has_pixels:
                break  # what follows them is of no use
            # The length of a chunk is wrong: the pixels begin somewhere behind.
            position = content.find(b"IDAT", position + 5) - 4
            if position < 0:
                return None
            continue
        chunk = content[position:end]
        if kind == b"IEND":
            break
        if kind in (b"IHDR", b"IDAT") or (kind == b"PLTE" and color_type == _PALETTE_COLORS):
            kept.append(chunk)
            has_pixels |= kind == b"IDAT"
        elif kind == b"eXIf" and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big"):
            kept.append(chunk)
        elif kind[:1].isupper() and kind != b"PLTE":  # no pixels can be told without it
            return None
        position = end
    return b"".join([*kept, struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))])
