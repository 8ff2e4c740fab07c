"""The thread that feeds worker processes: it hands requests out, takes answers in, and replaces workers that fail."""

from __future__ import annotations

import contextlib
import math
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

from omnisource.data.loading.pool.child_process import StartMethod
from omnisource.data.loading.pool.tickets import Tickets
from omnisource.data.loading.pool.worker_process import WorkerProcess
from omnisource.data.loading.request import Load
from omnisource.errors import UnreadableMedia, UserError

IN_FLIGHT = 2
"""Requests that a worker holds at once: the one it loads and the next, so that it never waits for the parent."""

MAX_ATTEMPTS = 2
"""Workers that may crash over one request before its file counts as unreadable; as many may fail to start in a row."""

MAX_KILLS = 4
"""Workers that may be killed over one request, and starts in a row that a signal may end.

No file makes its decoder raise SIGKILL: the system that is out of memory sent it, or somebody. That can hit the same
request again by chance; but if it goes on, the file may be what takes the memory, and the run must not kill for ever.
"""

KILLED = signal.SIGKILL.name
"""How a worker that was killed ended, in words."""

START_SECONDS = 300.0
"""Wall time that a worker may take to start: to import torch, perhaps over a slow network."""

TICK_SECONDS = 1.0
"""The feeding thread looks at the clock at least this often."""


@dataclass(frozen=True)
class RequestLimits:
    """What a worker may take for one request.

    Attributes:
        wall_seconds: Wall time, counted again with every heartbeat.
        processor_seconds: Processor time, counted in the same way.
        further_seconds: What a request may take beyond both, in seconds.
    """

    wall_seconds: float
    processor_seconds: float
    further_seconds: Callable[[Any], float]


