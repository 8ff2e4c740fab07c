"""Whether `omnisource predict` goes through many files as fast as `omnisource test`: both in turn over the same files.

Both commands run whole, from reading the checkpoint to the last line of output, in this process and in as many worker
processes, with the same model and the same views. The files are made, and the recognizer is not trained, which changes
no time. On a CPU a large model would hide what is measured, so model and views are small unless flags say otherwise;
on a GPU take --depth 50 --width 1 --clips 10 --size 224. `test` writes its report besides.

    OMP_NUM_THREADS=1 python benchmarks/predict_many.py
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from omnisource import Recognizer
from omnisource.checkpoints.file import Checkpoint, save_checkpoint
from omnisource.cli.arguments import load_recipe
from omnisource.cli.main import main as run_command
from omnisource.data.classes import resolve_classes
from omnisource.recipe.plain import to_plain
from tests.support.media import moving_square, write_image, write_video
from tests.support.miniature import OWN_DATA_CONFIG

SOURCES, CLASSES = ("videos", "images"), ("left", "right")
SIDES = ("short_side", "crop_size")
VIDEO_FRAMES, HEIGHT, WIDTH = 90, 256, 340


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="images (%(default)s)")
    parser.add_argument("--videos", type=int, default=40, help="videos (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of each command (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the medians are printed (%(default)s)")
    parser.add_argument("--depth", type=int, default=18, help="depth of the model (%(default)s)")
    parser.add_argument("--width", type=float, default=0.0625, help="width of the model (%(default)s)")
    parser.add_argument("--clips", type=int, default=4, help="clips of a video, of 8 frames (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="height and width of a view, in pixels (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the files go (the folder for temporary files)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        make_media(Path(folder), {"videos": arguments.videos, "images": arguments.images})
        measure(Path(folder), arguments)


def make_media(folder: Path, counts: dict[str, int]) -> None:
    """Writes class folders as configs/examples/own_data.py expects them; all videos are links to one."""
    frames = moving_square(VIDEO_FRAMES, HEIGHT, WIDTH, direction="right", seed=0)
    video = write_video(folder / "video.mp4", frames, options={"preset": "ultrafast"})
    for media, count in counts.items():
        for split, in_split in (("train", len(CLASSES)), ("validation", count)):
            for number in range(in_split):
                class_folder = folder / media / split / CLASSES[number % len(CLASSES)]
                class_folder.mkdir(parents=True, exist_ok=True)
                if media == "videos":
                    os.link(video, class_folder / f"{number:05d}.mp4")
                else:
                    write_image(class_folder / f"{number:05d}.jpg", frames[number % len(frames)])


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    overrides = [
        *(f"sources.{media}.root={folder / media}" for media in SOURCES),
        f"model.depth={arguments.depth}",
        f"model.width={arguments.width}",
        f"num_workers={arguments.workers}",
        f"sources.videos.test_views.num_clips={arguments.clips}",
        "sources.videos.test_views.num_crops=1",
        *(f"sources.{media}.test_views.{side}={arguments.size}" for media in SOURCES for side in SIDES),
    ]
    checkpoint = str(save_untrained(folder / "checkpoint.pt", overrides))
    files = [str(folder / media / "validation") for media in SOURCES]
    commands = {
        "test": ["test", str(OWN_DATA_CONFIG), checkpoint, "--work-dir", str(folder / "report"), *overrides],
        "predict": ["predict", checkpoint, *files, "--json", "--workers", str(arguments.workers)],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(arguments.rounds + 1):
        for name, command in commands.items():
            found[name].append(seconds_of(command))
    seconds = {name: times[1:] for name, times in found.items()}  # the first warms up
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{arguments.videos} videos of {arguments.clips} views, {arguments.images} images; {arguments.size} pixels")
    print(f"ResNet-{arguments.depth} of width {arguments.width:g}, {device}, {arguments.workers} workers")
    print(f"medians of {arguments.rounds} rounds in turn\n")
    print("| command | seconds | files a second |")
    print("| --- | --- | --- |")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"| `{name}` | {median:.2f} | {(arguments.videos + arguments.images) / median:.1f} |")
    ratios = [ours / theirs for ours, theirs in zip(seconds["predict"], seconds["test"], strict=True)]
    print(f"\nmedian ratio within a round, predict to test: {statistics.median(ratios):.3f}")


def save_untrained(path: Path, overrides: Sequence[str]) -> Path:
    """Writes a checkpoint of a recognizer with random weights; returns its path."""
    recipe, names = resolve_classes(load_recipe(str(OWN_DATA_CONFIG), overrides))
    torch.manual_seed(0)
    state = {"model": Recognizer(recipe.model, recipe.label_spaces).state_dict()}
    class_names = {space: list(of_space) for space, of_space in names.items()}
    save_checkpoint(Checkpoint(to_plain(recipe), class_names, {}, state), path, keep_last=1)
    return path


def seconds_of(command: Sequence[str]) -> float:
    """Returns how long a command takes, whose output nobody sees."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = run_command(command)
    assert code == 0, errors.getvalue()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
