"""GIF files without their metadata."""

from __future__ import annotations

_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL = b"\x21\xf9\x04"
_CONTROL_BYTES = 8


def bare_gif(content: bytes) -> bytes | None:
    """Returns a GIF file with its first picture alone, and the transparency of that where it is whole."""
    position = 13 + _palette_bytes(content[10])
    kept = [content[:position]]
    while content[position] not in (_IMAGE, _END):
        if content[position] != _EXTENSION:  # junk between the blocks
            position += 1
            continue
        is_control = content.startswith(_CONTROL, position) and content[position + _CONTROL_BYTES - 1] == 0
        if is_control:
            kept.append(content[position : position + _CONTROL_BYTES])
        position = _end_of_blocks(content, position + 2)
    if content[position] == _END:
        return None
    pixels = position + 10 + _palette_bytes(content[position + 9])
    return b"".join([*kept, content[position : _end_of_blocks(content, pixels + 1)], bytes([_END])])


def _palette_bytes(flags: int) -> int:
    """Returns the length of the palette that the flags of a screen or of a picture announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _end_of_blocks(content: bytes, position: int) -> int:
    """Returns where the blocks that begin at a position end: behind an empty one."""
    while length := content[position]:
        position += 1 + length
    return position + 1
