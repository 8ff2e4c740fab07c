"""What parent and workers say to one another over a socket, and the faults and clips that travel so."""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from omnisource.types import Media

NUMBER = struct.Struct("!i")  # a process id, an error number below 0, or an exit code

_SIZES = struct.Struct("!QQ")  # before a message: bytes of its pickle, then of its pixels


@dataclass(frozen=True)
class Crash:
    """A fault of the program while loading, as its traceback."""

    traceback: str


@dataclass(frozen=True)
class ClipHeader:
    """Everything of a clip but the pixels, which follow as they are."""

    shape: tuple[int, ...]
    label: int
    key: str
    media: Media


def packed(value: Any, num_pixel_bytes: int = 0) -> bytes:
    """Returns a message but for its pixels, which follow it."""
    pickled = pickle.dumps(value)
    return _SIZES.pack(len(pickled), num_pixel_bytes) + pickled


def messages(channel: socket.socket) -> Iterator[tuple[Any, np.ndarray] | None]:
    """Yields (value, pixels [bytes] uint8) for each message, and None whenever the rest of one is not there yet.

    Raises:
        EOFError: If the other side closed the channel.
    """
    while True:
        sizes = bytearray(_SIZES.size)
        yield from _filled(channel, memoryview(sizes))
        num_bytes, num_pixel_bytes = _SIZES.unpack(sizes)
        pickled, pixels = bytearray(num_bytes), np.empty(num_pixel_bytes, dtype=np.uint8)
        yield from _filled(channel, memoryview(pickled))
        yield from _filled(channel, pixels.data)
        yield pickle.loads(pickled), pixels


def _filled(channel: socket.socket, missing: memoryview) -> Iterator[None]:
    while missing:
        try:
            num_bytes = channel.recv_into(missing)
        except BlockingIOError:
            yield None
            continue
        if not num_bytes:
            raise EOFError
        missing = missing[num_bytes:]
