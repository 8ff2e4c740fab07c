"""The lists of prepared files: the lines of the originals with other paths."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from omnisource.cli.arguments import load_recipe
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_items, read_splits
from omnisource.data.decoding.images import decode_image
from omnisource.data.decoding.video import VideoFile
from omnisource.prepare.jobs import job_from_source
from omnisource.recipe.data import Split
from tests.support.media import numbered_frames, read_numbers, write_frames, write_video
from tests.support.miniature import OWN_DATA_CONFIG, tiny_overrides
from tests.support.preparing import CONFIG, prepared


def read_everything(overrides: list[str]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Returns label and shape of every item of the published config, by its split and key."""
    recipe, names = resolve_classes(load_recipe(CONFIG, overrides))
    found = {}
    for split in ("train", "validation"):
        for name, items in read_splits(recipe, names, split).items():
            for item in items:
                if recipe.sources[name].media == "image":
                    shape = decode_image(item.path).shape
                else:
                    with VideoFile(item.path) as video:
                        shape = video.frames(range(video.num_frames)).shape
                found[f"{split} {name} {item.key}"] = (item.label, shape)
    return found


def test_recipe_works_on_prepared_data_with_another_root_only(in_data: Path, tmp_path: Path) -> None:
    overrides = tiny_overrides()
    for name in ("kinetics400", "imagenet"):
        job = job_from_source(load_recipe(CONFIG, overrides), name, CONFIG)
        assert prepared(job, tmp_path / name).failures == []
    roots = [f"sources.{name}.root={tmp_path / name}" for name in ("kinetics400", "imagenet")]
    before = read_everything(overrides)
    after = read_everything([*overrides, *roots])
    assert before.keys() == after.keys() and len(before) == 33
    for key, (label, shape) in before.items():
        assert after[key][0] == label
        assert (min(shape[-3:-1]), min(after[key][1][-3:-1])) == (40, 32)


def test_class_folders_and_class_maps_go_along(in_data: Path, tmp_path: Path) -> None:
    (in_data / "my_data/images/names.txt").write_text("n01440764\nn01443537\nn01484850\n")
    recipe = load_recipe(str(OWN_DATA_CONFIG), ["sources.images.classes=names.txt"])
    prepared(job_from_source(recipe, "images", str(OWN_DATA_CONFIG)), tmp_path / "out")
    overrides = ["sources.images.classes=names.txt", f"sources.images.root={tmp_path / 'out'}"]
    recipe, names = resolve_classes(load_recipe(str(OWN_DATA_CONFIG), overrides))
    splits = {name: read_splits(recipe, names, name)["images"] for name in ("train", "validation")}
    assert {name: len(items) for name, items in splits.items()} == {"train": 15, "validation": 6}
    assert (tmp_path / "out/names.txt").read_text() == "n01440764\nn01443537\nn01484850\n"


