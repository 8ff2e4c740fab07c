from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.soak import GROWTH_LIMIT, File, soak, under_many_names, write_files
from omnisource.data.lists.items import Items, PackedStrings
from omnisource.data.loading.loader import Loader
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.recipe.data import ClipSampling, Source, Split, TrainingView
from omnisource.types import Batch, Clip, Media
from tests.support.media import moving_square, write_image, write_video
from tests.support.obedient_workers import is_alive, wait_until, wait_until_ready

MOST_GROWTH_BYTES = 4 * 2**20
"""A clip that were never freed would take this much after 90 clips of the size used here, and 200 are loaded."""

MOST_BYTES_A_READING = 64
"""Where a generator of packets was dropped before its end, each reading left 147 bytes or more."""

PATIENCE_SECONDS = 60.0

NUM_STEPS = 10

leaked: list[bytearray] = []
"""What a worker of the next function does not free."""


def leak(request: SampleRequest) -> Clip:
    """Keeps 100 kB for each clip for ever. Runs in the workers."""
    leaked.append(bytearray(b"x" * 100_000))
    return Clip(torch.zeros((1, 3, 1, 8, 8), dtype=torch.uint8), 0, request.key, request.media)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[File]:
    folder = tmp_path_factory.mktemp("soak")
    return under_many_names(write_files(folder, ((48, 64), (72, 96)), num_frames=24), folder)


OPENING = """
import ctypes
import gc
import sys
from omnisource.data.decoding.video import VideoFile

class Memory(ctypes.Structure):  # `struct mallinfo2` of glibc
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Memory

def bytes_in_use():
    gc.collect()
    memory = library.mallinfo2()
    return memory.uordblks + memory.hblkhd

def read_frames(times):
    for _ in range(times):
        with VideoFile(sys.argv[1]) as video:
            video.frames([1, 5])

rounds = []
for _ in range(5):
    before = bytes_in_use()
    read_frames(60)
    rounds.append((bytes_in_use() - before) / 60)
print(min(rounds))
"""
"""Prints how many bytes more are in use after each reading of a video, in the smallest of five rounds."""


