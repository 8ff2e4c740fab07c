"""Loads tens of thousands of clips through persistent workers and watches the memory of every process.

    python benchmarks/soak.py --plot docs/soak.svg

The files are mp4, mkv, avi and webm videos and JPEG and PNG images of different sizes, some of them unreadable, in the
order of training, epoch after epoch; those of ../shared/data are added where they are there. After the warm-up the
resident memory of each worker and of the parent is read at intervals from /proc. Exits with code 1 where a process has
grown by 2 % or more from the first tenth of what follows to the last, by the medians, or where a worker was replaced.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from omnisource.data.loading.order import items_at
from omnisource.data.loading.request import Load, SampleRequest
from omnisource.data.loading.results import results_in_order
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia
from omnisource.recipe.data import ClipSampling, TrainingView
from omnisource.reporting.progress import progress_bar
from omnisource.reporting.tables import print_table
from omnisource.types import Clip, Media
from tests.support.media import moving_square, truncate, write_image, write_video

SHARED = Path(__file__).resolve().parents[2] / "shared/data"
SHARED_FILES: dict[str, Media] = {
    "media/mma_test.mp4": "video",
    "media/mma_test.avi": "video",
    "media/h265_video.mp4": "video",
    "media/video_270.mov": "video",
    "media/320x240.ogv": "video",
    "media/corrupted.mp4": "video",
    "ut_interaction/videos/set1_000_seq01_punch.avi": "video",
    "ut_interaction/videos/set1_001_seq01_kick.avi": "video",
}
"""Reference media that join in: other encoders, other sizes, and one that is damaged."""

SIZES = ((120, 160), (240, 320), (256, 340), (360, 480))
"""Height and width of the videos that are made, in pixels."""

NAMES_OF_EACH = 20
"""Names under which each file lies there: a data set is many files."""

GROWTH_LIMIT = 0.02
"""Growth of a process from which on the soak has failed, as a share."""

KEPT_CLIPS = 64
"""Clips that the parent keeps at a time, as a loader that fetches ahead does."""


@dataclass(frozen=True)
class File:
    """One file of the soak."""

    path: str
    media: Media


@dataclass(frozen=True)
class Memory:
    """Memory of one process, in bytes.

    Attributes:
        resident: What is in memory, with all that it shares with others.
        proportional: The same, with its share only of what is shared.
        own: What only this process has.
    """

    resident: int
    proportional: int
    own: int


@dataclass
class Soak:
    """What a soak has measured.

    Attributes:
        clips: Clips loaded when each sample was taken.
        memory: Samples by the name of the process.
        unreadable: Requests that gave no clip.
        notices: What was told of workers that were replaced.
        seconds: Time that all took.
    """

    clips: list[int] = field(default_factory=list)
    memory: dict[str, list[Memory]] = field(default_factory=dict)
    unreadable: int = 0
    notices: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def tenths(self, process: str) -> list[float]:
        """Returns the resident memory of a process in bytes: the median of each tenth of the samples."""
        resident = [memory.resident for memory in self.memory[process]]
        return [statistics.median(part.tolist()) for part in _in_tenths(resident)]

    def growth(self, process: str) -> float:
        """Returns by what share the resident memory of a process has grown, from the first tenth to the last."""
        tenths = self.tenths(process)
        return tenths[-1] / tenths[0] - 1


def _in_tenths(samples: Sequence[int]) -> list[np.ndarray]:
    return np.array_split(np.array(samples), min(10, len(samples)))


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as name:
        os.environ["OMNISOURCE_CACHE"] = f"{name}/cache"  # not the user's
        files = under_many_names(write_files(Path(name), SIZES, num_frames=48) + shared_files(), Path(name))
        with progress_bar("clips", arguments.clips) as advance:
            done = soak(
                files, arguments.clips, arguments.warm_up, arguments.interval, arguments.workers, on_clip=advance
            )
    _print(done, arguments, len(files))
    if arguments.plot:
        draw(done, arguments.plot)
    return int(bool(done.notices) or any(done.growth(process) >= GROWTH_LIMIT for process in done.memory))


def soak(
    files: Sequence[File],
    num_clips: int,
    warm_up: int,
    interval: int,
    num_workers: int,
    crop_size: int = 224,
    load: Load | None = None,
    on_clip: Callable[[], None] = lambda: None,
) -> Soak:
    """Loads clips and returns what it measured on the way.

    Args:
        files: What to load, in the order of training.
        num_clips: Clips in all.
        warm_up: Clips before the first sample.
        interval: Clips from one sample to the next.
        num_workers: Loading processes.
        crop_size: Side of the clips, in pixels.
        load: What the workers do instead of what they do in training.
        on_clip: Called after each clip.
    """
    done, started = Soak(), time.monotonic()
    kept: deque[Clip] = deque(maxlen=KEPT_CLIPS)
    loading: dict[str, Any] = {} if load is None else {"load": load}
    with WorkerPool(num_workers, 600.0, notify=done.notices.append, **loading) as workers:
        results = results_in_order(requests(files, num_clips, crop_size), workers, ahead=4 * num_workers)
        for number, (_, result) in enumerate(results, start=1):
            if isinstance(result, UnreadableMedia):
                done.unreadable += 1
            else:
                kept.append(result)
            on_clip()
            if number >= warm_up and (number - warm_up) % interval == 0:
                done.clips.append(number)
                processes = {f"worker {place}": one for place, one in enumerate(workers.process_ids)}
                for process, process_id in {**processes, "parent": os.getpid()}.items():
                    done.memory.setdefault(process, []).append(memory_of(process_id))
    done.seconds = time.monotonic() - started
    return done


def requests(files: Sequence[File], num_clips: int, crop_size: int) -> Iterator[SampleRequest]:
    """Yields what training would ask for: epoch after epoch, each in an order of its own."""
    epochs, indices = items_at(0, "soak", len(files), 0, num_clips)
    for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True):
        file = files[index]
        yield SampleRequest(
            source="soak",
            media=file.media,
            path=file.path,
            key=file.path,
            label=0,
            num_frames=None,
            frame_template="",
            sampling=ClipSampling(),
            view=TrainingView(crop_size=crop_size),
            epoch=epoch,
            index=index,
        )


def memory_of(process_id: int) -> Memory:
    """Returns the memory of a process. Linux only."""
    fields: dict[str, int] = {}
    for line in Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()[1:]:
        name, kibibytes = line.split()[:2]
        fields[name.rstrip(":")] = int(kibibytes) * 1024
    return Memory(fields["Rss"], fields["Pss"], fields["Private_Clean"] + fields["Private_Dirty"])


def write_files(folder: Path, sizes: Sequence[tuple[int, int]], num_frames: int) -> list[File]:
    """Writes videos and images of all `sizes` (height, width) below `folder`, and some that cannot be read."""
    folder.mkdir(exist_ok=True)
    files = []
    for place, (height, width) in enumerate(sizes):
        frames = moving_square(num_frames, height, width, seed=place)
        stem = folder / f"made{place}"
        for suffix, codec in (("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx-vp9")):
            options = {"g": "24"} | ({"cpu-used": "8", "deadline": "realtime"} if suffix == "webm" else {})
            files.append(
                File(str(write_video(stem.with_suffix(f".{suffix}"), frames, codec, options=options)), "video")
            )
        for suffix in ("jpg", "png"):
            files.append(File(str(write_image(stem.with_suffix(f".{suffix}"), frames[0])), "image"))
    files += _unreadable_files(folder, moving_square(num_frames, *sizes[0]))
    return files


def shared_files() -> list[File]:
    """Returns the reference media that are there."""
    files = [File(str(SHARED / name), media) for name, media in SHARED_FILES.items() if (SHARED / name).is_file()]
    return files + [File(str(path), "image") for path in sorted((SHARED / "sports22").glob("*/000.jpg"))]


def under_many_names(files: Sequence[File], folder: Path) -> list[File]:
    """Returns links to the files, `NAMES_OF_EACH` to each, in a new folder below `folder`."""
    (folder / "names").mkdir()
    links = []
    for place, file in enumerate(files):
        for number in range(NAMES_OF_EACH):
            link = folder / "names" / f"{place}_{number}_{Path(file.path).name}"
            link.symlink_to(file.path)
            links.append(File(str(link), file.media))
    return links


def _unreadable_files(folder: Path, frames: np.ndarray) -> list[File]:
    """Writes what data sets hold that cannot be read: downloads that broke off, pages of an error, nothing."""
    (folder / "empty.mp4").touch()
    (folder / "page.jpg").write_text("<html>404</html>")
    cut_image = truncate(write_image(folder / "cut.jpg", frames[0]), 0.5)
    cut_video = truncate(write_video(folder / "cut.mp4", frames), 0.6)
    middle = write_video(folder / "middle.mkv", frames)
    data = bytearray(middle.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    middle.write_bytes(data)
    videos = [File(str(path), "video") for path in (folder / "empty.mp4", cut_video, middle)]
    return [*videos, *(File(str(path), "image") for path in (folder / "page.jpg", cut_image))]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=20_000, help="clips in all (default 20000)")
    parser.add_argument("--warm-up", type=int, default=2000, help="clips before the first sample (default 2000)")
    parser.add_argument("--interval", type=int, default=100, help="clips between two samples (default 100)")
    parser.add_argument("--workers", type=int, default=4, help="loading processes (default 4)")
    parser.add_argument("--plot", type=Path, help="SVG file to draw the memory into")
    return parser.parse_args()


def _print(done: Soak, arguments: argparse.Namespace, num_files: int) -> None:
    tenths = {process: [f"{size / 2**20:.1f}" for size in done.tenths(process)] for process in done.memory}
    ends = [int(part[-1]) for part in _in_tenths(done.clips)]
    rows = [[f"to {end}", *(tenths[process][place] for process in tenths)] for place, end in enumerate(ends)]
    rows.append(["growth", *(f"{done.growth(process):+.2%}" for process in done.memory)])
    for place, when in ((0, "at first"), (-1, "at the end")):
        own = [f"{samples[place].own / 2**20:.1f}" for samples in done.memory.values()]
        proportional = [f"{samples[place].proportional / 2**20:.1f}" for samples in done.memory.values()]
        rows += [[f"own, {when}", *own], [f"proportional, {when}", *proportional]]
    print_table("Resident memory in MiB, medians", ("clips", *done.memory), rows)
    epochs = arguments.clips / num_files
    print(
        f"{arguments.clips} clips of {num_files} files ({epochs:.0f} epochs), {done.unreadable} of them unreadable, in "
        f"{done.seconds:.0f} s: {arguments.clips / done.seconds:.1f} a second with {arguments.workers} workers"
    )
    for notice in done.notices:
        print(notice)


def draw(done: Soak, path: Path) -> None:
    """Draws the resident memory of every process over the clips."""
    with plt.rc_context({"svg.hashsalt": "omnisource", "svg.fonttype": "none"}):
        figure, axes = plt.subplots(figsize=(7, 3))
        for process, samples in done.memory.items():
            axes.plot(done.clips, [memory.resident / 2**20 for memory in samples], label=process, linewidth=1)
        axes.set(xlabel="clips loaded", ylabel="resident memory, MiB", ylim=(0, None))
        axes.legend(ncols=5, fontsize="small", loc="lower right")
        axes.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
