"""Results in the order of their requests, or as soon as they are there: then none waits for a slower one before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from omnisource.data.loading.results import results_as_finished, results_in_order
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia


@dataclass(frozen=True)
class Wish:
    """A request for the length of a path; one named "last" waits until the file `sign` is there."""

    path: str
    sign: str = ""


def length_of(wish: Wish) -> int:
    while wish.path == "last" and not Path(wish.sign).exists():
        time.sleep(0.01)
    if wish.path == "bad":
        raise UnreadableMedia(wish.path, "it is bad")
    return len(wish.path)


def test_slow_request_holds_up_no_other(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    wishes = [Wish("last", str(sign)), *(Wish("a" * length) for length in range(1, 9))]
    with WorkerPool(2, 60, load=length_of) as workers:
        results = results_as_finished(wishes, workers, ahead=8)
        others = [next(results) for _ in range(7)]  # the eighth may stand behind the slow one, in the same worker
        assert all(request.path != "last" and result == len(request.path) for request, result in others)
        sign.touch()
        rest = dict(results)
        assert sorted([result for _, result in others] + list(rest.values())) == [1, 2, 3, 4, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_request_has_its_own_result(num_workers: int) -> None:
    wishes = [Wish("bad") if length == 3 else Wish("a" * length) for length in range(1, 20)]
    with WorkerPool(num_workers, 60, load=length_of) as workers:
        found = dict(results_as_finished(wishes, workers, ahead=2))
    assert isinstance(found.pop(Wish("bad")), UnreadableMedia)
    assert found == {Wish("a" * length): length for length in range(1, 20) if length != 3}


def test_no_more_requests_are_under_way_than_wanted() -> None:
    taken = []

    def wishes():
        for length in range(1, 20):
            taken.append(length)
            yield Wish("a" * length)

    with WorkerPool(0, 60, load=length_of) as workers:
        results = results_as_finished(wishes(), workers, ahead=3)
        next(results)
        assert taken == [1, 2, 3, 4]
        results.close()
        with pytest.raises(KeyError):
            workers.result(1)


def test_results_after_the_workers_were_closed_are_an_error() -> None:
    workers = WorkerPool(1, 60, load=length_of)
    results = results_as_finished([Wish("a"), Wish("bb"), Wish("ccc")], workers, ahead=3)
    next(results)
    workers.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(results)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_results_in_order_are_in_the_order_of_their_requests(num_workers: int) -> None:
    wishes = [Wish("bad") if length in (3, 8) else Wish("a" * length) for length in (9, 3, 4, 11, 8, 2)]
    with WorkerPool(num_workers, 60, load=length_of) as workers:
        results = list(results_in_order(wishes, workers, ahead=2))
    assert [wish for wish, _ in results] == wishes
    for wish, result in results:
        if wish.path == "bad":
            assert isinstance(result, UnreadableMedia) and result.path == "bad"
        else:
            assert result == len(wish.path)


def test_results_in_order_have_no_more_requests_under_way_than_wanted() -> None:
    taken = []

    def wishes():
        for length in range(20):
            taken.append(length)
            yield Wish("a" * length)

    with WorkerPool(0, 60, load=length_of) as workers:
        results = results_in_order(wishes(), workers, ahead=3)
        assert next(results) == (Wish(""), 0)
        assert taken == [0, 1, 2, 3]
        assert [result for _, result in results] == list(range(1, 20))


@pytest.mark.parametrize(
    ("lengths", "ahead", "under_way"),
    [
        ([1] * 30, 2, 10),  # as many small ones as fit
        ([4] * 30, 2, 2),  # 8 of 10: a third does not fit
        ([6] * 30, 0, 1),
        ([11] * 30, 0, 0),  # one that does not fit is made when it is due
        ([11] * 30, 3, 3),  # so many there are in any case
        ([4, 4, *[1] * 30], 0, 7),  # the one that is due does not count
    ],
)
def test_results_in_order_have_more_requests_under_way_while_these_are_small(
    lengths: list[int], ahead: int, under_way: int
) -> None:
    taken = []

    def wishes():
        for length in lengths:
            taken.append(length)
            yield Wish("a" * length)

    with WorkerPool(0, 60, load=length_of) as workers:
        results = results_in_order(wishes(), workers, ahead, size_ahead=10, size_of=lambda wish: len(wish.path))
        next(results)
        assert len(taken) == 1 + under_way
        assert [result for _, result in results] == lengths[1:]


def test_results_in_order_that_are_abandoned_leave_none_behind() -> None:
    with WorkerPool(0, 60, load=length_of) as workers:
        results = results_in_order([Wish("a")] * 9, workers, ahead=4)
        next(results)
        results.close()
        for ticket in range(5):
            with pytest.raises(KeyError):
                workers.result(ticket)


@pytest.mark.parametrize("results", [results_in_order, results_as_finished])
def test_of_no_requests_there_are_no_results(results: Callable[..., Iterator[object]]) -> None:
    with WorkerPool(0, 60, load=length_of) as workers:
        assert list(results([], workers, ahead=4)) == []