class TestMemory:
    @pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc tells what is in use")
    @pytest.mark.parametrize("name", ["made.mp4", "made.mkv", "made.avi", "made.webm"])
    def test_in_use_is_the_same_after_each_reading_of_a_video(self, tmp_path: Path, name: str) -> None:
        codec = {"avi": "mpeg4", "webm": "libvpx-vp9"}.get(name.rpartition(".")[2], "libx264")
        path = write_video(tmp_path / name, moving_square(12, 48, 64), codec)
        environment = {**os.environ, "OMNISOURCE_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, "-c", OPENING, str(path)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert float(result.stdout) < MOST_BYTES_A_READING

    def test_of_workers_and_parent_does_not_grow(self, files: list[File]) -> None:
        done = soak(files, num_clips=320, warm_up=120, interval=10, num_workers=2, crop_size=64)
        assert done.notices == []
        assert 0 < done.unreadable < 100
        assert set(done.memory) == {"worker 0", "worker 1", "parent"} and len(done.clips) == 21
        for samples in done.memory.values():
            assert samples[-1].resident - samples[0].resident < MOST_GROWTH_BYTES

    def test_that_is_never_freed_is_seen(self, files: list[File]) -> None:
        done = soak(files, num_clips=320, warm_up=120, interval=10, num_workers=2, load=leak)
        for process in ("worker 0", "worker 1"):
            samples = done.memory[process]
            assert samples[-1].resident - samples[0].resident > MOST_GROWTH_BYTES
            assert done.growth(process) > GROWTH_LIMIT
        assert done.growth("parent") < GROWTH_LIMIT


def streams_of(folder: Path) -> list[Stream]:
    """Returns streams of 10 videos and of 9 images, real ones."""
    files: dict[Media, list[Path]] = {"video": [], "image": []}
    for number in range(10):
        suffix = ("mp4", "mkv", "avi")[number % 3]
        path = folder / f"video{number}.{suffix}"
        codec = "mpeg4" if suffix == "avi" else "libx264"
        files["video"].append(write_video(path, moving_square(20, 48, 64, seed=number), codec))
    for number in range(9):
        files["image"].append(write_image(folder / f"image{number}.jpg", moving_square(2, 48, 64, seed=number)[0]))
    return [stream_of(media, paths) for media, paths in files.items()]


def stream_of(media: Media, paths: Sequence[Path]) -> Stream:
    view, sampling = TrainingView(crop_size=32), ClipSampling(4, 2)
    source = Source(media, "classes", str(paths[0].parent), Split(), sampling=sampling, training_view=view)
    items = Items(source.root, PackedStrings([path.name for path in paths]), np.arange(len(paths), dtype=np.int32))
    return Stream(media, source, items, batch_size=4, seed=3)


def steps_of(
    streams: Sequence[Stream],
    workers: WorkerPool,
    count: int,
    log: UnreadableLog,
    before_step: Callable[[], None] = lambda: None,
) -> list[tuple[Batch, ...]]:
    loader = Loader(streams, workers, 1, [0], log)
    steps = []
    for _ in range(count):
        before_step()
        ((batches),) = next(loader)
        steps.append(batches)
    return steps


def assert_equal(ours: list[tuple[Batch, ...]], theirs: list[tuple[Batch, ...]]) -> None:
    for our_batches, their_batches in zip(ours, theirs, strict=True):
        for one, two in zip(our_batches, their_batches, strict=True):
            assert one.keys == two.keys
            assert torch.equal(one.clips, two.clips) and torch.equal(one.labels, two.labels)


class TestLoader:
    def test_names_and_replaces_workers_that_are_killed_and_gives_the_same_samples(self, tmp_path: Path) -> None:
        streams, rng = streams_of(tmp_path), random.Random(0)
        with WorkerPool(0, PATIENCE_SECONDS) as alone:
            undisturbed = steps_of(streams, alone, NUM_STEPS, UnreadableLog(0))
        notices: list[str] = []
        killed: list[int] = []
        log = UnreadableLog(0)
        with WorkerPool(3, PATIENCE_SECONDS, notify=notices.append) as workers:

            def kill() -> None:
                number = rng.randrange(3)
                process_id = wait_until_ready(workers)[number]
                os.kill(process_id, signal.SIGKILL)
                wait_until(lambda: process_id not in workers.process_ids)
                killed.append(number)

            disturbed = steps_of(streams, workers, NUM_STEPS, log, before_step=kill)
            process_ids = wait_until_ready(workers)
        assert not any(is_alive(process_id) for process_id in process_ids)
        assert log.reasons == {}
        assert_equal(disturbed, undisturbed)
        assert [line.split(" ended (SIGKILL)")[0] for line in notices] == [f"worker {number}" for number in killed]
        assert all(line.endswith("it is replaced") for line in notices)

    def test_gives_up_a_file_that_never_answers_and_goes_on(self, tmp_path: Path) -> None:
        streams = streams_of(tmp_path)
        hanging = tmp_path / "video4.mkv"
        hanging.unlink()
        missing, hung = UnreadableLog(1, notify=lambda line: None), UnreadableLog(1, notify=lambda line: None)
        with WorkerPool(0, PATIENCE_SECONDS) as alone:
            without_it = steps_of(streams, alone, NUM_STEPS, missing)
        os.mkfifo(hanging)  # a pipe that nobody writes to: whoever opens it waits for ever
        notices: list[str] = []
        further_seconds = lambda request: 0.0 if request.path == str(hanging) else PATIENCE_SECONDS  # noqa: E731
        with WorkerPool(2, 3.0, notify=notices.append, further_seconds=further_seconds) as workers:
            steps = steps_of(streams, workers, NUM_STEPS, hung)
        assert hung.reasons == {str(hanging): "loading took longer than 3 s"}
        assert notices and all(line.endswith(f"was ended after 3 s at {hanging}; it is replaced") for line in notices)
        assert_equal(steps, without_it)
        places = [(one.step, one.index, one.replaced_by) for one in hung.pending]
        assert places and places == [(one.step, one.index, one.replaced_by) for one in missing.pending]
