"""What the workers made of requests: in the order of the requests, or as it comes, with a bounded number under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any, TypeVar

from omnisource.data.loading.request import Request
from omnisource.data.loading.workers import WorkerPool

_Request = TypeVar("_Request", bound=Request)


def results_in_order(
    requests: Iterable[_Request],
    workers: WorkerPool,
    ahead: int,
    size_ahead: int = 0,
    size_of: Callable[[_Request], int] = lambda request: 1,
) -> Generator[tuple[_Request, Any], None, None]:
    """Yields (request, what the workers made of it) in the order of the requests, some of which are under way.

    Args:
        requests: Taken as they are needed.
        workers: Load them.
        ahead: Requests that are under way behind the next result, whatever their size.
        size_ahead: More are while there is room for another of the size of the newest: together they have at most this
            size.
        size_of: The size of what the workers make of a request.
    """
    under_way: deque[tuple[_Request, int]] = deque()
    coming = iter(requests)

    def wants_more() -> bool:
        if len(under_way) <= ahead:
            return True
        newest, _ = under_way[-1]
        behind = sum(size_of(request) for request, _ in islice(under_way, 1, None))
        return behind + size_of(newest) <= size_ahead

    try:
        while True:
            while wants_more() and (request := next(coming, None)) is not None:
                under_way.append((request, workers.submit(request)))
            if not under_way:
                return
            request, ticket = under_way.popleft()
            yield request, workers.result(ticket)
    finally:
        for _, ticket in under_way:  # of a caller that does not want the rest
            workers.discard(ticket)


def results_as_finished(
    requests: Iterable[_Request], workers: WorkerPool, ahead: int
) -> Generator[tuple[_Request, Any], None, None]:
    """Yields (request, what the workers made of it) as soon as each is there, with `ahead` more under way."""
    under_way: dict[int, _Request] = {}
    coming = iter(requests)
    try:
        while True:
            while len(under_way) <= ahead and (request := next(coming, None)) is not None:
                under_way[workers.submit(request)] = request
            if not under_way:
                return
            ticket, result = workers.any_result()
            yield under_way.pop(ticket), result
    finally:
        for ticket in under_way:  # of a caller that does not want the rest
            workers.discard(ticket)
