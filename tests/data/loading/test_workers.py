from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omnisource.data.decoding.heartbeat import FRAMES_A_BEAT, beat, heard_by
from omnisource.data.decoding.verified_files import VerifiedFiles
from omnisource.data.decoding.video import VideoFile
from omnisource.data.loading.pool.worker_process import IGNORED_SIGNALS, StartMethod, WorkerProcess, _signals_withheld
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia
from omnisource.recipe.data import ClipSampling, EvaluationViews, TrainingView
from omnisource.signals import STOP_SIGNALS
from omnisource.types import Clip, Media
from tests.support.media import moving_square, write_image, write_video

PATIENCE_SECONDS = 600.0
"""A time limit that no test reaches."""

HANG_SECONDS = 2.0
"""A time limit that is reached on purpose."""


def processes_of(workers: WorkerPool) -> list[WorkerProcess]:
    assert workers._feeder is not None
    return workers._feeder.workers


def obey(request: SampleRequest) -> Any:
    """Loads nothing: does what the key of the request says. Runs in the workers."""
    match request.key:
        case "counts what is frozen":
            return gc.get_freeze_count()
        case "takes a moment":
            time.sleep(0.02)
        case "takes work":
            end = time.process_time() + 0.4
            while time.process_time() < end:
                pass
        case "leaves a mark":
            Path(request.path).touch()
        case "kills its worker":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kills one worker":
            if not os.path.exists(request.path):
                Path(request.path).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case "kills three workers and crashes one between them":
            with open(request.path, "a+b") as file:
                past = file.tell()
                file.write(b".")
            if past < 4:
                os.kill(os.getpid(), signal.SIGSEGV if past == 1 else signal.SIGKILL)
        case "crashes its worker":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "ends its worker":
            os._exit(7)
        case "waits for a sign":
            while not os.path.exists(request.path):
                time.sleep(0.01)
        case "stops the whole program":
            os.killpg(0, signal.SIGSTOP)
        case "leaves a mark and hangs":
            Path(request.path).touch()
            time.sleep(10 * PATIENCE_SECONDS)
        case "hangs":
            time.sleep(10 * PATIENCE_SECONDS)
        case "waits for long":
            time.sleep(3)
        case "takes longer":  # than HANG_SECONDS, by the clock and of the processor
            end = time.process_time() + 1.5 * HANG_SECONDS
            while time.process_time() < end:
                pass
        case "goes on for long" | "goes on for long and hangs":
            for _ in range(6):
                end = time.process_time() + HANG_SECONDS / 4
                while time.process_time() < end:
                    pass
                beat()
            if request.key.endswith("hangs"):
                time.sleep(10 * PATIENCE_SECONDS)
        case "spins":
            while True:
                pass
        case "stops its worker":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "stops its worker within an answer":
            for descriptor in os.listdir("/proc/self/fd"):
                if os.path.exists(path := f"/proc/self/fd/{descriptor}") and os.readlink(path).startswith("socket:"):
                    os.write(int(descriptor), bytes(8))
            os.kill(os.getpid(), signal.SIGSTOP)
        case "is a fault":
            raise ZeroDivisionError("of the program")
        case "is damaged":
            raise UnreadableMedia(request.path, "damaged")
        case "has no pickle":
            return lambda: None
        case "is large":
            return Clip(torch.full((20, 3, 8, 128, 128), request.index, dtype=torch.uint8), 0, "large", "video")
        case "answers with a number":
            return request.index
        case _:
            assert request.key == "is fine", request.key
    return Clip(torch.full((1, 3, 2, 4, 4), request.index, dtype=torch.uint8), request.label, request.key, "video")


def order(key: str, index: int = 0, path: str | Path = "some/file") -> SampleRequest:
    return SampleRequest("s", "video", str(path), key, 3, None, "", ClipSampling(), TrainingView(), index=index)


def pool(num_workers: int, timeout: float = PATIENCE_SECONDS, **options: Any) -> WorkerPool:
    return WorkerPool(num_workers, timeout, **{"notify": lambda line: None, "load": obey, **options})


