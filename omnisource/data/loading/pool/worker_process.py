"""One worker process: starting it, handing it requests, collecting its answers without ever waiting for it, ending it.

Parent and worker talk over a socket of their own. The parent reads whatever has arrived and goes on, so a worker that
hangs or is stopped in the middle of an answer holds nobody up.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, Literal

import numpy as np
import torch

from omnisource.data.decoding.heartbeat import heard_by
from omnisource.data.loading.request import Load, Request
from omnisource.errors import UnreadableMedia
from omnisource.signals import STOP_SIGNALS
from omnisource.types import Clip, Media

StartMethod = Literal["forkserver", "spawn"]

# A process forked from one that has used FFmpeg can hang on FFmpeg's locks. The server has only imported it; elsewhere
# than on Linux, libraries of the system may start threads on import, so that even its forks are unsafe.
START_METHOD: StartMethod = "forkserver" if sys.platform == "linux" else "spawn"

GRACE_SECONDS = 1.0
"""Time given to a worker that has closed its socket to leave its exit code."""

MIN_ASKED_SECONDS = 0.2
"""An item that has not taken this long is not asked for its processor time."""

END_SECONDS = 5.0
"""Time given to a killed worker; the system does not end one that waits for a broken disk before that has answered."""

_SIZES = struct.Struct("!QQ")  # before a message: bytes of its pickle, then of its pixels


@dataclass(frozen=True)
class Crash:
    """A fault of the program while loading, as its traceback."""

    traceback: str


@dataclass(frozen=True)
class _ClipHeader:
    """Everything of a clip but the pixels, which follow as they are."""

    shape: tuple[int, ...]
    label: int
    key: str
    media: Media


class WorkerProcess:
    """A process that loads requests, and what its parent knows of it.

    Args:
        start_method: How it is started.
        number: Its index among the workers.
        load: What it does with a request; a function of a module, so that it can be named to a process.

    Attributes:
        held: Tickets that it was given and has not answered; it loads the first.
        is_ready: Whether it has started; only then may it be given requests.
        since: When it began what it does, on the clock of `time.monotonic`: to start, or to load `held[0]`; or when
            its last heartbeat came.
        channel: The parent's end of the socket; has input when `receive` has something to do.
        process_id: Its process id.
        ending: How it ended, in words.
    """

    def __init__(self, start_method: StartMethod, number: int, load: Load) -> None:
        context: Any = multiprocessing.get_context(start_method)
        if start_method == "forkserver":
            # Imports torch once for all workers.
            context.set_forkserver_preload([__name__, load.__module__, "omnisource.data.loading.pool.frozen_imports"])
        self.held: deque[int] = deque()
        self.is_ready = False
        self.since = time.monotonic()
        self.ending = "it runs"
        self.channel, theirs = socket.socketpair()
        try:
            name = f"omnisource-worker-{number}"
            self._process = context.Process(target=_serve, args=(theirs, load), name=name, daemon=True)
            with _signals_withheld():
                self._process.start()
        except BaseException:
            self.channel.close()
            raise
        finally:
            theirs.close()  # or the end of the worker could not be seen on ours
        assert self._process.pid is not None
        self.process_id = self._process.pid
        self.channel.setblocking(False)
        self._processor_since = 0.0
        self._messages = _messages(self.channel)

    def give(self, ticket: int, request: Request) -> None:
        """Hands a request over. If the worker cannot take it, that is seen, as its end, at the next `receive`."""
        if not self.held:
            self._begin()
        self.held.append(ticket)
        message = _packed((ticket, request))
        with contextlib.suppress(OSError):
            if self.channel.send(message) == len(message):
                return
        # It is dead; or it does not even read, which the buffer of the socket hides for more than it ever holds.
        self._process.kill()

    def receive(self) -> tuple[int, Any] | None:
        """Returns (ticket, result) where a whole answer has arrived, and None otherwise; never waits.

        Raises:
            EOFError: If the worker ended.
            OSError: If the worker ended.
        """
        message = next(self._messages)
        if message is None:
            return None
        value, pixels = message
        self._begin()
        if not self.is_ready:
            self.is_ready = True
            return None
        if value is None:  # a heartbeat: it goes on with a long file
            return None
        ticket, result = value
        if isinstance(result, _ClipHeader):
            frames = torch.from_numpy(pixels).view(result.shape)
            result = Clip(frames, result.label, result.key, result.media)
        self.held.remove(ticket)
        return ticket, result

    def item_processor_seconds(self) -> float:
        """Returns the processor seconds that it spent on `held[0]` since `since`; 0 where the system does not tell."""
        if time.monotonic() - self.since < MIN_ASKED_SECONDS:
            return 0.0
        return self._processor_seconds() - self._processor_since

    def end(self, is_dead: bool = False) -> None:
        """Ends the process; may be called again.

        Args:
            is_dead: Whether it was seen to end by itself, and is given a moment to leave its exit code.
        """
        if self.channel.fileno() < 0:
            return
        self._process.join(GRACE_SECONDS if is_dead else 0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(END_SECONDS)
        self.ending = _exit_words(self._process.exitcode)
        if self._process.exitcode is not None:
            self._process.close()
        self.channel.close()

    def _begin(self) -> None:
        self.since = time.monotonic()
        self._processor_since = self._processor_seconds()

    def _processor_seconds(self) -> float:
        """Returns the processor time of the process since its start, in seconds; 0 where the system does not tell."""
        if sys.platform != "linux":
            return 0.0
        with contextlib.suppress(OSError):  # it is gone, which is seen elsewhere
            # What clock_getcpuclockid(3) makes of a process id. Source: glibc, sysdeps/unix/sysv/linux.
            return time.clock_gettime((~self.process_id << 3) | 2)
        return 0.0


@contextlib.contextmanager
def _signals_withheld() -> Iterator[None]:
    """Holds back the signals that workers ignore; a process that is started meanwhile never gets them.

    Until a worker comes to its first line it has much to import, and the server that forks the workers never comes to
    a line of ours: but both inherit what is held back. This process gets what has come when the block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        resource_tracker.ensure_running()  # starting it, as multiprocessing does, lets some of the signals through
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def outcome(load: Load, request: Request) -> Any:
    """Returns what loading gave, the UnreadableMedia that it raised, or the Crash that it was."""
    try:
        return load(request)
    except UnreadableMedia as error:
        return error
    except Exception:
        return _crash(request)


