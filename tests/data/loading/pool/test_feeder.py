"""Workers that die or hang are replaced, and what they were asked for is loaded by others or is unreadable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omnisource.errors import UnreadableMedia
from omnisource.types import Clip
from tests.support.obedient_workers import (
    HANG_SECONDS,
    PATIENCE_SECONDS,
    assert_fine,
    is_alive,
    order,
    pool,
    process_state,
    processes_of,
    wait_until,
    wait_until_ready,
)


def test_a_killed_worker_is_reported_and_replaced_and_no_sample_is_lost_or_repeated(tmp_path: Path) -> None:
    notices, threads = [], set()

    def notify(line: str) -> None:
        notices.append(line)
        threads.add(threading.current_thread())

    with pool(2, notify=notify) as workers:
        before = wait_until_ready(workers)
        keys = ["takes a moment"] * 10 + ["waits for a sign"] * 30
        tickets = [workers.submit(order(key, index, tmp_path / "sign")) for index, key in enumerate(keys)]
        clips = [workers.result(ticket) for ticket in tickets[:10]]
        wait_until(
            lambda: all(len(worker.held) == 2 for worker in processes_of(workers))
        )  # nothing that it could finish
        os.kill(before[1], signal.SIGKILL)
        wait_until(lambda: workers.process_ids[1] != before[1])
        (tmp_path / "sign").touch()
        clips += [workers.result(ticket) for ticket in tickets[10:]]
        after = workers.process_ids
    assert [clip.frames.unique().tolist() for clip in clips] == [[index] for index in range(40)]
    assert after[0] == before[0] and after[1] != before[1]
    assert notices == [f"worker 1 ended (SIGKILL) at {tmp_path / 'sign'}; it is replaced"]
    assert threads == {threading.current_thread()}, "only the thread that fetches results is told"


def test_an_idle_worker_that_is_killed_is_replaced() -> None:
    notices = []
    with pool(1, notify=notices.append) as workers:
        (before,) = wait_until_ready(workers)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: workers.process_ids != [before])
        assert_fine(workers)
    assert notices == ["worker 0 ended (SIGKILL); it is replaced"]


def test_a_worker_killed_while_it_starts_is_replaced() -> None:
    notices = []
    with pool(1, notify=notices.append) as workers:
        os.kill(workers.process_ids[0], signal.SIGKILL)
        assert_fine(workers)
    assert len(notices) == 1 and "(SIGKILL)" in notices[0] and "replaced" in notices[0]


def test_a_request_whose_worker_died_is_loaded_by_the_next_one(tmp_path: Path) -> None:
    with pool(1) as workers:
        ticket = workers.submit(order("kills one worker", 9, tmp_path / "mark"))
        assert_fine(workers)
        assert workers.result(ticket).frames.unique().tolist() == [9]


def test_a_request_whose_workers_were_killed_from_outside_is_loaded_all_the_same(tmp_path: Path) -> None:
    notices = []
    with pool(1, notify=notices.append) as workers:
        key = "kills three workers and crashes one between them"
        ticket = workers.submit(order(key, 9, tmp_path / "deaths"))
        assert workers.result(ticket).frames.unique().tolist() == [9]
        assert_fine(workers)
    endings = ["SIGKILL", "SIGSEGV", "SIGKILL", "SIGKILL"]
    assert notices == [f"worker 0 ended ({ending}) at {tmp_path / 'deaths'}; it is replaced" for ending in endings]


@pytest.mark.parametrize(
    ("key", "ending", "times"),
    [("kills its worker", "SIGKILL", 4), ("crashes its worker", "SIGSEGV", 2), ("ends its worker", "exit code 7", 2)],
)
def test_a_file_over_which_workers_die_again_and_again_is_unreadable(key: str, ending: str, times: int) -> None:
    notices = []
    with pool(1, notify=notices.append) as workers:
        bad = workers.submit(order(key, path="bad.mp4"))
        fine = [workers.submit(order("is fine", index)) for index in range(4)]
        result = workers.result(bad)
        assert isinstance(result, UnreadableMedia)
        assert (result.path, result.reason) == ("bad.mp4", f"its worker process ended ({ending}), {times} times")
        assert [workers.result(ticket).frames.unique().tolist() for ticket in fine] == [[0], [1], [2], [3]]
    assert notices == [f"worker 0 ended ({ending}) at bad.mp4; it is replaced"] * times


def test_a_file_over_which_a_worker_hangs_is_unreadable_and_the_worker_is_replaced() -> None:
    notices = []
    keys = ["hangs", "stops its worker", "stops its worker within an answer"]
    further_seconds = lambda request: 0.0 if request.key in keys else PATIENCE_SECONDS  # noqa: E731
    with pool(3, HANG_SECONDS, notify=notices.append, further_seconds=further_seconds) as workers:
        before = wait_until_ready(workers)
        bad = [workers.submit(order(key, path=key)) for key in keys]
        fine = [workers.submit(order("is fine", index)) for index in range(9)]  # some are behind the bad ones
        assert [workers.result(ticket).frames.unique().tolist() for ticket in fine] == [[index] for index in range(9)]
        results = [workers.result(ticket) for ticket in bad]
        assert [str(result) for result in results] == [f"{key}: loading took longer than 2 s" for key in keys]
        assert all(isinstance(result, UnreadableMedia) for result in results)
        assert_fine(workers)
        assert not set(before) & set(workers.process_ids)
    assert not any(is_alive(process_id) for process_id in before)
    assert sorted(line.split(" was ended after 2 s at ")[1] for line in notices) == sorted(
        f"{key}; it is replaced" for key in keys
    )


@pytest.mark.parametrize("key", ["hangs", "spins"])
def test_the_time_limit_of_a_request_is_its_own(key: str) -> None:
    if key == "spins" and sys.platform != "linux":
        pytest.skip("elsewhere the processor time of another process is not told")
    limits = {"hangs": (HANG_SECONDS, PATIENCE_SECONDS), "spins": (PATIENCE_SECONDS, HANG_SECONDS)}[key]
    further_seconds = lambda request: PATIENCE_SECONDS if request.key == "takes longer" else request.index  # noqa: E731
    with pool(2, limits[0], item_processor_seconds=limits[1], further_seconds=further_seconds) as workers:
        wait_until_ready(workers)
        longer = workers.submit(order("takes longer"))
        bad = workers.submit(order(key, 1, path=key))
        limit = "3 s" if key == "hangs" else "3 s of processor time"
        assert str(workers.result(bad)) == f"{key}: loading took longer than {limit}"
        assert isinstance(workers.result(longer), Clip)


def test_a_file_may_take_longer_than_the_limits_as_long_as_its_heartbeat_goes_on() -> None:
    limits = {"timeout": 2 * HANG_SECONDS, "item_processor_seconds": HANG_SECONDS}
    with pool(2, **limits) as workers:
        keys = ["goes on for long", "goes on for long and hangs"]
        tickets = [workers.submit(order(key, path=key)) for key in keys]
        results = [workers.result(ticket) for ticket in tickets]
        assert isinstance(results[0], Clip) and isinstance(results[1], UnreadableMedia)
        assert results[1].reason == "loading took longer than 4 s"
        assert_fine(workers)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the processor time of another process is not told")
def test_a_file_that_takes_too_much_processor_time_is_unreadable_and_waiting_takes_none() -> None:
    notices = []
    # The second takes longer by the clock, and spends its time waiting; the third works for a while, and may.
    keys = ["spins", "waits for long", "takes work"]
    with pool(3, notify=notices.append, item_processor_seconds=1.5) as workers:
        wait_until_ready(workers)
        results = [workers.result(ticket) for ticket in [workers.submit(order(key, path=key)) for key in keys]]
        assert str(results[0]) == "spins: loading took longer than 1.5 s of processor time"
        assert isinstance(results[0], UnreadableMedia)
        assert all(isinstance(result, Clip) for result in results[1:])
        # What a worker spends over many items is not counted against one of them.
        many = [workers.submit(order("takes work", index)) for index in range(15)]
        assert all(isinstance(workers.result(ticket), Clip) for ticket in many)
        assert_fine(workers)
    assert [line.split(" ", 2)[2] for line in notices] == [
        "was ended after 1.5 s of processor time at spins; it is replaced"
    ]


def test_a_discarded_request_does_not_kill_a_second_worker() -> None:
    notices = []
    further_seconds = PATIENCE_SECONDS
    with pool(1, HANG_SECONDS, notify=notices.append, further_seconds=lambda request: further_seconds) as workers:
        hanging = workers.submit(order("hangs"))
        deadly = workers.submit(order("kills its worker"))
        wait_until(lambda: not workers._tickets.waiting)  # both are held
        workers.discard(hanging)
        workers.discard(deadly)
        further_seconds = 0.0
        assert_fine(workers)
    assert len(notices) == 1 and "was ended after 2 s" in notices[0]


def test_time_in_which_the_whole_program_was_stopped_does_not_count(
    run_program: Callable[[str], subprocess.Popen],
) -> None:
    program = run_program(
        """
        from tests.support.obedient_workers import order, pool
        if __name__ == "__main__":
            workers = pool(1, 4.0, notify=print)
            workers.result(workers.submit(order("is fine")))
            print(type(workers.result(workers.submit(order("stops the whole program")))).__name__)
        """
    )
    wait_until(lambda: process_state(program.pid) == "T")
    time.sleep(5.2)
    os.killpg(program.pid, signal.SIGCONT)
    output, errors = program.communicate()
    assert (output, errors) == ("Clip\n", "")
