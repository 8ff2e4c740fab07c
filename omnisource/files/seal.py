"""The seal of a checkpoint: a digest at its end, by which damage is noticed wherever it lies.

A checkpoint is what `torch.save` writes, an archive in the zip format. Its comment, which the format allows at the end,
is the seal, so that other programs read the file too.
"""

from __future__ import annotations

import hashlib
import io

_SEAL = b"omnisource blake2b "
_DIGEST_BYTES = 32
_SEAL_BYTES = len(_SEAL) + 2 * _DIGEST_BYTES


def seal(buffer: io.BytesIO) -> None:
    """Ends an archive with a comment that holds the digest of all that stands before it.

    Source: the zip format (PKWARE, APPNOTE.TXT 4.3.16): the last two bytes of an archive without a comment are the
    length of the comment, 0.
    """
    view = buffer.getbuffer()
    assert view[-2:] == b"\0\0", "torch.save writes no comment"
    view[-2:] = _SEAL_BYTES.to_bytes(2, "little")
    words = _SEAL + hashlib.blake2b(view, digest_size=_DIGEST_BYTES).hexdigest().encode()
    view.release()  # a buffer cannot grow while it is looked into
    buffer.seek(0, io.SEEK_END)
    buffer.write(words)


def is_sealed(data: bytes) -> bool:
    """Returns whether a file ends with a seal; files of other programs, and of omnisource 0.1, have none."""
    return data[-_SEAL_BYTES:].startswith(_SEAL)


def is_whole(data: bytes) -> bool:
    """Returns whether the content of a sealed file fits its digest."""
    digest = hashlib.blake2b(memoryview(data)[:-_SEAL_BYTES], digest_size=_DIGEST_BYTES).hexdigest()
    return data.endswith(digest.encode())