def _crash(request: Request) -> Crash:
    return Crash(f"{request}\n{traceback.format_exc()}")


def _serve(channel: socket.socket, load: Load) -> None:
    """Loads the requests that arrive, until the parent closes the channel or is gone.

    The parent ends one that hangs with SIGKILL.
    """
    for number in STOP_SIGNALS:  # the parent's to handle: terminals and batch systems send them to its whole group
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    heartbeats = heard_by(lambda: channel.sendall(_packed(None)))
    with contextlib.suppress(EOFError, ConnectionError), heartbeats:
        channel.sendall(_packed("ready"))
        for message in _messages(channel):
            assert message is not None, "reading blocks here"
            (ticket, request), _ = message
            head, pixels = _answer(ticket, request, outcome(load, request))
            channel.sendall(head)
            channel.sendall(pixels.data)


def _end_with_parent() -> None:
    """Ends this process when the parent is gone, also when loading hangs and never comes back to the channel."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _answer(ticket: int, request: Request, result: Any) -> tuple[bytes, np.ndarray]:
    """Returns the two parts of the message that carries a result: its head, and its pixels as they are."""
    pixels = np.empty(0, dtype=np.uint8)
    if isinstance(result, Clip):
        pixels = np.ascontiguousarray(result.frames.numpy()).reshape(-1)
        result = _ClipHeader(tuple(result.frames.shape), result.label, result.key, result.media)
    try:
        return _packed((ticket, result), len(pixels)), pixels
    except Exception:  # no pickle can be made of it
        return _packed((ticket, _crash(request))), pixels[:0]


def _packed(value: Any, num_pixel_bytes: int = 0) -> bytes:
    pickled = pickle.dumps(value)
    return _SIZES.pack(len(pickled), num_pixel_bytes) + pickled


def _messages(channel: socket.socket) -> Iterator[tuple[Any, np.ndarray] | None]:
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


def _exit_words(exit_code: int | None) -> str:
    if exit_code is None:
        return f"not even {END_SECONDS:g} s after SIGKILL"
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"
