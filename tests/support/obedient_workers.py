"""Workers that load nothing: they do what the key of a request says, also what no worker should do."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from omnisource.data.decoding.heartbeat import beat
from omnisource.data.loading.pool.worker_process import WorkerProcess
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia
from omnisource.recipe.data import ClipSampling, TrainingView
from omnisource.types import Clip

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
