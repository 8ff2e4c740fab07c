"""How much quicker prepared videos are read, at which size and PSNR: the tables of docs/prepared_data.md.

    python benchmarks/prepared.py ../shared/data/media

Both sides make the same training clips in turn, in one process with one thread: decord and OpenCV of the original, as
the published pipeline does, and this package of the prepared file. Each time the file is opened, its index built again.
Needs decord and opencv-python-headless besides the package.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import decord
import numpy as np
import torch
from made_clip import make_clip
from published_pipeline import their_clip

from omnisource.data.decoding.verified_files import VerifiedFiles
from omnisource.data.decoding.video import VideoFile
from omnisource.data.loading.clip_sampling import training_indices
from omnisource.data.transforms.views import training_view
from omnisource.prepare.encode import prepare_video, rate_of, video_options, write_video
from omnisource.prepare.qp import fitting_qp, luma_psnr, sample_positions
from omnisource.prepare.run import Settings
from omnisource.prepare.shrink import prepared_frames
from omnisource.recipe.data import ClipSampling, TrainingView

SHORT_SIDE = 256
DEFAULT = "the default: every 5th, 38 dB"


@dataclass(frozen=True)
class Setting:
    """How videos are encoded: with the default options but for some, and the qp that gives a PSNR in dB."""

    psnr: float = 38.0
    keyframe_interval: int = Settings().keyframe_interval
    options: Mapping[str, str] = field(default_factory=dict)

    def x264(self, qp: int) -> dict[str, str]:
        return {**video_options(self.keyframe_interval, qp), **self.options}


SETTINGS = {
    DEFAULT: Setting(),
    "every 5th, 36 dB": Setting(36),
    "every 5th, 40 dB": Setting(40),
    "every frame a keyframe, 38 dB": Setting(keyframe_interval=1),
    "every 3rd, 38 dB": Setting(keyframe_interval=3),
    "every 4th, 38 dB": Setting(keyframe_interval=4),
    "every 8th, 38 dB": Setting(keyframe_interval=8),
    "every 16th, 38 dB": Setting(keyframe_interval=16),
    "every 5th, 38 dB, preset slower": Setting(options={"preset": "slower"}),
    "every 5th, 38 dB, with deblocking and CABAC": Setting(options={"tune": "psnr"}),
    "every 5th, 38 dB, with two B-frames": Setting(options={"bf": "2", "b_strategy": "0", "b-pyramid": "none"}),
}
OTHERS = {
    "-g 8 -bf 3 -b-pyramid none -tune fastdecode -crf 21": {
        **{"g": "8", "bf": "3", "b-pyramid": "none", "tune": "fastdecode", "crf": "21"}
    },
    "-g 16 (resize_videos.py --dense of mmaction2)": {"g": "16"},
}


@dataclass(frozen=True)
class Result:
    """Of one file with one setting: size and PSNR against the original, and milliseconds of processor time a clip."""

    size: float
    luma_psnr: float
    psnr: float
    encode_seconds: float
    ours_ms: float
    theirs_ms: float
    ratio: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path, help="folder with mma_test.mp4 and mma_demo.mp4")
    parser.add_argument("--clips", type=int, default=40, help="clips of each file (%(default)s)")
    parser.add_argument("--only-default", action="store_true", help="measure no other settings")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "made.mp4")
        make_clip(arguments.media, made)
        originals = [arguments.media / "mma_test.mp4", arguments.media / "mma_demo.mp4", made]
        settings = {DEFAULT: SETTINGS[DEFAULT]} if arguments.only_default else {**SETTINGS, **OTHERS}
        for name, setting in settings.items():
            print(f"\n{name}", flush=True)
            report([measure(path, setting, Path(folder), arguments.clips) for path in originals], originals)
        print("\nright frames of 30 at random indices, read with decord and OpenCV")
        for path in originals:
            prepared = Path(folder, "prepared.mp4")
            encode(path, prepared, SETTINGS[DEFAULT])
            print(f"  {path.name:14} {right_frames(prepared, decord_frame)} and {right_frames(prepared, opencv_frame)}")


def report(results: list[Result], originals: list[Path]) -> None:
    """Prints a line a file, and that of the middle ratio."""
    middle = sorted(results, key=lambda result: result.ratio)[len(results) // 2]
    for path, result in zip(originals, results, strict=True):
        mark = "  <- the middle one" if result is middle else ""
        print(
            f"  {path.name:14} {path.stat().st_size / 1e6:.2f} MB, {result.size:.2f} times that; "
            f"PSNR luma {result.luma_psnr:.1f} dB, all planes {result.psnr:.1f} dB; "
            f"encoded in {result.encode_seconds:.1f} s; "
            f"decord {result.theirs_ms:.1f} ms, ours {result.ours_ms:.1f} ms: {result.ratio:.1f} times the clips{mark}",
            flush=True,
        )


def measure(original: Path, setting: Setting | Mapping[str, str], folder: Path, num_clips: int) -> Result:
    prepared = folder / "prepared.mp4"
    start = time.process_time()
    encode(original, prepared, setting)
    encode_seconds = time.process_time() - start
    times = [(seconds(their_clip, original, seed), seconds(our_clip, prepared, seed)) for seed in range(num_clips)]
    theirs, ours = zip(*times, strict=True)
    return Result(
        prepared.stat().st_size / original.stat().st_size,
        *psnr(original, prepared),
        encode_seconds,
        1000 * statistics.median(ours),
        1000 * statistics.median(theirs),
        statistics.median(their / our for their, our in times),
    )


def encode(original: Path, prepared: Path, setting: Setting | Mapping[str, str]) -> None:
    if setting == SETTINGS[DEFAULT]:
        prepare_video(str(original), prepared, SHORT_SIDE, Settings().keyframe_interval)
        return
    with VideoFile(original) as video:
        frames = list(prepared_frames(video, SHORT_SIDE))
        options = setting
        if isinstance(setting, Setting):
            sample = [frames[position] for position in sample_positions(len(frames), setting.keyframe_interval)]
            qp = fitting_qp(lambda qp: luma_psnr(sample, setting.x264(qp)), setting.psnr)
            options = setting.x264(qp)
        write_video(frames, prepared, rate_of(video), options)


def seconds(make: Callable[[Path, np.random.Generator], object], path: Path, seed: int) -> float:
    """Returns the processor time that one clip takes: on a busy machine it says more than the clock."""
    start = time.process_time()
    make(path, np.random.default_rng(seed))
    return time.process_time() - start


def our_clip(path: Path, rng: np.random.Generator) -> torch.Tensor:
    with VideoFile(path, verified=VerifiedFiles(64)) as video:  # nothing is remembered of earlier visits
        frames = video.frames(training_indices(video.num_frames, ClipSampling(), rng))
    return training_view(frames, TrainingView(), rng)


def right_frames(path: Path, read: Callable[[Path, int], np.ndarray]) -> int:
    """Returns how many of 30 frames are what they should be, and not more like one of their four neighbors."""
    with VideoFile(path) as video:
        frames = video.frames(range(video.num_frames)).astype(np.int16)
    right = 0
    for index in np.random.default_rng(0).integers(0, len(frames), 30).tolist():
        found = read(path, index)
        near = range(max(0, index - 2), min(len(frames), index + 3))
        right += np.abs(frames[index] - found).mean() <= min(np.abs(frames[other] - found).mean() for other in near)
    return right


def decord_frame(path: Path, index: int) -> np.ndarray:
    return decord.VideoReader(str(path), num_threads=1)[index].asnumpy()


def opencv_frame(path: Path, index: int) -> np.ndarray:
    capture = cv2.VideoCapture(str(path))
    capture.set(cv2.CAP_PROP_POS_FRAMES, index)
    _, frame = capture.read()
    capture.release()
    return frame[..., ::-1]


def psnr(original: Path, prepared: Path) -> tuple[float, float]:
    """Returns the PSNR of all frames in dB against the original scaled to the same size: luma, and all planes."""
    errors, counts = np.zeros(3), np.zeros(3)
    with (
        VideoFile(original) as first,
        VideoFile(prepared) as second,
        closing(prepared_frames(first, SHORT_SIDE)) as wanted,
        closing(second.all_frames()) as found,
    ):
        for frame, other in zip(wanted, found, strict=True):
            for place, (plane, other_plane) in enumerate(zip(planes(frame), planes(other), strict=True)):
                errors[place] += np.square(plane.astype(np.float64) - other_plane).sum()
                counts[place] += plane.size
    return decibels(errors[0] / counts[0]), decibels(errors.sum() / counts.sum())


def planes(frame: av.VideoFrame) -> list[np.ndarray]:
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]


def decibels(mean_square: float) -> float:
    return float(10 * np.log10(255**2 / mean_square))


if __name__ == "__main__":
    main()
