"""Makes miniatures of datasets: the published layout and class folders, in a few kilobytes each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tests.support.media import moving_square, write_image, write_video

PUBLISHED_CONFIG = (
    Path(__file__).resolve().parents[2]
    / "configs/recognition/omnisource/slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb.py"
)
OWN_DATA_CONFIG = Path(__file__).resolve().parents[2] / "configs/examples/own_data.py"

Direction = Literal["right", "left", "up", "down"]

VIDEO_CLASSES: dict[str, Direction] = {"moving down": "down", "moving left": "left", "moving right": "right"}
"""Class name of each direction; the blanks are meant, Kinetics has them too."""
IMAGE_CLASSES = {"n01440764": (220, 40, 40), "n01443537": (40, 200, 60), "n01484850": (50, 80, 230)}
"""Color by class folder, named as ImageNet names them."""

TRAINING_CLIPS, VALIDATION_CLIPS = 4, 2
IMAGES = 5
FRAMES, HEIGHT, WIDTH = 12, 40, 48


def make_published_layout(folder: Path) -> None:
    """Writes `data/kinetics400` and `data/imagenet` below `folder`, as the published config expects them.

    Kinetics: 3 classes, 12 training and 6 validation clips of 12 frames of 48 x 40 pixels in H.264, in class folders.
    ImageNet: 3 classes, 15 images. The lists have the published names and the form `path label`.
    """
    kinetics, imagenet = folder / "data/kinetics400", folder / "data/imagenet"
    for split, list_name, clips in (
        ("videos_train", "kinetics400_train_list_videos.txt", TRAINING_CLIPS),
        ("videos_val", "kinetics400_val_list_videos.txt", VALIDATION_CLIPS),
    ):
        lines = []
        for label, name in enumerate(VIDEO_CLASSES):
            paths = write_clips(kinetics / split / name, name, clips, first_seed=0 if split == "videos_train" else 50)
            lines += [f"{path.relative_to(kinetics / split)} {label}\n" for path in paths]
        (kinetics / list_name).write_text("".join(lines))
    lines = []
    for label, name in enumerate(IMAGE_CLASSES):
        paths = write_images(imagenet / "train" / name, name, IMAGES, suffix=".JPEG")
        lines += [f"{path.relative_to(imagenet / 'train')} {label}\n" for path in paths]
    (imagenet / "meta").mkdir()
    (imagenet / "meta/train.txt").write_text("".join(lines))


def make_class_folders(folder: Path) -> None:
    """Writes `my_data/videos` and `my_data/images` below `folder`, as configs/examples/own_data.py expects them.

    Each has `train` (4 clips or 5 images a class) and `validation` (2 each), one folder a class, 3 classes.
    """
    for split, clips, images, seed in (("train", TRAINING_CLIPS, IMAGES, 0), ("validation", VALIDATION_CLIPS, 2, 50)):
        for name in VIDEO_CLASSES:
            write_clips(folder / "my_data/videos" / split / name, name, clips, seed)
        for name in IMAGE_CLASSES:
            write_images(folder / "my_data/images" / split / name, name, images, seed)


def write_clips(folder: Path, name: str, count: int, first_seed: int = 0) -> list[Path]:
    """Writes `count` clips of a class of `VIDEO_CLASSES` and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(first_seed, first_seed + count):
        frames = moving_square(FRAMES, HEIGHT, WIDTH, VIDEO_CLASSES[name], seed=seed)
        clip = f"{name.replace(' ', '-')}{seed:02d}_000001_000011.mp4"  # youtube_id, start, end, as in Kinetics
        paths.append(write_video(folder / clip, frames, options={"preset": "ultrafast"}))
    return paths


def write_images(folder: Path, name: str, count: int, first_seed: int = 0, suffix: str = ".jpg") -> list[Path]:
    """Writes `count` images of a class of `IMAGE_CLASSES` and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(first_seed, first_seed + count):
        image = moving_square(2, HEIGHT, WIDTH, color=IMAGE_CLASSES[name], seed=seed)[0]
        paths.append(write_image(folder / f"{name}_{seed}{suffix}", image))
    return paths


def tiny_overrides(
    video: str = "kinetics400",
    image: str = "imagenet",
    *,
    video_space: str | None = None,
    image_space: str | None = None,
    num_classes: int = 3,
    num_epochs: int = 1,
    num_workers: int = 0,
    more: Sequence[str] = (),
) -> list[str]:
    """Returns the overrides that make a config of two sources small enough for a test.

    Args:
        video: Name of the source of videos; the other follows its pace.
        image: Name of the source of images.
        video_space: Label space of the videos; by default it is named like the source.
        image_space: Label space of the images; by default it is named like the source.
        num_classes: Number of classes of both.
        num_epochs: Epochs of the run.
        num_workers: Loading processes.
        more: Further overrides; they go last and so win.
    """
    spaces = (video_space or video, image_space or image)
    sizes = []
    for source in (video, image):
        sizes.append(f"sources.{source}.training_view.crop_size=32")
        for views in ("validation_views", "test_views"):
            sizes += [f"sources.{source}.{views}.crop_size=32", f"sources.{source}.{views}.short_side=32"]
    return [
        "model.depth=18",
        "model.width=0.0625",
        *(f"label_spaces.{space}.num_classes={num_classes}" for space in spaces),
        *sizes,
        f"sources.{video}.sampling.clip_length=2",
        f"sources.{video}.sampling.frame_interval=2",
        f"sources.{video}.test_views.num_clips=2",
        f"sources.{video}.batch_size=2",
        f"num_epochs={num_epochs}",
        "schedule.warmup_epochs=0",
        "optimizer.learning_rate=0.01",
        "validation.interval_epochs=1",
        "checkpoints.interval_epochs=1",
        f"num_workers={num_workers}",
        *more,
    ]


def own_data_overrides(**changes: Any) -> list[str]:
    """Returns `tiny_overrides` for configs/examples/own_data.py."""
    return tiny_overrides("videos", "images", video_space="video_classes", image_space="image_classes", **changes)
