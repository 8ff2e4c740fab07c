"""Workers that load samples, each of which can be ended and replaced without losing or repeating one.

Every worker is given self-contained requests over a channel of its own, so the parent knows at any moment what a
worker holds. A worker that dies is replaced and its requests are given out again; since a request decides its sample
entirely, the replacement loads the same pixels.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

from omnisource.data.loading.sample import load_clip
from omnisource.data.loading.worker_process import (
    START_METHOD,
    Crash,
    Load,
    Request,
    StartMethod,
    WorkerProcess,
    outcome,
)
from omnisource.errors import UnreadableMedia

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
"""Wall time that a worker may take to start: to import torch, perhaps over a slow network, and the main program."""

TICK_SECONDS = 1.0
"""The feeding thread looks at the clock at least this often."""


class WorkerPool:
    """Loads requests in worker processes; results are fetched by ticket, in any order.

    What was submitted is loaded without waiting for the results to be fetched: who submits bounds the memory.

    Args:
        num_workers: Number of processes; 0 loads in the calling process, at the moment of `result`.
        item_timeout_seconds: Wall time after which a worker that is still at one request is ended and the file
            counts as unreadable; counted again whenever it gives a sign that it goes on with a long file
            (`signs_of_life`). Time in which the whole program was stopped does not count.
        item_processor_seconds: The same for processor time, which a busy machine or a slow disk does not use up;
            looked at about once a second. No limit where the system does not tell it (elsewhere than on Linux).
        further_seconds: Gives what a request may take beyond both, in seconds; for files of very different sizes.
        notify: Called with one line whenever a worker was replaced, from within `result` and `close`.
        load: What a worker does with a request; a function of a module, so that it can be named to a process.
        start_method: How processes are started: "forkserver" or, slower, "spawn".
    """

    def __init__(
        self,
        num_workers: int,
        item_timeout_seconds: float,
        notify: Callable[[str], None] = print,
        load: Load = load_clip,
        start_method: StartMethod = START_METHOD,
        item_processor_seconds: float = math.inf,
        further_seconds: Callable[[Any], float] = lambda request: 0.0,
    ) -> None:
        self._timeout = item_timeout_seconds
        self._processor_limit = item_processor_seconds
        self._further_seconds = further_seconds
        self._notify = notify
        self._load = load
        self._start_method: StartMethod = start_method
        self._next_ticket = 0
        self._requests: dict[int, Request] = {}  # by ticket, those that are not loaded yet
        self._waiting: deque[int] = deque()  # tickets that no worker holds yet, oldest first
        self._deaths: dict[int, list[str]] = {}  # by ticket, how the workers ended that held it
        self._results: dict[int, Any] = {}
        self._discarded: set[int] = set()  # tickets that a worker still holds
        self._notices: deque[str] = deque()
        self._changed = threading.Condition()  # guards all of the above
        self._failure: str | None = None  # why nothing is loaded any more
        self._is_closing = False
        self._workers: list[WorkerProcess] = []
        self._failed_starts = [0] * num_workers  # in a row
        self._thread: threading.Thread | None = None
        if num_workers:
            self._start()

    def submit(self, request: Request) -> int:
        """Returns the ticket under which `result` gives the sample of `request`."""
        with self._changed:
            if self._is_closing:
                raise RuntimeError("the workers are closed")
            ticket = self._next_ticket
            self._next_ticket += 1
            self._requests[ticket] = request
            if self._thread is not None:
                self._waiting.append(ticket)
                self._wake()
        return ticket

    def result(self, ticket: int) -> Any:
        """Returns what loading a ticket's request gave, or the UnreadableMedia that it raised; waits for it.

        Raises:
            KeyError: If the result was fetched before, or the ticket given up.
            RuntimeError: If loading failed for a reason that is not the file's: a fault of the program.
        """
        if self._thread is None and not self._is_closing:
            result = outcome(self._load, self._requests.pop(ticket))
        else:
            result = self._awaited(ticket)
        if isinstance(result, Crash):
            raise RuntimeError(f"a loading worker failed:\n{result.traceback}")
        return result

    def any_result(self) -> tuple[int, Any]:
        """Returns the ticket and the result of whichever request is loaded first; waits for it.

        At least one must have been submitted whose result was not fetched.

        Raises:
            RuntimeError: As for `result`.
        """
        if self._is_closing:
            raise RuntimeError("the workers are closed")
        assert self._requests or self._results, "no request is under way"
        ticket = next(iter(self._requests)) if self._thread is None else self._loaded_ticket()
        return ticket, self.result(ticket)

    def discard(self, ticket: int) -> None:
        """Gives a ticket up: its result is dropped, or it is never loaded."""
        with self._changed:
            if ticket in self._results:
                del self._results[ticket]
            elif ticket in self._waiting:
                self._waiting.remove(ticket)
                del self._requests[ticket]
            elif ticket in self._requests:
                if self._thread is None:
                    del self._requests[ticket]
                else:
                    self._discarded.add(ticket)

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the workers that now run."""
        return [worker.process_id for worker in self._workers]

    def close(self) -> None:
        """Ends all workers; what was submitted and not fetched is dropped. May be called again."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._wake()
            self._thread.join()
            self._wake_reader.close()
            self._wake_writer.close()
            self._thread = None
        for worker in self._workers:
            worker.end()
        self._workers = []
        atexit.unregister(self.close)
        self._tell()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        # Left to multiprocessing, the workers would be ended at the exit of the interpreter while the thread, which
        # still runs then, replaces them, and the exit would wait for the replacements.
        atexit.register(self.close)
        try:
            self._wake_reader, self._wake_writer = socket.socketpair()
            self._wake_reader.setblocking(False)
            self._wake_writer.setblocking(False)
            for number in range(len(self._failed_starts)):
                self._workers.append(WorkerProcess(self._start_method, number, self._load))
            thread = threading.Thread(target=self._run, name="omnisource-workers", daemon=True)
            thread.start()
            self._thread = thread
        except BaseException:
            self.close()
            raise

    def _awaited(self, ticket: int) -> Any:
        while True:
            self._tell()
            with self._changed:
                if self._is_closing:
                    raise RuntimeError("the workers are closed")
                if ticket in self._results:
                    return self._results.pop(ticket)
                if ticket not in self._requests or ticket in self._discarded:
                    raise KeyError(f"ticket {ticket} was fetched before, or given up")
                if self._failure is not None:
                    raise RuntimeError(self._failure)
                self._changed.wait(TICK_SECONDS)

    def _loaded_ticket(self) -> int:
        while True:
            self._tell()
            with self._changed:
                if self._is_closing:
                    raise RuntimeError("the workers are closed")
                if self._results:
                    return next(iter(self._results))
                if self._failure is not None:
                    raise RuntimeError(self._failure)
                self._changed.wait(TICK_SECONDS)

    def _tell(self) -> None:
        # Not from the thread: whoever is notified need not be prepared for threads, and sees its own exceptions.
        while self._notices:
            self._notify(self._notices.popleft())

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake anyway
            self._wake_writer.send(b"\0")

    def _run(self) -> None:
        self._looked = time.monotonic()  # when the thread last looked at the clock
        try:
            while not self._is_closing and self._failure is None:
                self._hand_out()
                ready = self._wait()
                for number, worker in enumerate(self._workers):
                    self._attend(number, worker, worker.channel in ready)
        except BaseException:
            self._fail(f"the thread that feeds the workers failed:\n{traceback.format_exc()}")

    def _hand_out(self) -> None:
        with self._changed:
            # Fill every worker's first place before any second one, so that a short queue is spread evenly.
            for depth in range(1, IN_FLIGHT + 1):
                for worker in self._workers:
                    if self._waiting and worker.is_ready and len(worker.held) < depth:
                        ticket = self._waiting.popleft()
                        worker.give(ticket, self._requests[ticket])

    def _wait(self) -> list[Any]:
        """Returns the sockets that have input; waits for one, but not beyond the next deadline."""
        soonest = min(self._deadline(worker) for worker in self._workers)
        timeout = min(max(0.0, soonest - time.monotonic()), TICK_SECONDS)
        ready = connection.wait([self._wake_reader, *(worker.channel for worker in self._workers)], timeout)
        if self._wake_reader in ready:
            with contextlib.suppress(BlockingIOError):
                while self._wake_reader.recv(4096):
                    pass
        before, self._looked = self._looked, time.monotonic()
        stopped_seconds = self._looked - before - timeout
        if stopped_seconds > TICK_SECONDS:
            # The program was stopped (Ctrl-Z, a debugger, a paused container), and most likely its workers too.
            for worker in self._workers:
                worker.since += stopped_seconds
        return ready

    def _deadline(self, worker: WorkerProcess) -> float:
        if not worker.is_ready:
            return worker.since + START_SECONDS
        return worker.since + self._limit(worker, self._timeout) if worker.held else math.inf

    def _limit(self, worker: WorkerProcess, seconds: float) -> float:
        """Returns what a worker may take for what it now loads, of a limit for all requests; in seconds."""
        return seconds + self._further_seconds(self._requests[worker.held[0]])

    def _attend(self, number: int, worker: WorkerProcess, has_input: bool) -> None:
        try:
            answer = worker.receive() if has_input else None
        except (EOFError, OSError):
            worker.end(is_dead=True)
            if worker.is_ready:
                self._replace_dead(number, worker)
            else:
                self._start_anew(number, worker.ending)
            return
        if answer is not None:
            self._finish(*answer)
        elif time.monotonic() > self._deadline(worker):
            worker.end()
            if worker.is_ready:
                self._replace_hung(number, worker, f"{self._limit(worker, self._timeout):g} s")
            else:
                self._start_anew(number, f"not within {START_SECONDS:g} s")
        elif worker.held and worker.item_processor_seconds() > self._limit(worker, self._processor_limit):
            worker.end()
            limit = f"{self._limit(worker, self._processor_limit):g} s of processor time"
            self._replace_hung(number, worker, limit)
        if worker.is_ready:
            self._failed_starts[number] = 0

    def _replace_dead(self, number: int, worker: WorkerProcess) -> None:
        where = f" at {self._requests[worker.held[0]].path}" if worker.held else ""
        self._note(f"worker {number} ended ({worker.ending}){where}; it is replaced")
        if worker.held:
            current = worker.held[0]
            deaths = self._deaths.setdefault(current, [])
            deaths.append(worker.ending)
            allowed = MAX_KILLS if worker.ending == KILLED else MAX_ATTEMPTS
            if sum((ending == KILLED) == (worker.ending == KILLED) for ending in deaths) >= allowed:
                reason = f"its worker process ended ({worker.ending}), {allowed} times"
                self._finish(current, UnreadableMedia(self._requests[current].path, reason))
                worker.held.popleft()
        self._replace(number, worker)

    def _replace_hung(self, number: int, worker: WorkerProcess, limit: str) -> None:
        current = worker.held.popleft()
        path = self._requests[current].path
        self._note(f"worker {number} was ended after {limit} at {path}; it is replaced")
        self._finish(current, UnreadableMedia(path, f"loading took longer than {limit}"))
        self._replace(number, worker)

    def _replace(self, number: int, worker: WorkerProcess) -> None:
        with self._changed:
            for ticket in worker.held:
                if ticket in self._discarded:
                    self._forget(ticket)
            self._waiting.extendleft(ticket for ticket in reversed(worker.held) if ticket in self._requests)
        self._workers[number] = WorkerProcess(self._start_method, number, self._load)

    def _start_anew(self, number: int, ending: str) -> None:
        self._failed_starts[number] += 1
        allowed = MAX_KILLS if ending.startswith("SIG") else MAX_ATTEMPTS
        if self._failed_starts[number] < allowed:
            self._note(f"worker {number} did not start ({ending}); it is replaced")
            self._workers[number] = WorkerProcess(self._start_method, number, self._load)
            return
        self._fail(
            f"loading worker {number} did not start ({ending}), {allowed} times; its own error, if it had one, "
            "stands above. Each worker imports the main program, which must therefore be a file that works only under "
            '`if __name__ == "__main__":`. With num_workers=0 there are no workers.'
        )

    def _finish(self, ticket: int, result: Any) -> None:
        with self._changed:
            if ticket not in self._discarded:
                self._results[ticket] = result
            self._forget(ticket)
            self._changed.notify_all()

    def _forget(self, ticket: int) -> None:
        del self._requests[ticket]
        self._deaths.pop(ticket, None)
        self._discarded.discard(ticket)

    def _note(self, line: str) -> None:
        with self._changed:
            self._notices.append(line)
            self._changed.notify_all()

    def _fail(self, reason: str) -> None:
        with self._changed:
            self._failure = reason
            self._changed.notify_all()
