"""TIFF files without their metadata."""

from __future__ import annotations

import struct

# Tags without which pixels are not to be had, and the orientation (274). Source: TIFF 6.0, and Adobe's notes of 1995
# and 2002 for JPEG and for the predictor.
_NEEDED = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 321, 322, 323, 324, 325)
) | frozenset((332, 338, 339, 347, *range(512, 533)))
_ENTRY_BYTES = 12


def bare_tiff(content: bytes) -> bytes:
    """Returns a TIFF file with its first picture alone, and of its tags only those that pixels need.

    The bytes of the others stay in the file, where nothing leads to them.
    """
    order = "<" if content.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    entries = [
        content[place : place + _ENTRY_BYTES]
        for place in range(start + 2, min(start + 2 + count * _ENTRY_BYTES, len(content)), _ENTRY_BYTES)
    ]
    kept = [entry for entry in entries if struct.unpack_from(f"{order}H", entry)[0] in _NEEDED]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)  # no further picture
    return content[:start] + directory + content[start + len(directory) :]