def process_state(process_id: int) -> str:
    """Returns the letter for what a process does, as ps shows it: T is stopped; X if there is none."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def is_alive(process_id: int) -> bool:
    return process_state(process_id) not in "XZ"


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 100
    while not is_so():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def wait_until_ready(workers: WorkerPool) -> list[int]:
    """Waits until all workers have started, and returns their process ids."""
    wait_until(lambda: all(worker.is_ready for worker in processes_of(workers)))
    return workers.process_ids


def assert_fine(workers: WorkerPool, count: int = 6) -> None:
    """Checks that the workers answer, and whose answer is whose."""
    tickets = [workers.submit(order("is fine", index)) for index in range(count)]
    for index, ticket in enumerate(tickets):
        clip = workers.result(ticket)
        assert clip.frames.unique().tolist() == [index] and (clip.label, clip.key) == (3, "is fine")


@pytest.fixture
def run_program(tmp_path: Path, project: Path) -> Iterator[Callable[[str], subprocess.Popen]]:
    """Starts a program, given its text, in a process group of its own, with access to this file."""
    started = []

    def run(text: str) -> subprocess.Popen:
        (tmp_path / "program.py").write_text(textwrap.dedent(text))
        started.append(
            subprocess.Popen(
                [sys.executable, "-u", "program.py"],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(project)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield run
    for program in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def read_line(program: subprocess.Popen) -> str:
    assert program.stdout is not None
    return program.stdout.readline()


def parent_of(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_workers_and_what_forks_them_survive_the_signals_that_stop_a_run(start_method: StartMethod) -> None:
    assert set(IGNORED_SIGNALS) == set(STOP_SIGNALS)
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
        with _signals_withheld():
            signal.raise_signal(signal.SIGUSR1)  # for this thread: there may be others, which hold nothing back
            assert received == []
        assert received == [signal.SIGUSR1]
        assert not set(STOP_SIGNALS) & signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_clips_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", moving_square(20, 48, 64))
    rng = np.random.default_rng(0)
    write_image(tmp_path / "image.png", rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    training, evaluation = TrainingView(crop_size=32), EvaluationViews(2, 3, 36, 32)
    files: list[tuple[Media, str]] = [("video", "video.mp4"), ("image", "image.png"), ("video", "missing.mp4")]
    requests = [
        SampleRequest(
            "s", media, str(tmp_path / name), name, 1, None, "", ClipSampling(4, 2), view, seed=5, epoch=1, index=index
        )
        for view in (training, evaluation)
        for index in range(6)
        for media, name in files
    ]
    results = []
    for num_workers in (0, 1, 3):
        with WorkerPool(num_workers, PATIENCE_SECONDS) as workers:
            tickets = [workers.submit(request) for request in requests]
            # Fetched backwards: the order in which results are wanted is not that in which they are made.
            results.append([workers.result(ticket) for ticket in reversed(tickets)])
    alone, *others = results
    for other in others:
        for one, two in zip(alone, other, strict=True):
            assert type(one) is type(two)
            if isinstance(one, Clip):
                assert torch.equal(one.frames, two.frames)
                assert (one.label, one.key, one.media) == (two.label, two.key, two.media)
            else:
                assert str(one) == str(two) == f"{tmp_path / 'missing.mp4'}: no such file"


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


def test_a_killed_worker_is_named_and_replaced_and_no_sample_is_lost_or_repeated(tmp_path: Path) -> None:
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


def test_interrupts_are_left_to_the_parent() -> None:
    with pool(2) as workers:
        before = wait_until_ready(workers)
        for process_id in before:
            os.kill(process_id, signal.SIGINT)
        assert_fine(workers)
        assert workers.process_ids == before


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


def test_a_file_may_take_longer_than_the_limits_as_long_as_it_gives_signs_that_it_goes_on() -> None:
    limits = {"timeout": 2 * HANG_SECONDS, "item_processor_seconds": HANG_SECONDS}
    with pool(2, **limits) as workers:
        keys = ["goes on for long", "goes on for long and hangs"]
        tickets = [workers.submit(order(key, path=key)) for key in keys]
        results = [workers.result(ticket) for ticket in tickets]
        assert isinstance(results[0], Clip) and isinstance(results[1], UnreadableMedia)
        assert results[1].reason == "loading took longer than 4 s"
        assert_fine(workers)


def test_every_long_stretch_of_decoded_frames_is_a_sign(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "long.mp4", np.zeros((2 * FRAMES_A_BEAT + 10, 16, 16, 3), np.uint8), options={"g": "9999", "bf": "0"}
    )
    signs: list[int] = []
    with heard_by(lambda: signs.append(len(signs))), VideoFile(path, verified=VerifiedFiles()) as video:
        video.frames([FRAMES_A_BEAT - 2])
        assert not signs
        video.frames([2 * FRAMES_A_BEAT + 1])
        assert len(signs) == 2
        # Known to be whole, and one group of pictures: no packet can be left out.
        video.frames([2 * FRAMES_A_BEAT + 1])
        assert len(signs) == 4
    with VideoFile(path, verified=VerifiedFiles()) as video:
        video.frames([2 * FRAMES_A_BEAT + 1])  # nobody listens any more
    assert len(signs) == 4


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


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_fault_of_the_program_is_raised_with_its_traceback(num_workers: int) -> None:
    with pool(num_workers) as workers:
        ticket = workers.submit(order("is a fault", path="its/file"))
        with pytest.raises(RuntimeError, match=r"(?s)its/file.*in obey.*ZeroDivisionError: of the program"):
            workers.result(ticket)
        assert_fine(workers)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_file_is_a_result(num_workers: int) -> None:
    with pool(num_workers) as workers:
        result = workers.result(workers.submit(order("is damaged", path="its/file")))
        assert isinstance(result, UnreadableMedia) and str(result) == "its/file: damaged"
        assert_fine(workers)


def test_a_result_that_cannot_travel_is_a_fault_of_the_program() -> None:
    with pool(1) as workers:
        with pytest.raises(RuntimeError, match=r"(?i)pickle"):
            workers.result(workers.submit(order("has no pickle")))
        assert_fine(workers)


def test_what_no_process_can_be_told_to_do_is_refused_at_once() -> None:
    with pytest.raises(Exception, match=r"(?i)pickle"):
        pool(2, load=lambda request: request)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_discarded_tickets_are_given_up_wherever_they_are(num_workers: int, tmp_path: Path) -> None:
    with pool(num_workers) as workers:
        fetched = workers.submit(order("is fine"))
        workers.result(fetched)
        keys = ["takes a moment"] * 2 + ["waits for a sign"] + ["takes a moment"] * 3
        tickets = [workers.submit(order(key, index, tmp_path / "sign")) for index, key in enumerate(keys)]
        waiting = workers.submit(order("leaves a mark", path=tmp_path / "mark"))
        workers.result(tickets.pop(0))  # one of the others may be loaded now, some are held, some wait
        for ticket in (waiting, fetched, *tickets):
            workers.discard(ticket)
        (tmp_path / "sign").touch()
        assert_fine(workers)
        for ticket in (waiting, fetched, *tickets):
            with pytest.raises(KeyError):
                workers.result(ticket)
    assert not (tmp_path / "mark").exists()


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


@pytest.mark.parametrize("num_workers", [0, 1])
def test_closed_workers_say_so(num_workers: int) -> None:
    workers = pool(num_workers)
    ticket = workers.submit(order("is fine"))
    workers.close()
    workers.close()
    with pytest.raises(RuntimeError, match="closed"):
        workers.result(ticket)
    with pytest.raises(RuntimeError, match="closed"):
        workers.submit(order("is fine"))


def test_whoever_waits_while_the_workers_are_closed_is_told() -> None:
    workers = pool(1)
    ticket = workers.submit(order("hangs"))
    raised = []

    def wait() -> None:
        with pytest.raises(RuntimeError, match="closed"):
            workers.result(ticket)
        raised.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    workers.close()
    waiting.join()
    assert raised


def test_closing_with_work_under_way_leaves_no_process_no_thread_and_no_open_file() -> None:
    with pool(1) as workers:  # leaves the server of multiprocessing, which stays
        assert_fine(workers)
    del workers
    num_files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(2):
        workers = pool(4)
        killed = wait_until_ready(workers)[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda workers=workers, killed=killed: killed not in workers.process_ids)
        wait_until_ready(workers)
        for key in ("hangs", "stops its worker", "stops its worker within an answer", *["takes a moment"] * 100):
            workers.submit(order(key))
        wait_until(lambda workers=workers: len(workers._tickets.waiting) < 60)
        process_ids = workers.process_ids
        workers.close()
        assert workers.process_ids == []
        assert not any(is_alive(process_id) for process_id in process_ids)
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == num_files


def test_workers_die_with_a_parent_that_is_killed(run_program: Callable[[str], subprocess.Popen]) -> None:
    program = run_program(
        """
        import os, time
        from tests.data.loading.test_workers import order, pool, wait_until_ready
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
        from tests.data.loading.test_workers import order, pool
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


def test_a_program_without_a_guard_is_told_what_it_lacks(run_program: Callable[[str], subprocess.Popen]) -> None:
    program = run_program(
        """
        from tests.data.loading.test_workers import order, pool
        workers = pool(1)
        workers.result(workers.submit(order("is fine")))
        """
    )
    _, errors = program.communicate()
    last_line = errors.splitlines()[-1]
    assert program.returncode == 1
    assert last_line.startswith("RuntimeError: loading worker 0 did not start (exit code 1), 2 times")
    assert 'if __name__ == "__main__":' in last_line


def test_time_in_which_the_whole_program_was_stopped_does_not_count(
    run_program: Callable[[str], subprocess.Popen],
) -> None:
    program = run_program(
        """
        from tests.data.loading.test_workers import order, pool
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
