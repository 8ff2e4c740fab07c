"""Makes damaged variants of files: each a pure function of the file's bytes and a number."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnisource.types import Media

INDEX_MARKS = {
    "mp4": b"moov",
    "mov": b"moov",
    "3gp": b"moov",
    "mkv": b"\x1c\x53\xbb\x6b",  # Cues
    "webm": b"\x1c\x53\xbb\x6b",
    "avi": b"idx1",
}
"""Where the table of a container's packets begins, by ending; elsewhere there is none."""

Damage = Callable[[bytes, str, np.random.Generator], tuple[bytes, str]]
"""Gives (damaged bytes, a note on where) of (bytes, ending of the file's name, generator)."""

IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp", "avif", "GIF", "bmp", "tiff", "ppm", "jp2")
"""Endings of images; animations have ".gif", in small letters."""

HEAD_BYTES = 400
"""What counts as the head of a file; where it is small, a tenth of it."""


@dataclass(frozen=True)
class Variant:
    """One damaged file.

    Attributes:
        base: Name of the file that it was made of.
        number: What it was made with: `variant(base, number, files)` makes it again.
        damage: What was done, in words.
        name: Its file name.
        media: What it is taken for: what its ending says.
        data: Its bytes.
    """

    base: str
    number: int
    damage: str
    name: str
    media: Media
    data: bytes

    def write(self, folder: Path) -> Path:
        """Writes the file below `folder` and returns its path."""
        path = folder / self.name
        path.write_bytes(self.data)
        return path


def variant(base: str, number: int, files: Mapping[str, bytes]) -> Variant:
    """Returns variant `number` of the file named `base`; consecutive numbers go through all kinds of damage.

    Args:
        base: Name of the file to damage.
        number: Which variant, 0 or more.
        files: Bytes by name: of the file, and of others whose endings and bytes may be borrowed.
    """
    rng = np.random.default_rng([number, zlib.crc32(base.encode())])
    kind = list(KINDS)[number % len(KINDS)]
    ending = base.rpartition(".")[2]
    data, note = KINDS[kind](files[base], ending, rng)
    if kind in BORROWED_ENDINGS:
        endings = sorted({name.rpartition(".")[2] for name in files} - {ending})
        ending = endings[rng.integers(len(endings))]
    if kind == "followed by another file":
        others = sorted(set(files) - {base})
        other = others[rng.integers(len(others))]
        data, note = data + files[other], other
    name = f"{base.replace('.', '_')}_{number}.{ending}"
    return Variant(base, number, f"{kind}: {note}" if note else kind, name, media_of(name), data)


def media_of(name: str) -> Media:
    """Returns what a file of this name is taken for."""
    return "image" if name.rpartition(".")[2] in IMAGE_ENDINGS else "video"


def _cut(low: float, high: float) -> Damage:
    def cut(data: bytes, ending: str, rng: np.random.Generator) -> tuple[bytes, str]:
        length = int(len(data) * rng.uniform(low, high))
        return data[:length], f"{length} of {len(data)} bytes"

    return cut


def _flip(count: int, where: str) -> Damage:
    def flip(data: bytes, ending: str, rng: np.random.Generator) -> tuple[bytes, str]:
        start, end = _region(data, ending, where)
        changed = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(start, end, count)
        np.bitwise_xor.at(changed, places, np.left_shift(1, rng.integers(0, 8, count)).astype(np.uint8))
        return changed.tobytes(), f"{count} in {start}-{end}"

    return flip


def _replace_range(where: str, filling: str, largest: float) -> Damage:
    def replace(data: bytes, ending: str, rng: np.random.Generator) -> tuple[bytes, str]:
        first, end = _region(data, ending, where)
        length = max(1, int((end - first) * largest * rng.random() ** 2))
        start = int(rng.integers(first, max(first + 1, end - length)))
        old = data[start : start + length]
        new = {
            "zeros": bytes(len(old)),
            "noise": rng.bytes(len(old)),
            "nothing": b"",
            "twice": old + old,
            "backwards": old[::-1],
        }[filling]
        return data[:start] + new + data[start + length :], f"{len(old)} bytes at {start}"

    return replace


def _whole(data: bytes, ending: str, rng: np.random.Generator) -> tuple[bytes, str]:
    return data, ""


def _twice(data: bytes, ending: str, rng: np.random.Generator) -> tuple[bytes, str]:
    return data + data, ""


def _almost_empty(data: bytes, ending: str, rng: np.random.Generator) -> tuple[bytes, str]:
    length = int(rng.choice([0, 0, 1, 4, 12, 40]))
    return data[:length], f"{length} bytes"


def _region(data: bytes, ending: str, where: str) -> tuple[int, int]:
    """Returns (start, end) of a part of a file, in bytes; never empty."""
    head = max(1, min(HEAD_BYTES, len(data) // 10))
    mark = data.rfind(INDEX_MARKS[ending]) if ending in INDEX_MARKS else -1
    index = (len(data) * 9 // 10, len(data)) if mark < 0 else (mark, len(data))
    if ending in ("mp4", "mov", "3gp") and 0 <= mark < len(data) // 2:
        index = (mark, max(mark + 1, data.rfind(b"mdat")))  # the table comes first
    return {"head": (0, head), "index": index, "payload": (head, max(head + 1, len(data))), "file": (0, len(data))}[
        where
    ]


BORROWED_ENDINGS = ("another ending", "another ending and flipped bits")

KINDS: dict[str, Damage] = {
    "cut anywhere": _cut(0, 1),
    "one bit flipped in the payload": _flip(1, "payload"),
    "zeros in the payload": _replace_range("payload", "zeros", 0.1),
    "8 bits flipped in the payload": _flip(8, "payload"),
    "one bit flipped in the head": _flip(1, "head"),
    "another ending": _whole,
    "cut near the end": _cut(0.9, 1),
    "one bit flipped in the index": _flip(1, "index"),
    "bytes removed": _replace_range("file", "nothing", 0.2),
    "64 bits flipped": _flip(64, "file"),
    "8 bits flipped in the head": _flip(8, "head"),
    "zeros over a large part": _replace_range("file", "zeros", 0.8),
    "bytes repeated": _replace_range("file", "twice", 0.2),
    "8 bits flipped in the index": _flip(8, "index"),
    "noise in the payload": _replace_range("payload", "noise", 0.1),
    "zeros in the index": _replace_range("index", "zeros", 0.5),
    "almost empty": _almost_empty,
    "cut near the start": _cut(0, 0.1),
    "bytes turned around": _replace_range("payload", "backwards", 0.05),
    "followed by itself": _twice,
    "followed by another file": _whole,
    "another ending and flipped bits": _flip(3, "file"),
}
"""What is done to files, by its name."""
