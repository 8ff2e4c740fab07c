"""What was found out about video files by decoding them, so that it need not be found out at every visit."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import av
import numpy as np

from omnisource.data.cache import cache_folder

NUM_SLOTS = 2**22
"""Videos that can be remembered, in 64 MiB; one in twenty of 240,000 shares its slot with another."""

WHOLE_BITS, LENGTH_BITS = 16, 24


class KnownFiles:
    """A bounded memory of files: how long they are, and how far they are whole.

    It is a cache: which frames are read of a file is the same with and without it. So are their pixels, but where bits
    have flipped inside a packet and the decoder noticed nothing: decoding in order and from a keyframe can then
    differ. A file is known by its fingerprint. Where two files meet in one slot, the earlier is forgotten.

    A number and the fingerprint that it belongs to are one word of 64 bits, written at once: processes may share the
    memory without asking one another.
    """

    def __init__(self, num_slots: int = NUM_SLOTS, path: Path | None = None) -> None:
        """Makes a memory of `num_slots` files, in the file at `path` if one is given, which is made where needed.

        Raises:
            OSError: That file cannot be made.
        """
        if path is None:
            words = np.zeros((2, num_slots), np.uint64)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and fatal later
                    os.posix_fallocate(file.fileno(), 0, 16 * num_slots)
                else:
                    file.truncate(16 * num_slots)
            words = np.memmap(path, np.uint64, "r+", shape=(2, num_slots))
        self._whole, self._lengths = words

    def num_frames(self, fingerprint: int) -> int | None:
        """Returns the frames of a file, if they were counted by decoding them all."""
        number = _read(self._lengths, fingerprint, LENGTH_BITS)
        return number - 1 if number else None

    def num_whole(self, fingerprint: int) -> int:
        """Returns how many frames from the start on were decoded in order, none of them damaged."""
        return _read(self._whole, fingerprint, WHOLE_BITS)

    def remember_num_frames(self, fingerprint: int, num_frames: int) -> None:
        """Notes that decoding all of a file gave so many frames."""
        _write(self._lengths, fingerprint, LENGTH_BITS, num_frames + 1)  # 0: not known

    def remember_num_whole(self, fingerprint: int, num_whole: int) -> None:
        """Notes that decoding a file in order gave so many frames, none of them damaged."""
        if num_whole > self.num_whole(fingerprint):
            _write(self._whole, fingerprint, WHOLE_BITS, num_whole)


@functools.cache
def known_files() -> KnownFiles:
    """Returns the memory that all processes of a user share; one of its own where that cannot be kept."""
    try:
        return KnownFiles(path=cache_folder() / "known_videos_2")
    except OSError:
        return KnownFiles()


def fingerprint(path: str, content: bytes | None) -> int:
    """Returns a number of 64 bits for the present state of a file: its path, size and time of change, or its content.

    0 stands for a file that is not there.
    """
    if content is not None:
        identity = hashlib.sha256(content).digest()
    else:
        try:
            state = os.stat(path)
        except (OSError, ValueError):  # also: a zero byte in the path
            return 0  # opening it will say why
        identity = f"{state.st_size} {state.st_mtime_ns} {os.path.abspath(path)}".encode(errors="surrogateescape")
    # Another decoder may judge otherwise.
    return int.from_bytes(hashlib.blake2b(identity + av.__version__.encode(), digest_size=8).digest(), "little")


def _read(words: np.ndarray, fingerprint: int, num_bits: int) -> int:
    word = int(words[fingerprint % len(words)])
    return word % (1 << num_bits) if word >> num_bits == fingerprint >> num_bits else 0


def _write(words: np.ndarray, fingerprint: int, num_bits: int, number: int) -> None:
    if fingerprint and number < 1 << num_bits:  # longer ones are found out again each time
        words[fingerprint % len(words)] = (fingerprint >> num_bits << num_bits) + number
