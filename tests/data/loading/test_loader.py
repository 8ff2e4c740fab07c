"""Results as soon as they are there: none waits for a slower one before it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from omnisource.data.loading.loader import results_as_finished
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
        results.close()  # type: ignore[attr-defined]
        with pytest.raises(KeyError):
            workers.result(1)


def test_results_after_the_workers_were_closed_are_an_error() -> None:
    workers = WorkerPool(1, 60, load=length_of)
    results = results_as_finished([Wish("a"), Wish("bb"), Wish("ccc")], workers, ahead=3)
    next(results)
    workers.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(results)
