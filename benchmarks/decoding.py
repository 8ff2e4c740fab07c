"""How quickly clips are read, held against decord and OpenCV: the table of docs/decoding.md.

    python benchmarks/decoding.py ../shared/data/media

Both sides make the same clips in turn, in one process with one thread, and open the file and build its index again
each time. Theirs are the parts of the published pipeline. Of ours there are two figures: the first visit of a machine
to a file, which decodes it in order until the last wanted frame, and the later ones, which decode what is needed.
Needs decord and opencv-python-headless besides the package.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import os
import platform
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import decord
import numpy as np
import torch
from made_clip import make_clip
from published_pipeline import TEN_BY_THREE, their_clip, their_views, their_views_in_order

from omnisource.data.decoding.verified_files import verified_files
from omnisource.data.decoding.video import VideoFile
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import load_clip
from omnisource.randomness import sample_generator
from omnisource.recipe.data import ClipSampling, EvaluationViews, TrainingView

SAMPLING = ClipSampling(clip_length=8, frame_interval=8)


@dataclass(frozen=True)
class Times:
    """What making the same clips took, in milliseconds of the processor and of the clock, one pair a clip."""

    theirs: list[tuple[float, float]]
    first: list[tuple[float, float]]
    later: list[tuple[float, float]]

    def ratio(self, ours: list[tuple[float, float]], clock: int) -> float:
        return statistics.median(their[clock] / our[clock] for their, our in zip(self.theirs, ours, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path, help="folder with mma_test.mp4 and mma_demo.mp4")
    parser.add_argument("--clips", type=int, default=40, help="training clips of each file (%(default)s)")
    parser.add_argument("--tests", type=int, default=9, help="times ten clips by three crops (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    print(f"PyAV {av.__version__}, decord {decord.__version__}, OpenCV {cv2.__version__}, {os.cpu_count()} cores,")
    print(f"{platform.machine()}, Python {platform.python_version()}. Median ms of the processor (of the clock).\n")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "made.mp4")
        make_clip(arguments.media, made)
        paths = [arguments.media / "mma_test.mp4", arguments.media / "mma_demo.mp4", made]
        report("One training clip of 8 frames", paths, TrainingView(), their_clip, arguments.clips)
        report("Ten clips by three crops", paths, TEN_BY_THREE, their_views, arguments.tests)
        title = "Ten clips by three crops, where decord is asked for each frame once and in order"
        report(title, paths, TEN_BY_THREE, their_views_in_order, arguments.tests)


def report(
    title: str,
    paths: list[Path],
    view: TrainingView | EvaluationViews,
    theirs: Callable[[Path, np.random.Generator], np.ndarray],
    count: int,
) -> None:
    """Prints the times of all files, and the ratios of the middle file."""
    print(f"{title}\n")
    print("| file | decord + OpenCV | first visit | later visits | ratio, first | ratio, later | decoder's share |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ratios = []
    for path in paths:
        times = measure(path, view, theirs, count)
        ratios.append([times.ratio(ours, clock) for ours in (times.first, times.later) for clock in (0, 1)])
        cells = [median(column) for column in (times.theirs, times.first, times.later)]
        first, first_clock, later, later_clock = ratios[-1]
        cells += [f"{first:.2f} ({first_clock:.2f})", f"{later:.2f} ({later_clock:.2f})"]
        print(f"| {path.name} | {' | '.join(cells)} | {decoder_share(path, view, count):.0%} |", flush=True)
    middle = [sorted(column)[len(paths) // 2] for column in zip(*ratios, strict=True)]
    print(f"\nThe middle one: first visit {middle[0]:.2f} ({middle[1]:.2f}), later {middle[2]:.2f} ({middle[3]:.2f})\n")


def median(times: list[tuple[float, float]]) -> str:
    processor, clock = (statistics.median(column) for column in zip(*times, strict=True))
    return f"{processor:.1f} ({clock:.1f})"


def measure(
    path: Path,
    view: TrainingView | EvaluationViews,
    theirs: Callable[[Path, np.random.Generator], np.ndarray],
    count: int,
) -> Times:
    """Makes the same clips with both sides in turn."""
    times = Times([], [], [])
    for index in range(count):
        with nothing_known():
            times.first.append(timed(lambda index=index: our_clip(path, view, index)))
        with VideoFile(path) as video:
            video.frames([video.num_frames - 1])  # from here on the file is verified
        times.theirs.append(timed(lambda index=index: theirs(path, generator(index))))
        times.later.append(timed(lambda index=index: our_clip(path, view, index)))
    return times


@contextlib.contextmanager
def nothing_known() -> Iterator[None]:
    """Lets the package know of no file for the time of the block, as on a new machine."""
    before = os.environ.get("OMNISOURCE_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OMNISOURCE_CACHE"] = folder
        verified_files.cache_clear()
        verified_files()
        yield
    del os.environ["OMNISOURCE_CACHE"]
    if before is not None:
        os.environ["OMNISOURCE_CACHE"] = before
    verified_files.cache_clear()


def timed(make: Callable[[], object]) -> tuple[float, float]:
    """Returns the milliseconds of the processor and of the clock that a call takes."""
    start = time.process_time(), time.perf_counter()
    make()
    return 1000 * (time.process_time() - start[0]), 1000 * (time.perf_counter() - start[1])


def decoder_share(path: Path, view: TrainingView | EvaluationViews, count: int) -> float:
    """Returns the part of the processor's time of later visits that is spent in calls of the decoder."""
    total, profile = 0.0, cProfile.Profile(time.process_time)
    for index in range(count):
        total += timed(lambda index=index: our_clip(path, view, index))[0] / 1000  # the profile would slow it down
        profile.runcall(our_clip, path, view, index)
    calls = pstats.Stats(profile).stats.items()  # type: ignore
    return sum(entry[3] for (_, _, name), entry in calls if "'decode' of 'av." in name) / total


def our_clip(path: Path, view: TrainingView | EvaluationViews, index: int) -> torch.Tensor:
    """Returns views [V, 3, T, H, W] uint8, as training and testing load them."""
    request = SampleRequest("clips", "video", str(path), path.name, 0, None, "", SAMPLING, view, index=index)
    return load_clip(request).frames


def generator(index: int) -> np.random.Generator:
    """Returns the generator that `our_clip` draws with."""
    return sample_generator(0, "clips", 0, index)


if __name__ == "__main__":
    main()