class Feeder:
    """Worker processes and the thread that feeds them.

    Args:
        num_workers: Number of processes, at least 1.
        load: What they do with a request.
        limits: What one request may take.
        start_method: How processes are started.
        tickets: Where requests come from and results go.

    Attributes:
        workers: The processes.
    """

    def __init__(
        self, num_workers: int, load: Load, limits: RequestLimits, start_method: StartMethod, tickets: Tickets
    ) -> None:
        self._load = load
        self._limits = limits
        self._start_method: StartMethod = start_method
        self._tickets = tickets
        self._deaths: dict[int, list[str]] = {}  # by ticket, how the workers ended that held it
        self._failed_starts = [0] * num_workers  # in a row
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._looked = time.monotonic()  # when the thread last looked at the clock
        self._thread = threading.Thread(target=self._run, name="omnisource-workers", daemon=True)
        self.workers: list[WorkerProcess] = []
        try:
            for _ in range(num_workers):
                self.workers.append(self._started())
            self._thread.start()
        except BaseException:
            tickets.close()
            self.close()
            raise

    def wake(self) -> None:
        """Has the thread look at once at what has changed."""
        with contextlib.suppress(OSError):  # full: it will wake anyway
            self._wake_writer.send(b"\0")

    def close(self) -> None:
        """Ends the thread, once the tickets are closed, and all workers."""
        self.wake()
        if self._thread.is_alive():
            self._thread.join()
        self._wake_reader.close()
        self._wake_writer.close()
        for worker in self.workers:
            worker.end()
        self.workers = []

    def _started(self) -> WorkerProcess:
        return WorkerProcess(self._start_method, self._load)

    def _run(self) -> None:
        self._looked = time.monotonic()
        try:
            while not self._tickets.is_closing and not self._tickets.failure:
                self._hand_out()
                ready = self._wait()
                for number, worker in enumerate(self.workers):
                    self._attend(number, worker, worker.channel in ready)
        except (UserError, OSError) as error:  # no room for another worker
            self._tickets.fail(error)
        except BaseException:
            self._tickets.fail(RuntimeError(f"the thread that feeds the workers failed:\n{traceback.format_exc()}"))

    def _hand_out(self) -> None:
        waiting, requests = self._tickets.waiting, self._tickets.requests
        with self._tickets.changed:
            # Give every worker its first request before any second one, so that a short queue is spread evenly.
            for depth in range(1, IN_FLIGHT + 1):
                for worker in self.workers:
                    if waiting and worker.is_ready and len(worker.held) < depth:
                        ticket = waiting.popleft()
                        worker.give(ticket, requests[ticket])

    def _wait(self) -> list[Any]:
        """Returns the sockets that have input; waits for one, but not beyond the next deadline."""
        soonest = min(self._deadline(worker) for worker in self.workers)
        timeout = min(max(0.0, soonest - time.monotonic()), TICK_SECONDS)
        ready = connection.wait([self._wake_reader, *(worker.channel for worker in self.workers)], timeout)
        if self._wake_reader in ready:
            with contextlib.suppress(BlockingIOError):
                while self._wake_reader.recv(4096):
                    pass
        before, self._looked = self._looked, time.monotonic()
        stopped_seconds = self._looked - before - timeout
        if stopped_seconds > TICK_SECONDS:
            # The program was stopped (Ctrl-Z, a debugger, a paused container), and most likely its workers too.
            for worker in self.workers:
                worker.since += stopped_seconds
        return ready

    def _deadline(self, worker: WorkerProcess) -> float:
        if not worker.is_ready:
            return worker.since + START_SECONDS
        return worker.since + self._limit(worker, self._limits.wall_seconds) if worker.held else math.inf

    def _limit(self, worker: WorkerProcess, seconds: float) -> float:
        """Returns what a worker may take for what it now loads, of a limit for all requests; in seconds."""
        return seconds + self._limits.further_seconds(self._tickets.requests[worker.held[0]])

    def _attend(self, number: int, worker: WorkerProcess, has_input: bool) -> None:
        try:
            answer = worker.receive() if has_input else None
        except (EOFError, OSError):
            worker.end(is_dead=True)
            if worker.is_ready:
                self._replace_dead(number, worker)
            else:
                self._start_again(number, worker.ending)
            return
        if answer is not None:
            self._finish(*answer)
        elif time.monotonic() > self._deadline(worker):
            worker.end()
            if worker.is_ready:
                self._replace_hung(number, worker, f"{self._limit(worker, self._limits.wall_seconds):g} s")
            else:
                self._start_again(number, f"not within {START_SECONDS:g} s")
        elif worker.held and worker.item_processor_seconds() > self._limit(worker, self._limits.processor_seconds):
            worker.end()
            limit = f"{self._limit(worker, self._limits.processor_seconds):g} s of processor time"
            self._replace_hung(number, worker, limit)
        if worker.is_ready:
            self._failed_starts[number] = 0

    def _finish(self, ticket: int, result: Any) -> None:
        self._deaths.pop(ticket, None)
        self._tickets.finish(ticket, result)

    def _replace_dead(self, number: int, worker: WorkerProcess) -> None:
        where = f" at {self._tickets.requests[worker.held[0]].path}" if worker.held else ""
        self._tickets.note(f"worker {number} ended ({worker.ending}){where}; it is replaced")
        if worker.held:
            current = worker.held[0]
            deaths = self._deaths.setdefault(current, [])
            deaths.append(worker.ending)
            allowed = MAX_KILLS if worker.ending == KILLED else MAX_ATTEMPTS
            if sum((ending == KILLED) == (worker.ending == KILLED) for ending in deaths) >= allowed:
                reason = f"its worker process ended ({worker.ending}), {allowed} times"
                self._finish(current, UnreadableMedia(self._tickets.requests[current].path, reason))
                worker.held.popleft()
        self._replace(number, worker)

    def _replace_hung(self, number: int, worker: WorkerProcess, limit: str) -> None:
        current = worker.held.popleft()
        path = self._tickets.requests[current].path
        self._tickets.note(f"worker {number} was ended after {limit} at {path}; it is replaced")
        self._finish(current, UnreadableMedia(path, f"loading took longer than {limit}"))
        self._replace(number, worker)

    def _replace(self, number: int, worker: WorkerProcess) -> None:
        self._tickets.give_back(worker.held)
        for ticket in worker.held:
            if ticket not in self._tickets.requests:  # it was given up
                self._deaths.pop(ticket, None)
        self.workers[number] = self._started()

    def _start_again(self, number: int, ending: str) -> None:
        self._failed_starts[number] += 1
        allowed = MAX_KILLS if ending.startswith("SIG") else MAX_ATTEMPTS
        if self._failed_starts[number] < allowed:
            self._tickets.note(f"worker {number} did not start ({ending}); it is replaced")
            self.workers[number] = self._started()
            return
        raise UserError(
            f"loading worker {number} did not start ({ending}), {allowed} times; its own error, if it had one, stands "
            "above. With num_workers=0 there are no workers."
        )
