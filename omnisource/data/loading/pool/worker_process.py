"""One worker process: starting it, handing it requests, collecting its answers without ever waiting for it, ending it.

Parent and worker talk over a socket of their own. The parent reads whatever has arrived and goes on, so a worker that
hangs or is stopped in the middle of an answer holds nobody up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from typing import Any

import torch

from omnisource.data.loading.pool.child_process import StartMethod, start_process
from omnisource.data.loading.pool.messages import ClipHeader, messages, packed
from omnisource.data.loading.request import Load, Request
from omnisource.types import Clip

GRACE_SECONDS = 1.0
"""Time given to a worker that has closed its socket to leave its exit code."""

MIN_ASKED_SECONDS = 0.2
"""An item that has not taken this long is not asked for its processor time."""

END_SECONDS = 5.0
"""Time given to a killed worker; the system does not end one that waits for a broken disk before that has answered."""


class WorkerProcess:
    """A process that loads requests, and what its parent knows of it.

    Args:
        start_method: How it is started.
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

    def __init__(self, start_method: StartMethod, load: Load) -> None:
        self.held: deque[int] = deque()
        self.is_ready = False
        self.since = time.monotonic()
        self.ending = "it runs"
        self.channel, theirs = socket.socketpair()
        try:
            with theirs:  # closed here, or the end of the worker could not be seen on ours
                self._process = start_process(start_method, theirs, [load.__module__])
        except BaseException:
            self.channel.close()
            raise
        self.process_id = self._process.process_id
        with contextlib.suppress(OSError):  # it has ended, which is seen elsewhere
            self.channel.sendall(packed((_current_folder(), load)))
        self.channel.setblocking(False)
        self._processor_since = 0.0
        self._messages = messages(self.channel)

    def give(self, ticket: int, request: Request) -> None:
        """Hands a request over. If the worker cannot take it, that is seen, as its end, at the next `receive`."""
        if not self.held:
            self._begin()
        self.held.append(ticket)
        message = packed((ticket, request))
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
        if isinstance(result, ClipHeader):
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
        exit_code = self._process.wait(GRACE_SECONDS if is_dead else 0)
        if exit_code is None:
            self._process.kill()
            exit_code = self._process.wait(END_SECONDS)
        self.ending = _exit_words(exit_code)
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


def _current_folder() -> str:
    """Returns the folder that relative paths start from; "" where it is gone."""
    with contextlib.suppress(OSError):
        return os.getcwd()
    return ""


def _exit_words(exit_code: int | None) -> str:
    if exit_code is None:
        return f"not even {END_SECONDS:g} s after SIGKILL"
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"
