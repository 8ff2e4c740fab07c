"""What runs in a worker process: it loads what it is asked for, until its parent is gone."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import traceback
from typing import Any

import numpy as np
import torch

from omnisource.data.decoding.heartbeat import heard_by
from omnisource.data.loading.pool.messages import ClipHeader, Crash, messages, packed
from omnisource.data.loading.request import Load, Request
from omnisource.errors import UnreadableMedia
from omnisource.signals import STOP_SIGNALS
from omnisource.types import Clip


def serve(channel: socket.socket) -> None:
    """Loads the requests that arrive, until the parent closes the channel or is gone.

    Before them come the folder that relative paths start from, "" for the one that this process has, and the function
    that loads. The parent ends one that hangs with SIGKILL.
    """
    ignore_stop_signals()
    threading.Thread(target=_end_with_parent, args=(channel,), daemon=True).start()
    torch.set_num_threads(1)
    arriving = messages(channel)
    with contextlib.suppress(EOFError, ConnectionError), heard_by(lambda: channel.sendall(packed(None))):
        folder, load = _next(arriving)
        if folder:
            with contextlib.suppress(OSError):  # it may not be looked into: it can still be the one of this process
                os.chdir(folder)
        channel.sendall(packed("ready"))
        while True:
            ticket, request = _next(arriving)
            head, pixels = _answer(ticket, request, outcome(load, request))
            channel.sendall(head)
            channel.sendall(pixels.data)


def ignore_stop_signals() -> None:
    """Leaves the signals that stop a run to the parent: terminals and batch systems send them to its whole group."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


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


def _next(arriving: Any) -> Any:
    message = next(arriving)
    assert message is not None, "reading blocks here"
    return message[0]


def _end_with_parent(channel: socket.socket) -> None:
    """Ends this process when the parent is gone, also when loading hangs and never comes back to the channel."""
    parent = select.poll()
    parent.register(channel, 0)  # of the other end's close it tells whatever else it is asked for
    parent.poll()
    os._exit(1)


def _answer(ticket: int, request: Request, result: Any) -> tuple[bytes, np.ndarray]:
    """Returns the two parts of the message that carries a result: its head, and its pixels as they are."""
    pixels = np.empty(0, dtype=np.uint8)
    if isinstance(result, Clip):
        pixels = np.ascontiguousarray(result.frames.numpy()).reshape(-1)
        result = ClipHeader(tuple(result.frames.shape), result.label, result.key, result.media)
    try:
        return packed((ticket, result), len(pixels)), pixels
    except Exception:  # no pickle can be made of it
        return packed((ticket, _crash(request))), pixels[:0]
