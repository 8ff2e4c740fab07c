"""What was found out about video files by decoding them, so that it need not be found out at every visit."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from pathlib import Path

import av
import numpy as np

from omnisource.files.cache import cache_folder

NUM_SLOTS = 2**22
"""Videos that can be remembered, in 16 bytes each; one in twenty of 240,000 shares its slot with another."""

NUMBER_BITS = 24
"""Of the word that holds a number of frames; the others are those of the fingerprint that it belongs to."""


class VerifiedFiles:
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
        words = _WordsInMemory(2 * num_slots) if path is None else _WordsInFile(2 * num_slots, path)
        self._num_slots = num_slots
        self._words: _WordsInMemory | _WordsInFile = words

    def num_frames(self, fingerprint: int) -> int | None:
        """Returns the frames of a file, if they were counted by decoding them all."""
        number = self._read(1, fingerprint)
        return number - 1 if number else None

    def num_verified(self, fingerprint: int) -> int:
        """Returns how many frames from the start on were decoded in order, none of them damaged."""
        return self._read(0, fingerprint)

    def remember_num_frames(self, fingerprint: int, num_frames: int) -> None:
        """Notes that decoding all of a file gave so many frames."""
        self._write(1, fingerprint, num_frames + 1)  # 0: not known

    def remember_num_verified(self, fingerprint: int, num_verified: int) -> None:
        """Notes that decoding a file in order gave so many frames, none of them damaged."""
        if num_verified > self.num_verified(fingerprint):
            self._write(0, fingerprint, num_verified)

    def _read(self, kind: int, fingerprint: int) -> int:
        word = self._words.read(2 * (fingerprint % self._num_slots) + kind)
        return word % (1 << NUMBER_BITS) if word >> NUMBER_BITS == fingerprint >> NUMBER_BITS else 0

    def _write(self, kind: int, fingerprint: int, number: int) -> None:
        if fingerprint and number < 1 << NUMBER_BITS:  # longer ones are found out again each time
            word = (fingerprint >> NUMBER_BITS << NUMBER_BITS) + number
            self._words.write(2 * (fingerprint % self._num_slots) + kind, word)


class _WordsInMemory:
    """Words of 64 bits, all 0 at first."""

    def __init__(self, count: int) -> None:
        self._words = np.zeros(count, np.uint64)

    def read(self, index: int) -> int:
        return int(self._words[index])

    def write(self, index: int, word: int) -> None:
        self._words[index] = word


class _WordsInFile:
    """The same in a file, which is read and written word by word: mapped, it would count as memory of every process."""

    def __init__(self, count: int, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.truncate(8 * count)
        self._file = path.open("r+b", buffering=0)

    def read(self, index: int) -> int:
        try:
            return int.from_bytes(os.pread(self._file.fileno(), 8, 8 * index), "little")
        except OSError:  # nothing is known, then
            return 0

    def write(self, index: int, word: int) -> None:
        with contextlib.suppress(OSError):  # a full disk: it is found out again at the next visit
            os.pwrite(self._file.fileno(), word.to_bytes(8, "little"), 8 * index)


@functools.cache
def verified_files() -> VerifiedFiles:
    """Returns the memory that all processes of a user share; one of its own where that cannot be kept."""
    folder = cache_folder()
    if folder is not None:
        with contextlib.suppress(OSError):
            return VerifiedFiles(path=folder / "known_videos_4")
    return VerifiedFiles()


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
