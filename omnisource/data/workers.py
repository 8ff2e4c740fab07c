"""Worker processes that load samples, each of which can be ended and replaced without losing or repeating one.

Every worker has a pipe of its own and is given self-contained requests, so the parent knows at any moment what a
worker holds. A worker that dies is replaced and its requests are given out again; since a request decides its sample
entirely, the replacement loads the same pixels. Workers are started by forkserver (or spawn, where there is none):
a process forked from one that has used FFmpeg can hang on FFmpeg's locks.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

import numpy as np
import torch

from omnisource.data.pipeline import SampleRequest, load_clip
from omnisource.errors import UnreadableMedia
from omnisource.types import Clip

IN_FLIGHT = 2
"""Requests that a worker holds at once: the one it loads and the next, so that it never waits for the parent."""

MAX_ATTEMPTS = 2
"""Workers that may die over one request before its file counts as unreadable."""


class WorkerPool:
    """Loads requests in worker processes; results are fetched by ticket, in any order.

    Args:
        num_workers: Number of processes; 0 loads in the calling process, at the moment of `result`.
        item_timeout_seconds: Wall time after which a worker that is still at one request is ended and the file
            counts as unreadable.
        notify: Called with one line whenever a worker was replaced.
        load: What a worker does with a request; a function of a module, so that it can be named to a process.
    """

    def __init__(
        self,
        num_workers: int,
        item_timeout_seconds: float,
        notify: Callable[[str], None] = print,
        load: Callable[[SampleRequest], Any] = load_clip,
    ) -> None:
        self._timeout = item_timeout_seconds
        self._notify = notify
        self._load = load
        self._next_ticket = 0
        self._waiting: deque[int] = deque()  # tickets that no worker holds yet, oldest first
        self._requests: dict[int, SampleRequest] = {}
        self._attempts: dict[int, int] = {}
        self._results: dict[int, Any] = {}
        self._discarded: set[int] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._failure: str | None = None  # why no worker can run at all
        self._thread: threading.Thread | None = None
        self._wake_reader, self._wake_writer = connection.Pipe(duplex=False)
        self._workers: list[_Worker] = []
        if num_workers:
            methods = multiprocessing.get_all_start_methods()
            self._context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
            if "forkserver" in methods:
                self._context.set_forkserver_preload(["omnisource.data.workers"])
            self._workers = [_Worker(self._context, number, self._load) for number in range(num_workers)]
            self._thread = threading.Thread(target=self._run, name="omnisource-workers", daemon=True)
            self._thread.start()

    def submit(self, request: SampleRequest) -> int:
        """Returns the ticket under which `result` gives the sample of `request`."""
        with self._changed:
            ticket = self._next_ticket
            self._next_ticket += 1
            self._requests[ticket] = request
            self._waiting.append(ticket)
        if self._workers:
            self._wake()
        return ticket

    def result(self, ticket: int) -> Any:
        """Returns what loading a ticket's request gave, or the UnreadableMedia that it raised; waits for it.

        Raises:
            RuntimeError: If loading failed for a reason that is not the file's: a fault of the program.
        """
        if not self._workers:
            result = _outcome(self._load, self._requests.pop(ticket))
            with self._changed:
                self._waiting.remove(ticket)
        else:
            with self._changed:
                while ticket not in self._results:
                    if self._failure or self._thread is None or not self._thread.is_alive():
                        raise RuntimeError(self._failure or "the thread that feeds the workers ended")
                    self._changed.wait(timeout=1.0)
                result = self._results.pop(ticket)
        if isinstance(result, _Crash):
            raise RuntimeError(f"a loading worker failed:\n{result.traceback}")
        return result

    def discard(self, ticket: int) -> None:
        """Gives a ticket up: its result is dropped, or it is never loaded."""
        with self._changed:
            if ticket in self._results:
                del self._results[ticket]
            elif ticket in self._waiting:
                self._waiting.remove(ticket)
                del self._requests[ticket]
            else:
                self._discarded.add(ticket)

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the workers that now run."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def close(self) -> None:
        """Ends all workers; what was submitted and not fetched is dropped."""
        self._closing = True
        self._wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for worker in self._workers:
            worker.end()
        self._workers = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_writer.send_bytes(b"")

    def _run(self) -> None:
        while not self._closing and not self._failure:
            self._hand_out()
            ready = connection.wait(
                [self._wake_reader, *(worker.pipe for worker in self._workers)], timeout=self._seconds_to_deadline()
            )
            if self._wake_reader in ready:
                while self._wake_reader.poll():
                    self._wake_reader.recv_bytes()
            for number, worker in enumerate(self._workers):
                if worker.pipe in ready:
                    self._receive(number, worker)
                elif worker.is_ready and worker.held and time.monotonic() > worker.started + self._timeout:
                    self._replace_hung(number, worker)

    def _hand_out(self) -> None:
        with self._changed:
            # Fill every worker's first place before any second one, so that a short queue is spread evenly.
            for depth in range(1, IN_FLIGHT + 1):
                for worker in self._workers:
                    if self._waiting and len(worker.held) < depth:
                        ticket = self._waiting.popleft()
                        worker.give(ticket, self._requests[ticket])

    def _receive(self, number: int, worker: _Worker) -> None:
        try:
            if not worker.is_ready:
                worker.pipe.recv()
                worker.is_ready = True
                worker.started = time.monotonic()
                return
            ticket, result = worker.take()
        except (EOFError, OSError):
            if worker.is_ready:
                self._replace_dead(number, worker)
            else:
                worker.end()
                self._failure = f"a loading worker could not start ({_exit_words(worker.process.exitcode)})"
            return
        self._finish(ticket, result)

    def _finish(self, ticket: int, result: Any) -> None:
        with self._changed:
            self._requests.pop(ticket)
            self._attempts.pop(ticket, None)
            if ticket in self._discarded:
                self._discarded.remove(ticket)
            else:
                self._results[ticket] = result
            self._changed.notify_all()

    def _replace_dead(self, number: int, worker: _Worker) -> None:
        worker.end()
        held = list(worker.held)
        reason = f"its worker process ended ({_exit_words(worker.process.exitcode)})"
        if held:
            current = held[0]
            self._attempts[current] = self._attempts.get(current, 0) + 1
            path = self._requests[current].path
            self._notify(f"worker {number} ended ({_exit_words(worker.process.exitcode)}) at {path}; it is replaced")
            if self._attempts[current] >= MAX_ATTEMPTS:
                self._finish(current, UnreadableMedia(path, f"{reason}, {MAX_ATTEMPTS} times"))
                held.remove(current)
        else:
            self._notify(f"worker {number} ended ({_exit_words(worker.process.exitcode)}); it is replaced")
        self._start_again(number, held)

    def _replace_hung(self, number: int, worker: _Worker) -> None:
        worker.end()
        current, *held = worker.held
        path = self._requests[current].path
        self._notify(f"worker {number} was ended after {self._timeout:g} s at {path}; it is replaced")
        self._finish(current, UnreadableMedia(path, f"decoding took longer than {self._timeout:g} s"))
        self._start_again(number, held)

    def _start_again(self, number: int, tickets: list[int]) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(tickets))
        self._workers[number] = _Worker(self._context, number, self._load)

    def _seconds_to_deadline(self) -> float | None:
        deadlines = [worker.started + self._timeout for worker in self._workers if worker.is_ready and worker.held]
        return max(0.0, min(deadlines) - time.monotonic()) + 0.01 if deadlines else None


@dataclass(frozen=True)
class _Crash:
    """A fault of the program in a worker, as its traceback."""

    traceback: str


@dataclass
class _Worker:
    """One process, its pipe, and the tickets that it holds, the one being loaded first."""

    context: Any
    number: int
    load: Callable[[SampleRequest], Any]
    held: deque[int] = field(default_factory=deque)
    started: float = 0.0
    is_ready: bool = False

    def __post_init__(self) -> None:
        self.pipe, theirs = self.context.Pipe()
        name = f"omnisource-worker-{self.number}"
        self.process = self.context.Process(target=_serve, args=(theirs, self.load), name=name, daemon=True)
        self.process.start()
        theirs.close()

    def give(self, ticket: int, request: SampleRequest) -> None:
        if not self.held:
            self.started = time.monotonic()
        self.held.append(ticket)
        with contextlib.suppress(OSError):  # a dead worker is found, and replaced, when its pipe is read
            self.pipe.send((ticket, request))

    def take(self) -> tuple[int, Any]:
        ticket, header = self.pipe.recv()
        if isinstance(header, _ClipHeader):
            pixels = np.empty(header.shape, dtype=np.uint8)
            self.pipe.recv_bytes_into(pixels.data.cast("B"))
            header = Clip(torch.from_numpy(pixels), header.label, header.key, header.media)
        self.held.remove(ticket)
        self.started = time.monotonic()
        return ticket, header

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


@dataclass(frozen=True)
class _ClipHeader:
    """What goes before a clip's bytes: everything but the pixels."""

    shape: tuple[int, ...]
    label: int
    key: str
    media: Any


def _serve(pipe: connection.Connection, load: Callable[[SampleRequest], Any]) -> None:
    """Loads requests from the pipe until the parent closes it or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send("ready")
        while True:
            ticket, request = pipe.recv()
            result = _outcome(load, request)
            if isinstance(result, Clip):
                pixels = result.frames.numpy()
                pipe.send((ticket, _ClipHeader(pixels.shape, result.label, result.key, result.media)))
                pipe.send_bytes(pixels.data.cast("B"))
            else:
                pipe.send((ticket, result))


def _outcome(load: Callable[[SampleRequest], Any], request: SampleRequest) -> Any:
    try:
        return load(request)
    except UnreadableMedia as error:
        return error
    except Exception:
        return _Crash(f"{request}\n{traceback.format_exc()}")


def _exit_words(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"
