"""JPEG files without their metadata."""

from __future__ import annotations

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD8))
_COMMENT, _APPLICATION = 0xFE, range(0xE0, 0xF0)

# What changes how pixels are read, and the least length with which it can be: the kind of color (JFIF, Adobe), and the
# orientation (Exif, XMP).
_NEEDED = (
    (0xE0, b"JFIF\0", 14),
    (0xEE, b"Adobe", 12),
    (0xE1, b"Exif\0\0", 14),
    (0xE1, b"http://ns.adobe.com/xap/1.0/\0", 29),
)


def bare_jpeg(content: bytes) -> bytes | None:
    """Returns a JPEG file without comments, profiles, thumbnails and junk between its segments.

    From the first scan on it stays as it is.
    """
    kept, position = [content[:2]], 2
    while (position := content.find(b"\xff", position)) >= 0:
        marker = content[position + 1]
        if marker == _SCAN:
            return b"".join([*kept, content[position:]])
        if marker in (_START, _END):  # another picture begins, such as a thumbnail in a segment of a wrong length
            return None
        if marker in (0x00, 0xFF):
            position += 1
            continue
        if marker in _WITHOUT_LENGTH:
            position += 2
            continue
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        end = position + 2 + length
        is_metadata = marker == _COMMENT or marker in _APPLICATION
        if length < 2 or end > len(content):
            if not is_metadata:
                return None
            position += 2  # its length is wrong: the next segment begins somewhere behind
            continue
        if not is_metadata or _is_needed(marker, content[position + 4 : end]):
            kept.append(content[position:end])
        position = end
    return None


def _is_needed(marker: int, payload: bytes) -> bool:
    return any(
        marker == of_marker and payload.startswith(name) and len(payload) >= min_length
        for of_marker, name, min_length in _NEEDED
    )
