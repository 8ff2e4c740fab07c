"""What a pool of workers gives for a ticket, with any number of processes, until it is closed."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia
from omnisource.recipe.data import ClipSampling, EvaluationViews, TrainingView
from omnisource.types import Clip, Media
from tests.support.media import moving_square, write_image, write_video
from tests.support.obedient_workers import (
    PATIENCE_SECONDS,
    assert_fine,
    is_alive,
    order,
    pool,
    wait_until,
    wait_until_ready,
)


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
            # Fetched backward: the order in which results are wanted is not that in which they are made.
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


def test_whoever_waits_while_the_workers_are_closed_is_reported() -> None:
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
    with pool(1) as workers:  # leaves the server that forks workers, which stays
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