@pytest.mark.parametrize(
    ("format_name", "text", "expected"),
    [
        ("path_label", "a b.avi\thug\nc.mp4\tkick\n", "a b.mp4\thug\nc.mp4\tkick\n"),
        ("path_label", "a b.avi,0\r\nc.mp4,1\r\n", "a b.mp4,0\r\nc.mp4,1\r\n"),
        ("path_label", "\ufeffc.mp4 1\n", "\ufeffc.mp4 1\n"),
        ("path_label", "  a b.avi   0", "  a b.mp4   0"),
        ("video_frames_label", "a b 5 0\nc 9 1\n", "a b 5 0\nc 9 1\n"),
        ("video_frames_label", "a b.avi 5 0\nc 9 1\n", "a b.mp4 5 0\nc 9 1\n"),
        (
            "csv",
            'who,path,label\n"x, y",a b.avi,hug\nz,c.mp4,kick\n',
            'who,path,label\n"x, y",a b.mp4,hug\nz,c.mp4,kick\n',
        ),
        ("csv", "label;path\n1;c.mp4\n", "label;path\n1;c.mp4\n"),
    ],
)
def test_lists_keep_everything_but_the_paths(
    in_data: Path, tmp_path: Path, format_name: str, text: str, expected: str
) -> None:
    videos = in_data / "data/kinetics400/videos_train"
    write_video(videos / "a b.avi", numbered_frames(5, 40, 48), codec="mpeg4")
    write_video(videos / "c.mp4", numbered_frames(5, 40, 48))
    (in_data / "data/kinetics400/list.txt").write_bytes(text.encode())
    (in_data / "data/kinetics400/names.txt").write_text("hug\nkick\n")
    overrides = [
        *tiny_overrides(num_classes=2),
        "sources.kinetics400.validation=None",
        "sources.kinetics400.train.list=list.txt",
        f"sources.kinetics400.train.format={format_name}",
        "sources.kinetics400.classes=names.txt",
    ]
    job = job_from_source(load_recipe(CONFIG, overrides), "kinetics400", CONFIG)
    prepared(job, tmp_path / "out")
    assert (tmp_path / "out/list.txt").read_bytes().decode() == expected
    split = Split(folder="videos_train", list="list.txt", format=format_name)  # type: ignore[arg-type]
    folders = (in_data / "data/kinetics400", tmp_path / "out")
    before, after = (read_items(str(folder), split, "video", ("hug", "kick"), 2, "x") for folder in folders)
    assert [item.label for item in before] == [item.label for item in after]


def test_folders_of_raw_frames_are_shrunk(in_data: Path, tmp_path: Path) -> None:
    root = in_data / "data/kinetics400"
    write_frames(root / "frames/a", numbered_frames(3, 80, 96), template="f_{:03d}.jpg")
    write_frames(root / "frames/b", numbered_frames(2, 80, 96, first=10), template="f_{:03d}.jpg")
    (root / "raw.txt").write_text("a 3 0\nb 2 1\n")
    train = "sources.kinetics400.train"
    overrides = [
        *tiny_overrides(),
        "sources.kinetics400.validation=None",
        *(f"{train}.folder=frames", f"{train}.list=raw.txt", f"{train}.format=frames_folder"),
        f"{train}.frame_template=f_{{:03d}}.jpg",
    ]
    recipe = load_recipe(CONFIG, overrides)
    prepared(job_from_source(recipe, "kinetics400", CONFIG), tmp_path / "out")
    assert (tmp_path / "out/raw.txt").read_text() == "a 3 0\nb 2 1\n"
    images = [decode_image(tmp_path / f"out/frames/a/f_{number:03d}.jpg") for number in (1, 2, 3)]
    assert [image.shape for image in images] == [(32, 38, 3)] * 3
    assert read_numbers(np.stack(images)) == [0, 1, 2]


def test_folders_and_lists_outside_the_root_are_named_in_the_overrides(in_data: Path, tmp_path: Path) -> None:
    root = in_data / "data/kinetics400"
    elsewhere = tmp_path / "elsewhere"
    shutil.move(root / "videos_train", elsewhere / "clips")
    shutil.move(root / "kinetics400_train_list_videos.txt", elsewhere / "train.txt")
    overrides = [
        *tiny_overrides(),
        f"sources.kinetics400.train.folder={elsewhere / 'clips'}",
        f"sources.kinetics400.train.list={elsewhere / 'train.txt'}",
    ]
    out = tmp_path / "out"
    preparation = prepared(job_from_source(load_recipe(CONFIG, overrides), "kinetics400", CONFIG), out)
    needed = str(preparation).splitlines()[-1].removeprefix("train on them with ").replace("OUT", str(out)).split()
    assert len(needed) == 3
    before, after = read_everything(overrides), read_everything([*tiny_overrides(), *needed])
    assert {key: label for key, (label, _) in before.items()} == {key: label for key, (label, _) in after.items()}
