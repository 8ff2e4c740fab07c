"""Workers that load samples, each of which can be ended and replaced without losing or repeating one.

Every worker is given self-contained requests over a channel of its own, so the parent knows at any moment what a
worker holds. A worker that dies is replaced and its requests are given out again; since a request decides its sample
entirely, the replacement loads the same pixels.
"""

from __future__ import annotations

import atexit
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

from omnisource.data.loading.pool.child_process import START_METHOD, StartMethod
from omnisource.data.loading.pool.feeder import IN_FLIGHT, TICK_SECONDS, Feeder, RequestLimits
from omnisource.data.loading.pool.messages import Crash
from omnisource.data.loading.pool.tickets import Tickets
from omnisource.data.loading.pool.worker import outcome
from omnisource.data.loading.request import Load, Request
from omnisource.data.loading.sample import load_clip


class WorkerPool:
    """Loads requests in worker processes; results are fetched by ticket, in any order.

    What was submitted is loaded without waiting for the results to be fetched: who submits bounds the memory.

    Args:
        num_workers: Number of processes; 0 loads in the calling process, at the moment of `result`.
        item_timeout_seconds: Wall time after which a worker that is still at one request is ended and the file
            counts as unreadable; counted again with every heartbeat of a long read (`heartbeat`). Time in which the
            whole program was stopped does not count.
        item_processor_seconds: The same for processor time, which a busy machine or a slow disk does not use up;
            looked at about once a second. No limit where the system does not tell it (elsewhere than on Linux).
        further_seconds: Gives what a request may take beyond both, in seconds; for files of very different sizes.
        notify: Called with one line whenever a worker was replaced, from within `result`, `tell` and `close`.
        load: What a worker does with a request; a function of a module, so that it can be named to a process.
        start_method: How processes are started: "forkserver" or, slower, "spawn".

    Attributes:
        num_workers: As given.
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
        self.num_workers = num_workers
        self._notify = notify
        self._load = load
        self._tickets = Tickets()
        self._feeder: Feeder | None = None
        if num_workers:
            limits = RequestLimits(item_timeout_seconds, item_processor_seconds, further_seconds)
            # Or the workers would be ended at the exit of the interpreter while the thread, which still runs then,
            # replaces them.
            atexit.register(self.close)
            try:
                self._feeder = Feeder(num_workers, load, limits, start_method, self._tickets)
            except BaseException:
                self.close()
                raise

    @property
    def num_busy_requests(self) -> int:
        """Requests under way that keep every worker busy."""
        return self.num_workers * IN_FLIGHT

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be submitted or fetched any more."""
        return self._tickets.is_closing

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the workers that now run."""
        return [] if self._feeder is None else [worker.process_id for worker in self._feeder.workers]

    def submit(self, request: Request) -> int:
        """Returns the ticket under which `result` gives the sample of `request`."""
        ticket = self._tickets.add(request, is_waiting=self._feeder is not None)
        if self._feeder is not None:
            self._feeder.wake()
        return ticket

    def result(self, ticket: int) -> Any:
        """Returns what loading a ticket's request gave, or the UnreadableMedia that it raised; waits for it.

        Raises:
            KeyError: If the result was fetched before, or the ticket given up.
            RuntimeError: If loading failed for a reason that is not the file's: a fault of the program.
        """
        if self._feeder is None and not self._tickets.is_closing:
            result = outcome(self._load, self._tickets.requests.pop(ticket))
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
        self._tickets.require_open()
        assert self._tickets.requests or self._tickets.results, "no request is under way"
        ticket = next(iter(self._tickets.requests)) if self._feeder is None else self._loaded_ticket()
        return ticket, self.result(ticket)

    def wait_for_results(self, tickets: Sequence[int], is_wanted: Callable[[], bool]) -> list[Any] | None:
        """Returns the results of tickets once all are there, without fetching them; None if they will never be.

        Unlike `result`, this may be called by any thread: it notifies nobody.

        Args:
            tickets: The tickets.
            is_wanted: Asked now and then; the wait ends, with None, when this says no.
        """
        with self._tickets.changed:
            while is_wanted():
                results = self._tickets.results
                if all(ticket in results for ticket in tickets):
                    return [results[ticket] for ticket in tickets]
                if self._tickets.is_closing or self._tickets.failure:
                    return None
                self._tickets.changed.wait(TICK_SECONDS)
        return None

    def discard(self, ticket: int) -> None:
        """Gives a ticket up: its result is dropped, or it is never loaded."""
        self._tickets.discard(ticket, may_be_held=self._feeder is not None)

    def tell(self) -> None:
        """Calls `notify` for every worker that was replaced since; `result` does it, too."""
        # Not from the thread: whoever is notified need not be prepared for threads, and sees its own exceptions.
        while self._tickets.notices:
            self._notify(self._tickets.notices.popleft())

    def close(self) -> None:
        """Ends all workers; what was submitted and not fetched is dropped. May be called again."""
        self._tickets.close()
        if self._feeder is not None:
            self._feeder.close()
            self._feeder = None
        atexit.unregister(self.close)
        self.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _awaited(self, ticket: int) -> Any:
        while True:
            self.tell()
            with self._tickets.changed:
                self._tickets.require(ticket)
                if ticket in self._tickets.results:
                    return self._tickets.results.pop(ticket)
                self._tickets.changed.wait(TICK_SECONDS)

    def _loaded_ticket(self) -> int:
        while True:
            self.tell()
            with self._tickets.changed:
                self._tickets.require_open()
                if self._tickets.results:
                    return next(iter(self._tickets.results))
                self._tickets.require_working()
                self._tickets.changed.wait(TICK_SECONDS)
