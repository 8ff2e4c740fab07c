"""The heartbeat of a long read: a time limit is for what hangs, not for what is long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

FRAMES_A_BEAT = 256
"""Decoded frames after which a reader beats."""

_listener: ContextVar[Callable[[], None] | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: Callable[[], None]) -> Iterator[None]:
    """Has `listener` called at every beat within the block, by the thread that entered it."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def beat() -> None:
    """Tells whoever listens that the reader goes on."""
    listener = _listener.get()
    if listener is not None:
        listener()
