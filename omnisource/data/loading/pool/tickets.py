"""The requests of a pool of workers by ticket, from when they are submitted until their results are fetched."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from omnisource.data.loading.request import Request


class Tickets:
    """What the thread that feeds the workers shares with those who submit requests and fetch results.

    Attributes:
        changed: Guards all of this; notified when there is a result, a notice or a failure, and when the pool closes.
        requests: By ticket, those that are not loaded yet.
        results: By ticket, those that were not fetched yet.
        waiting: Tickets that no worker holds yet, oldest first.
        discarded: Tickets that were given up while a worker held them.
        notices: Lines about workers that were replaced, which nobody was told yet.
        failure: Why nothing is loaded any more, or None.
        is_closing: Whether the pool is closed, or being closed.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.requests: dict[int, Request] = {}
        self.results: dict[int, Any] = {}
        self.waiting: deque[int] = deque()
        self.discarded: set[int] = set()
        self.notices: deque[str] = deque()
        self.failure: Exception | None = None
        self.is_closing = False
        self._next = 0

    def add(self, request: Request, *, is_waiting: bool) -> int:
        """Returns a new ticket for a request, which waits for a worker if there is one.

        Raises:
            RuntimeError: If the pool is closed.
        """
        with self.changed:
            self.require_open()
            ticket = self._next
            self._next += 1
            self.requests[ticket] = request
            if is_waiting:
                self.waiting.append(ticket)
        return ticket

    def require_open(self) -> None:
        """Raises a RuntimeError if the pool is closed."""
        if self.is_closing:
            raise RuntimeError("the workers are closed")

    def finish(self, ticket: int, result: Any) -> None:
        """Takes the result of a ticket, or drops it where the ticket was given up."""
        with self.changed:
            if ticket not in self.discarded:
                self.results[ticket] = result
            self._forget(ticket)
            self.changed.notify_all()

    def give_back(self, held: Iterable[int]) -> None:
        """Puts what a worker held that is gone before all that waits; what was given up is forgotten."""
        with self.changed:
            held = list(held)
            for ticket in held:
                if ticket in self.discarded:
                    self._forget(ticket)
            self.waiting.extendleft(ticket for ticket in reversed(held) if ticket in self.requests)

    def discard(self, ticket: int, *, may_be_held: bool) -> None:
        """Gives a ticket up: its result is dropped, or it is never loaded."""
        with self.changed:
            if ticket in self.results:
                del self.results[ticket]
            elif ticket in self.waiting:
                self.waiting.remove(ticket)
                del self.requests[ticket]
            elif ticket in self.requests and may_be_held:
                self.discarded.add(ticket)
            elif ticket in self.requests:
                del self.requests[ticket]
            self.changed.notify_all()  # whoever waits for it need not

    def require(self, ticket: int) -> None:
        """Raises an error if the result of a ticket will never be there.

        Raises:
            KeyError: If it was fetched before, or the ticket given up.
            RuntimeError: If the pool is closed.
            Exception: Why nothing is loaded any more.
        """
        self.require_open()
        if ticket not in self.results:
            if ticket not in self.requests or ticket in self.discarded:
                raise KeyError(f"ticket {ticket} was fetched before, or given up")
            self.require_working()

    def require_working(self) -> None:
        """Raises why nothing is loaded any more, if that is so."""
        if self.failure is not None:
            raise self.failure

    def note(self, line: str) -> None:
        """Leaves a line for whoever fetches results next."""
        with self.changed:
            self.notices.append(line)
            self.changed.notify_all()

    def fail(self, reason: Exception) -> None:
        """Says that nothing is loaded any more; whoever waits gets the reason."""
        with self.changed:
            self.failure = reason
            self.changed.notify_all()

    def close(self) -> None:
        """Refuses what is submitted or fetched from now on."""
        with self.changed:
            self.is_closing = True
            self.changed.notify_all()

    def _forget(self, ticket: int) -> None:
        del self.requests[ticket]
        self.discarded.discard(ticket)
