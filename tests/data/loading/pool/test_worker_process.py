"""What a worker process answers, which signals it ignores, and that it ends with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from omnisource.data.loading.pool.child_process import StartMethod, signals_withheld
from omnisource.signals import STOP_SIGNALS
from tests.support.obedient_workers import (
    assert_fine,
    is_alive,
    order,
    pool,
    processes_of,
    wait_until,
    wait_until_ready,
)


def read_line(program: subprocess.Popen) -> str:
    assert program.stdout is not None
    return program.stdout.readline()


def parent_of(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_workers_and_what_forks_them_survive_the_signals_that_stop_a_run(start_method: StartMethod) -> None:
    said: list[str] = []
    with pool(2, notify=said.append, start_method=start_method) as workers:
        early = [worker.process_id for worker in processes_of(workers)]  # most likely importing still
        for number in STOP_SIGNALS:
            for process_id in early:
                os.kill(process_id, number)
        ready = wait_until_ready(workers)
        assert ready == early
        started_by = {parent_of(process_id) for process_id in ready} - {os.getpid()}
        assert len(started_by) == (1 if start_method == "forkserver" else 0)
        for number in STOP_SIGNALS:
            for process_id in (*ready, *started_by):
                os.kill(process_id, number)
        assert_fine(workers)
        assert workers.process_ids == ready and all(map(is_alive, (*ready, *started_by)))
    assert said == []
    wait_until(lambda: not any(map(is_alive, ready)))


def test_parent_gets_a_signal_that_came_while_it_started_workers() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    try:
        with signals_withheld():
            signal.raise_signal(signal.SIGUSR1)  # for this thread: there may be others, which hold nothing back
            assert received == []
        assert received == [signal.SIGUSR1]
        assert not set(STOP_SIGNALS) & signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_interrupts_are_left_to_the_parent() -> None:
    with pool(2) as workers:
        before = wait_until_ready(workers)
        for process_id in before:
            os.kill(process_id, signal.SIGINT)
        assert_fine(workers)
        assert workers.process_ids == before


def test_spawned_workers_do_the_same() -> None:
    with pool(1, start_method="spawn") as workers:
        assert_fine(workers)


def test_a_result_larger_than_any_buffer_comes_whole() -> None:
    with pool(2) as workers:
        tickets = [workers.submit(order("is large", index)) for index in range(4)]
        for index, ticket in enumerate(tickets):
            frames = workers.result(ticket).frames
            assert frames.shape == (20, 3, 8, 128, 128) and bool((frames == index).all())


def test_results_need_not_be_clips() -> None:
    with pool(1) as workers:
        tickets = [workers.submit(order("answers with a number", index)) for index in (4, 5)]
        assert [workers.result(ticket) for ticket in tickets] == [4, 5]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers share no memory")
def test_workers_share_what_was_imported_for_them() -> None:
    with pool(2) as workers:
        tickets = [workers.submit(order("counts what is frozen")) for _ in range(2)]
        assert all(workers.result(ticket) > 100_000 for ticket in tickets)  # torch alone brings several times as many


def test_a_result_that_cannot_travel_is_a_fault_of_the_program() -> None:
    with pool(1) as workers:
        with pytest.raises(RuntimeError, match=r"(?i)pickle"):
            workers.result(workers.submit(order("has no pickle")))
        assert_fine(workers)


def test_what_no_process_can_be_told_to_do_is_refused_at_once() -> None:
    with pytest.raises(Exception, match=r"(?i)pickle"):
        pool(2, load=lambda request: request)


def test_workers_die_with_a_parent_that_is_killed(run_program: Callable[[str], subprocess.Popen]) -> None:
    program = run_program(
        """
        import os, time
        from tests.support.obedient_workers import order, pool, wait_until_ready
        if __name__ == "__main__":
            workers = pool(3)
            workers.submit(order("leaves a mark and hangs", path="mark"))
            while not os.path.exists("mark"):
                time.sleep(0.02)
            print(*wait_until_ready(workers))
            time.sleep(600)
        """
    )
    process_ids = [int(text) for text in read_line(program).split()]
    assert len(process_ids) == 3 and all(is_alive(process_id) for process_id in process_ids)
    program.kill()
    program.wait()
    wait_until(lambda: not any(is_alive(process_id) for process_id in process_ids))


def test_a_program_that_does_not_close_its_workers_ends_all_the_same(
    run_program: Callable[[str], subprocess.Popen],
) -> None:
    program = run_program(
        """
        from tests.support.obedient_workers import order, pool
        if __name__ == "__main__":
            workers = pool(3, notify=print)
            workers.result(workers.submit(order("is fine")))
            for key in ["hangs", "stops its worker", *["takes a moment"] * 50]:
                workers.submit(order(key))
            print(*workers.process_ids)
        """
    )
    output, errors = program.communicate()
    (process_ids,) = output.splitlines()
    assert (program.returncode, errors) == (0, "")
    assert not any(is_alive(int(process_id)) for process_id in process_ids.split())
