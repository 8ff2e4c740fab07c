"""`omnisource prepare`: what is written, what is refused, and that it goes on wherever it was ended."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnisource.cli.arguments import load_recipe
from omnisource.cli.main import main
from omnisource.data.datasets import read_items, read_splits, resolve_classes
from omnisource.data.decoding.images import decode_image
from omnisource.data.decoding.video import VideoFile
from omnisource.data.lists.items import Items
from omnisource.errors import UserError
from omnisource.files import lock
from omnisource.prepare.jobs import SourcePlan, plan_folder, plan_list, plan_source
from omnisource.prepare.journal import Entry, Header, Journal
from omnisource.prepare.results import short_ones
from omnisource.prepare.run import Preparation, Settings, prepare
from omnisource.recipe.data import Split, TarShards
from tests.support.media import (
    moving_square,
    numbered_frames,
    read_numbers,
    truncate,
    write_frames,
    write_image,
    write_video,
    zero_end_of_last_packet,
)
from tests.support.miniature import (
    OWN_DATA_CONFIG,
    PUBLISHED_CONFIG,
    make_class_folders,
    make_published_layout,
    tiny_overrides,
)

CONFIG = str(PUBLISHED_CONFIG)
SMALL = Settings(short_side=32)
HEADER = Header("originals", 32, 5, 38.0, 95)
OURS = {"prepared.jsonl", "prepared.json", "checksums.sha256"}


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("miniature")
    make_published_layout(folder)
    make_class_folders(folder)
    return folder


@pytest.fixture
def in_data(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(miniature, tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """A folder with three videos, two images and a text."""
    folder = tmp_path / "originals"
    (folder / "deep/er").mkdir(parents=True)
    write_video(folder / "first.mp4", numbered_frames(9, 40, 48))
    write_video(folder / "deep/second.avi", numbered_frames(12, 40, 48, first=100), codec="mpeg4")
    write_video(folder / "deep/er/third one.mkv", numbered_frames(7, 80, 96, first=200))
    write_image(folder / "deep/small.png", moving_square(1, 20, 30)[0])
    write_image(folder / "large.JPG", moving_square(1, 80, 100)[0], format="JPEG")
    (folder / "notes.txt").write_text("not media")
    return folder


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A list of 12 videos."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(12):
        frames = numbered_frames(60, 40, 48, first=100 * number)
        write_video(folder / f"{number:02d}.avi", frames, codec="mpeg4")
    (folder / "list.txt").write_text("".join(f"{number:02d}.avi {number % 3}\n" for number in range(12)))
    return folder / "list.txt"


def tree(folder: Path) -> dict[str, bytes]:
    """Returns the content of all files below a folder, by their paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def prepared(plan: SourcePlan, out: Path, settings: Settings = SMALL, shard_bytes: int | None = None) -> Preparation:
    return prepare(plan, out, settings, num_workers=0, shard_bytes=shard_bytes)


def numbers_in(path: Path) -> list[int]:
    with VideoFile(path) as video:
        return read_numbers(video.frames(range(video.num_frames)))


def entries(out: Path) -> dict[str, dict]:
    lines = [json.loads(line) for line in (out / "prepared.jsonl").read_text().splitlines()[1:]]
    return {line["output"]: line for line in lines}


def rows(items: Items) -> list[tuple[str, int]]:
    return [(item.key, item.label) for item in items]


class TestFolder:
    def test_tree_of_media_is_mirrored(self, originals: Path, tmp_path: Path) -> None:
        preparation = prepared(plan_folder(str(originals)), tmp_path / "out")
        media = {"first.mp4", "deep/second.mp4", "deep/er/third one.mp4", "deep/small.png", "large.JPG"}
        assert set(tree(tmp_path / "out")) == media | OURS
        assert numbers_in(tmp_path / "out/first.mp4") == list(range(9))
        assert numbers_in(tmp_path / "out/deep/second.mp4") == list(range(100, 112))
        assert numbers_in(tmp_path / "out/deep/er/third one.mp4") == list(range(200, 207))
        assert decode_image(tmp_path / "out/large.JPG").shape == (32, 40, 3)
        assert (tmp_path / "out/deep/small.png").read_bytes() == (originals / "deep/small.png").read_bytes()
        assert (preparation.num_new, preparation.failures) == (5, [])
        assert "left out: 1 (notes.txt)" in str(preparation)

    def test_counts_and_checksums_are_those_of_the_files(self, originals: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        prepared(plan_folder(str(originals)), out)
        found = entries(out)
        assert {output: (entry["num_frames"], entry["width"], entry["height"]) for output, entry in found.items()} == {
            "first.mp4": (9, 38, 32),
            "deep/second.mp4": (12, 38, 32),
            "deep/er/third one.mp4": (7, 38, 32),
            "deep/small.png": (1, 30, 20),
            "large.JPG": (1, 40, 32),
        }
        for output, entry in found.items():
            content = (out / output).read_bytes()
            assert (entry["size"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        checksums = dict(reversed(line.split("  ", 1)) for line in (out / "checksums.sha256").read_text().splitlines())
        assert checksums == {output: entry["sha256"] for output, entry in found.items()}
        summary = json.loads((out / "prepared.json").read_text())
        assert (summary["files"], summary["frames"], summary["failures"]) == (5, 30, 0)
        assert summary["prepared_bytes"] == sum(entry["size"] for entry in found.values())

    def test_sha256sum_finds_every_file_that_is_not_what_was_written(self, originals: Path, tmp_path: Path) -> None:
        program = shutil.which("sha256sum")
        if program is None:
            pytest.skip("sha256sum is not there")
        shutil.copy(originals / "first.mp4", originals / "back\\slash\nand line.mp4")
        out = tmp_path / "out"
        prepared(plan_folder(str(originals)), out)

        def told() -> tuple[int, str]:
            command = [program, "--check", "--quiet", "checksums.sha256"]
            found = subprocess.run(command, cwd=out, capture_output=True, text=True)
            return found.returncode, found.stdout

        assert told() == (0, "")
        image = bytearray((out / "large.JPG").read_bytes())
        image[-3] ^= 1
        (out / "large.JPG").write_bytes(image)
        (out / "first.mp4").unlink()
        assert told() == (1, "first.mp4: FAILED open or read\nlarge.JPG: FAILED\n")

    def test_originals_are_not_touched(self, originals: Path, tmp_path: Path) -> None:
        def state() -> dict[str, tuple[bytes, int]]:
            return {path: (content, (originals / path).stat().st_mtime_ns) for path, content in tree(originals).items()}

        before = state()
        prepared(plan_folder(str(originals)), tmp_path / "out")
        assert state() == before

    def test_videos_of_one_name_keep_apart(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for place, name in enumerate(("clip.mp4", "clip.avi", "clip.mkv")):
            codec = "mpeg4" if name.endswith("avi") else "libx264"
            write_video(tmp_path / "in" / name, numbered_frames(5, 40, 48, first=100 * place), codec=codec)
        prepared(plan_folder(str(tmp_path / "in")), tmp_path / "out")
        firsts = {name: numbers_in(tmp_path / "out" / name)[0] for name in entries(tmp_path / "out")}
        assert firsts == {"clip.mp4": 0, "clip.avi.mp4": 100, "clip.mkv.mp4": 200}

    def test_workers_make_the_same_bytes(self, originals: Path, tmp_path: Path) -> None:
        plan = plan_folder(str(originals))
        prepared(plan, tmp_path / "alone")
        prepare(plan, tmp_path / "workers", SMALL, num_workers=2)
        assert tree(tmp_path / "alone") == tree(tmp_path / "workers")

    def test_folder_without_media_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").touch()
        with pytest.raises(UserError, match=r"no images and no videos.*\.mp4"):
            plan_folder(str(tmp_path))


class TestFailures:
    def test_bad_files_are_named_and_all_others_done(
        self, originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        truncate(originals / "first.mp4", 0.3)
        (originals / "large.JPG").write_bytes(b"")
        out = tmp_path / "out"
        assert main(["prepare", str(originals), str(out), "--short-side", "32", "--workers", "1"]) == 2
        output = capsys.readouterr()
        assert "3 files, 0 of them from before" in output.out
        assert "not prepared: 2 files" in output.out
        assert f"{originals / 'first.mp4'}: " in output.out and f"{originals / 'large.JPG'}: " in output.out
        assert "5/5 files, 2 failed" in output.err
        lines = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
        assert [line["path"] for line in lines] == [str(originals / "first.mp4"), str(originals / "large.JPG")]
        assert all(line["reason"] for line in lines)
        assert set(entries(out)) == {"deep/second.mp4", "deep/er/third one.mp4", "deep/small.png"}

    @pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
    def test_video_of_one_frame_that_does_not_decode_is_named(
        self, originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], codec: str
    ) -> None:
        path = zero_end_of_last_packet(write_video(originals / "one.avi", moving_square(1, 48, 64), codec))
        out = tmp_path / "out"
        assert main(["prepare", str(originals), str(out), "--short-side", "32", "--workers", "1"]) == 2
        assert f"{path}: none of its frames can be decoded" in capsys.readouterr().out
        assert len(entries(out)) == 5

    def test_original_that_is_cut_off_is_prepared_and_warned_of(
        self, originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cut, whole = originals / "cut.avi", originals / "whole.avi"
        for path in (cut, whole):
            write_video(path, moving_square(40, 40, 48), "mjpeg")
        content = cut.read_bytes()
        truncate(cut, 0.6)
        out = tmp_path / "out"
        command = ["prepare", str(originals), str(out), "--short-side", "32", "--workers", "1"]
        for _ in range(2):  # the second time nothing is left to be done
            assert main(command) == 0
            (short,) = [json.loads(line) for line in (out / "fewer_frames.jsonl").read_text().splitlines()]
            assert short == {"path": str(cut), "frames": len(numbers_in(out / "cut.mp4")), "declared_frames": 40}
            assert 0 < short["frames"] < 30
            assert json.loads((out / "prepared.json").read_text())["fewer_frames"] == 1
            lines = capsys.readouterr().out.splitlines()
            place = lines.index(f"{cut}: {short['frames']} of 40 frames")
            assert lines[place - 1].startswith("warning: originals with fewer frames than their containers declare, ")
            assert str(whole) not in "".join(lines)
        found = entries(out)
        assert (found["whole.mp4"]["declared_frames"], found["large.JPG"]["declared_frames"]) == (40, None)
        cut.write_bytes(content)
        assert main(command) == 0
        assert "fewer frames" not in capsys.readouterr().out and not (out / "fewer_frames.jsonl").exists()

    def test_what_lacks_the_greatest_share_is_named_first(self) -> None:
        def entry(name: str, num_frames: int, declared_frames: int | None) -> Entry:
            return Entry(f"{name}.mp4", 1, "", num_frames, 2, 2, name, 1, 1, declared_frames)

        found = [entry("a", 118, 120), entry("b", 10, None), entry("c", 9, 9), entry("d", 5, 9), entry("e", 10, 9)]
        assert [one.original for one in short_ones(found)] == ["d", "a"]

    def test_hanging_file_has_the_time_of_its_own_size(
        self, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("omnisource.prepare.run.LIMIT_SECONDS", 5.0)
        (originals / "pipe.mp4").touch()
        with (originals / "large.avi").open("wb") as file:
            file.truncate(10**9)  # bytes, for which a file would be given 14 hours
        (originals / "list.txt").write_text("pipe.mp4 0\nlarge.avi 1\nfirst.mp4 2\n")
        plan = plan_list(str(originals / "list.txt"), None)
        (originals / "pipe.mp4").unlink()
        os.mkfifo(originals / "pipe.mp4")  # nobody writes to it
        preparation = prepare(plan, tmp_path / "out", SMALL, num_workers=1)
        reasons = {failure.path: failure.reason for failure in preparation.failures}
        assert set(reasons) == {str(originals / "large.avi"), str(originals / "pipe.mp4")}
        assert reasons[str(originals / "pipe.mp4")] == "loading took longer than 5 s"
        assert list(entries(tmp_path / "out")) == ["first.mp4"]

    def test_mended_file_is_prepared_by_the_next_run(self, originals: Path, tmp_path: Path) -> None:
        whole = (originals / "first.mp4").read_bytes()
        truncate(originals / "first.mp4", 0.3)
        plan, out = plan_folder(str(originals)), tmp_path / "out"
        assert len(prepared(plan, out).failures) == 1
        (originals / "first.mp4").write_bytes(whole)
        again = prepared(plan, out)
        assert (again.failures, again.num_new) == ([], 1)
        assert not (out / "failures.jsonl").exists()
        assert numbers_in(out / "first.mp4") == list(range(9))

    def test_items_that_failed_are_left_out_of_the_list(self, originals: Path, tmp_path: Path) -> None:
        list_path = originals / "all.txt"
        list_path.write_text("first.mp4 3\ndeep/second.avi 1\nlarge.JPG 0\n")
        truncate(originals / "first.mp4", 0.3)
        preparation = prepared(plan_list(str(list_path), None), tmp_path / "out")
        assert (tmp_path / "out/all.txt").read_text() == "deep/second.mp4 1\nlarge.JPG 0\n"
        assert preparation.lists.num_items == {"all.txt": 2} and preparation.lists.left_out == 1

    def test_full_disk_ends_everything_and_leaves_no_half_file(self, many: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
        write_video(many.parent / "05.avi", noise, codec="mpeg4")  # the largest, which comes first
        process = in_child(prepare_with_room_for_small_files, many, out)
        process.join()
        assert process.exitcode == errno.EFBIG
        assert set(tree(out)) == {"prepared.jsonl"}
        assert prepared(plan_list(str(many), None), out).num_new == 12

    @pytest.mark.parametrize(
        ("pictures", "side", "named"),
        [
            (1, 100, r"\.partial-\w+/0"),  # a picture that is shrunk
            (1, 30, r"\.partial-\w+/0"),  # one that is copied
            (20, 8, r"prepared\.jsonl"),
        ],
    )
    def test_full_disk_is_told_with_the_file_that_cannot_be_written(
        self, tmp_path: Path, pictures: int, side: int, named: str
    ) -> None:
        (tmp_path / "in").mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (pictures, side, side, 3), dtype=np.uint8)
        for number, picture in enumerate(noise):
            write_image(tmp_path / f"in/{number}.png", picture)
        limited = (
            "import resource, sys; from omnisource.cli.main import main\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "sys.exit(main(sys.argv[1:]))"
        )
        command = ["prepare", str(tmp_path / "in"), str(tmp_path / "out"), "--short-side", "32", "--workers", "1"]
        ended = subprocess.run([sys.executable, "-c", limited, *command], capture_output=True, text=True)
        assert ended.returncode == 2 and "Traceback" not in ended.stderr
        last_line = ended.stderr.splitlines()[-1]
        assert re.fullmatch(rf"error: {re.escape(str(tmp_path / 'out'))}/{named}: File too large", last_line)
        assert main(command) == 0  # with room again
        assert len(entries(tmp_path / "out")) == pictures

    def test_commit_that_failed_is_taken_up_where_it_failed(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with Journal(out, HEADER) as journal:
            for name in ("first", "second"):
                journal.add(*finished(journal, name))
            entry, third = finished(journal, "third")
            third.unlink()
            journal.add(entry, third)
            with pytest.raises(FileNotFoundError):
                journal.commit()
            third.write_text("third")
            journal.commit()
            assert [(out / name).read_text() for name in ("first", "second", "third")] == ["first", "second", "third"]


class TestLists:
    def test_recipe_works_on_prepared_data_with_another_root_only(self, in_data: Path, tmp_path: Path) -> None:
        overrides = tiny_overrides()
        for name in ("kinetics400", "imagenet"):
            plan = plan_source(load_recipe(CONFIG, overrides), name, CONFIG)
            assert prepared(plan, tmp_path / name).failures == []
        roots = [f"sources.{name}.root={tmp_path / name}" for name in ("kinetics400", "imagenet")]
        before = read_everything(overrides)
        after = read_everything([*overrides, *roots])
        assert before.keys() == after.keys() and len(before) == 33
        for key, (label, shape) in before.items():
            assert after[key][0] == label
            assert (min(shape[-3:-1]), min(after[key][1][-3:-1])) == (40, 32)

    def test_class_folders_and_class_maps_go_along(self, in_data: Path, tmp_path: Path) -> None:
        (in_data / "my_data/images/names.txt").write_text("n01440764\nn01443537\nn01484850\n")
        recipe = load_recipe(str(OWN_DATA_CONFIG), ["sources.images.classes=names.txt"])
        prepared(plan_source(recipe, "images", str(OWN_DATA_CONFIG)), tmp_path / "out")
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
        self, in_data: Path, tmp_path: Path, format_name: str, text: str, expected: str
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
        plan = plan_source(load_recipe(CONFIG, overrides), "kinetics400", CONFIG)
        prepared(plan, tmp_path / "out")
        assert (tmp_path / "out/list.txt").read_bytes().decode() == expected
        split = Split(folder="videos_train", list="list.txt", format=format_name)  # type: ignore[arg-type]
        places = (in_data / "data/kinetics400", tmp_path / "out")
        before, after = (read_items(str(place), split, "video", ("hug", "kick"), 2, "x") for place in places)
        assert [item.label for item in before] == [item.label for item in after]

    def test_folders_of_raw_frames_are_shrunk(self, in_data: Path, tmp_path: Path) -> None:
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
        prepared(plan_source(recipe, "kinetics400", CONFIG), tmp_path / "out")
        assert (tmp_path / "out/raw.txt").read_text() == "a 3 0\nb 2 1\n"
        images = [decode_image(tmp_path / f"out/frames/a/f_{number:03d}.jpg") for number in (1, 2, 3)]
        assert [image.shape for image in images] == [(32, 38, 3)] * 3
        assert read_numbers(np.stack(images)) == [0, 1, 2]

    def test_folders_and_lists_outside_the_root_are_named_in_the_overrides(self, in_data: Path, tmp_path: Path) -> None:
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
        preparation = prepared(plan_source(load_recipe(CONFIG, overrides), "kinetics400", CONFIG), out)
        needed = str(preparation).splitlines()[-1].removeprefix("train on them with ").replace("OUT", str(out)).split()
        assert len(needed) == 3
        before, after = read_everything(overrides), read_everything([*tiny_overrides(), *needed])
        assert {key: label for key, (label, _) in before.items()} == {key: label for key, (label, _) in after.items()}


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


def finished(journal: Journal, output: str) -> tuple[Entry, Path]:
    """Writes a file as a worker does; returns its entry and where it is."""
    written = journal.temporary / output
    written.write_text(output)
    return Entry(output, len(output), "", 1, 2, 2, "original", 1, 1), written


class TestGoingOn:
    def test_killed_at_any_moment_it_ends_with_the_same_bytes(self, many: Path, tmp_path: Path) -> None:
        whole, out = tmp_path / "whole", tmp_path / "out"
        plan = plan_list(str(many), None)
        prepared(plan, whole)
        rng = random.Random(0)
        finished: dict[str, int] = {}
        with never_finished(many):
            for _ in range(4):
                process = in_child(prepare_alone, plan, out)
                wait_for_more(out, len(finished))
                process.join(rng.uniform(0, 0.2))
                process.kill()
                process.join()
                assert process.exitcode == -signal.SIGKILL
                for output, modified_ns in finished.items():  # never done again
                    assert (out / output).stat().st_mtime_ns == modified_ns
                for path in out.glob("*.mp4"):  # never half
                    assert path.read_bytes() == (whole / path.name).read_bytes()
                    finished[path.name] = path.stat().st_mtime_ns
        assert 4 <= len(finished) < 12
        assert prepared(plan_list(str(many), None), out).num_new == 12 - len(finished)
        assert tree(out) == tree(whole)

    def test_killed_with_its_workers_it_ends_with_the_same_bytes(self, many: Path, tmp_path: Path) -> None:
        whole, out = tmp_path / "whole", tmp_path / "out"
        plan = plan_list(str(many), None)
        prepared(plan, whole)
        with never_finished(many):
            process = in_child(prepare_with_workers, plan, out)
            wait_for_more(out, 0)
            process.kill()
            process.join()
        assert process.exitcode == -signal.SIGKILL
        first = {path.name for path in out.glob("*.mp4")}
        assert first and not (out / "prepared.json").exists()
        again = prepared(plan_list(str(many), None), out)
        assert again.num_new == 12 - len(first)
        assert tree(out) == tree(whole)

    def test_finished_file_is_entered_while_others_take_long(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with Journal(out, HEADER) as journal:
            names = ["first", "second", "third"]
            for name in names:
                journal.add(*finished(journal, name))
            deadline = time.monotonic() + 100
            while time.monotonic() < deadline and not (out / "third").exists():
                time.sleep(0.01)
            assert [(out / name).read_text() for name in names] == names
            assert list(entries(out)) == names

    def test_many_small_files_are_entered_together(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("omnisource.prepare.journal.COMMIT_SECONDS", 3600.0)
        out = tmp_path / "out"
        with Journal(out, HEADER) as journal:
            for name in ("first", "second", "third"):
                journal.add(*finished(journal, name))
            assert [path.name for path in out.iterdir() if path.name[0] in "fst"] == ["first"]
        assert list(entries(out)) == ["first", "second", "third"]

    def test_finished_files_are_not_done_again(self, originals: Path, tmp_path: Path) -> None:
        plan, out = plan_folder(str(originals)), tmp_path / "out"
        prepared(plan, out)
        before = {path: (content, (out / path).stat().st_mtime_ns) for path, content in tree(out).items()}
        again = prepared(plan, out)
        assert (again.num_new, len(again.entries)) == (0, 5)
        assert tree(out) == {path: content for path, (content, _) in before.items()}
        for path, (_, modified_ns) in before.items():
            assert path in OURS or (out / path).stat().st_mtime_ns == modified_ns

    @pytest.mark.parametrize("loss", ["the end of a line", "several lines", "zeros after it"])
    def test_torn_journal_costs_only_what_it_lost(self, originals: Path, tmp_path: Path, loss: str) -> None:
        plan, out = plan_folder(str(originals)), tmp_path / "out"
        prepared(plan, out)
        whole = tree(out)
        journal = out / "prepared.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        # What a line describes got its name after the line was on the disk: a torn line has no file.
        if loss == "the end of a line":
            journal.write_bytes(b"".join(lines)[:-30])
            lost = [lines[-1]]
        elif loss == "several lines":
            journal.write_bytes(b"".join(lines[:3]))
            lost = lines[3:]
        else:
            journal.write_bytes(b"".join(lines) + bytes(100))
            lost = []
        for line in lost:
            (out / json.loads(line)["output"]).unlink()
        assert prepared(plan, out).num_new == len(lost)
        assert tree(out) == whole

    def test_folder_of_an_earlier_omnisource_is_gone_on_with(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        entry = Entry("first.mp4", 5, "ab", 3, 8, 8, "/data/first.avi", 7, 9)
        first = json.dumps({"format": "omnisource prepared data", "version": 1, **dataclasses.asdict(HEADER)})
        line = (
            '{"output": "first.mp4", "size": 5, "sha256": "ab", "num_frames": 3, "width": 8, "height": 8, '
            '"original": "/data/first.avi", "original_size": 7, "original_modified_ns": 9}'
        )
        (out / "prepared.jsonl").write_text(f'{first}\n{line}\n{{"output": "sec')
        with Journal(out, HEADER) as journal:
            assert journal.entries == {"first.mp4": entry}
        assert (out / "prepared.jsonl").read_text() == f"{first}\n{line}\n"

    def test_leftovers_of_a_killed_process_go(self, originals: Path, tmp_path: Path) -> None:
        plan, out = plan_folder(str(originals)), tmp_path / "out"
        prepared(plan, out)
        (out / ".partial-left").mkdir()
        (out / ".partial-left/0").write_bytes(b"half")
        prepared(plan, out)
        assert not list(out.glob(".partial-*"))

    def test_changed_original_is_prepared_again(self, originals: Path, tmp_path: Path) -> None:
        plan, out = plan_folder(str(originals)), tmp_path / "out"
        prepared(plan, out)
        write_video(originals / "first.mp4", numbered_frames(6, 40, 48, first=300))
        assert prepared(plan, out).num_new == 1
        assert numbers_in(out / "first.mp4") == list(range(300, 306))
        assert entries(out)["first.mp4"]["num_frames"] == 6

    def test_prepared_file_of_an_original_that_was_damaged_since_goes(self, originals: Path, tmp_path: Path) -> None:
        plan, out = plan_folder(str(originals)), tmp_path / "out"
        prepared(plan, out)
        truncate(originals / "first.mp4", 0.3)
        assert len(prepared(plan, out).failures) == 1
        assert not (out / "first.mp4").exists() and "first.mp4" not in entries(out)

    def test_prepared_file_of_an_original_that_is_gone_is_named_and_stays(
        self, originals: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        prepared(plan_folder(str(originals)), out)
        (originals / "first.mp4").unlink()
        again = prepared(plan_folder(str(originals)), out)
        assert again.orphans == ["first.mp4"] and "first.mp4" in str(again)
        assert (out / "first.mp4").exists()


@contextmanager
def never_finished(many: Path) -> Iterator[None]:
    """Puts a pipe that nobody writes to in the place of one of `many`: a process that opens it waits for ever.

    A list that is read meanwhile does not find it.
    """
    original, kept = many.parent / "11.avi", many.parent / "kept"
    original.rename(kept)
    os.mkfifo(original)
    try:
        yield
    finally:
        kept.replace(original)


def in_child(work: Callable[[Any, Path], None], what: Path | SourcePlan, out: Path) -> BaseProcess:
    """Starts a process that has nothing of FFmpeg in it from this one."""
    process = multiprocessing.get_context("forkserver").Process(target=work, args=(what, out))
    process.start()
    return process


def prepare_alone(plan: SourcePlan, out: Path) -> None:
    prepared(plan, out)


def prepare_with_workers(plan: SourcePlan, out: Path) -> None:
    prepare(plan, out, SMALL, num_workers=2)


def prepare_with_room_for_small_files(list_path: Path, out: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    try:
        prepared(plan_list(str(list_path), None), out)
    except OSError as error:
        os._exit(error.errno or 1)


def wait_for_more(out: Path, count: int) -> None:
    """Waits until more than `count` of `many` are prepared, or all that can be with one that is never finished."""
    deadline = time.monotonic() + 100
    while len(list(out.glob("*.mp4"))) <= min(count, 10):
        assert time.monotonic() < deadline
        time.sleep(0.005)


class TestRefusals:
    def test_other_settings_are_refused_with_both(self, originals: Path, tmp_path: Path) -> None:
        plan, out = plan_folder(str(originals)), tmp_path / "out"
        prepared(plan, out)
        before = tree(out)
        with pytest.raises(UserError, match=r"short_side: 32 before, 48 now\n.*remove"):
            prepared(plan, out, Settings(short_side=48))
        assert tree(out) == before

    def test_other_source_is_refused(self, originals: Path, tmp_path: Path) -> None:
        prepared(plan_folder(str(originals)), tmp_path / "out")
        with pytest.raises(UserError, match=r"source: .*originals before, .*deep now"):
            prepared(plan_folder(str(originals / "deep")), tmp_path / "out")

    @pytest.mark.parametrize("place", ["", "inside", "..", "link"])
    def test_output_among_the_originals_is_refused(self, originals: Path, tmp_path: Path, place: str) -> None:
        (tmp_path / "link").symlink_to(originals)
        out = tmp_path / "link/inside" if place == "link" else originals / place
        with pytest.raises(UserError, match="folder of the originals"):
            prepared(plan_folder(str(originals)), out)
        assert not (originals / "inside").exists()

    def test_folder_with_something_else_in_it_is_refused(self, originals: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "thesis.tex").touch()
        with pytest.raises(UserError, match="holds something else"):
            prepared(plan_folder(str(originals)), out)
        assert [path.name for path in out.iterdir()] == ["thesis.tex"]

    def test_file_that_was_put_there_is_not_overwritten(self, originals: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        prepared(plan_folder(str(originals)), out)
        write_video(originals / "new.mp4", numbered_frames(5, 40, 48))
        (out / "new.mp4").write_bytes(b"mine")
        with pytest.raises(UserError, match=r"new\.mp4: not written by this command"):
            prepared(plan_folder(str(originals)), out)
        assert (out / "new.mp4").read_bytes() == b"mine"

    def test_list_that_was_changed_by_hand_is_not_overwritten(self, originals: Path, tmp_path: Path) -> None:
        list_path, out = originals / "list.txt", tmp_path / "out"
        list_path.write_text("first.mp4 0\nlarge.JPG 1\n")
        prepared(plan_list(str(list_path), None), out)
        (out / "list.txt").write_text("first.mp4 7\n")
        with pytest.raises(UserError, match=r"list\.txt: was not written here, or was changed since"):
            prepared(plan_list(str(list_path), None), out)
        assert (out / "list.txt").read_text() == "first.mp4 7\n"

    def test_list_of_ours_is_replaced_when_the_original_changes(self, originals: Path, tmp_path: Path) -> None:
        list_path, out = originals / "list.txt", tmp_path / "out"
        list_path.write_text("first.mp4 0\nlarge.JPG 1\n")
        prepared(plan_list(str(list_path), None), out)
        list_path.write_text("first.mp4 0\n")
        prepared(plan_list(str(list_path), None), out)
        assert (out / "list.txt").read_text() == "first.mp4 0\n"

    def test_two_processes_do_not_prepare_one_folder(
        self, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lock, "DYING_SECONDS", 0.0)
        refused = rf"another process is preparing it \(process {os.getpid()}\)"
        with Journal(tmp_path / "out", HEADER), pytest.raises(UserError, match=refused):
            prepared(plan_folder(str(originals)), tmp_path / "out")

    def test_shards_of_a_source_are_refused(self, in_data: Path) -> None:
        recipe = load_recipe(CONFIG, tiny_overrides())
        source = recipe.sources["kinetics400"]
        changed = replace(
            recipe, sources={**recipe.sources, "kinetics400": replace(source, train=TarShards(("a.tar",)))}
        )
        with pytest.raises(UserError, match=r"sources\.kinetics400\.train: its items lie in shards"):
            plan_source(changed, "kinetics400", CONFIG)


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nowhere", "out"], "nowhere: is neither a folder, nor a list, nor a source of a config"),
            ([CONFIG, "out"], "name a source of this config, as"),
            ([f"{CONFIG}:ucf101", "out"], "no source 'ucf101'; its sources are kinetics400, imagenet"),
            (["my_data", "out", "num_epochs=3"], "num_epochs=3: only a source of a config"),
            (["my_data", "out", "--folder", "x"], "--folder x: is for lists"),
            (["my_data", "out", "--short-side", "255"], "255: wants an even number"),
            (["my_data", "out", "--keyframe-interval", "0"], "wants a whole number of at least 1"),
            (["my_data", "out", "--shard-size", "lots"], "lots: wants a number of MB or GB"),
            (["my_data", "out", "--shard-size", "1GB"], "shards hold labels, and a folder has none"),
            (["bad.txt", "out"], "bad.txt:1: missing file"),
        ],
    )
    def test_mistakes_are_told(
        self, in_data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        Path("bad.txt").write_text("none.mp4 0\n")
        try:
            code = main(["prepare", *arguments])
        except SystemExit as end:  # argparse's way
            code = end.code
        error = capsys.readouterr().err
        assert code == 2 and message in error and "Traceback" not in error
        assert not Path("out").exists()

    def test_source_of_a_config_with_overrides(self, in_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.move("data/imagenet", "moved")
        arguments = ["prepare", f"{CONFIG}:imagenet", "out", "sources.imagenet.root=moved", "--short-side", "32"]
        assert main([*arguments, "--workers", "1"]) == 0
        output = capsys.readouterr().out
        assert "15 files, 0 of them from before" in output
        assert "meta/train.txt: 15 items" in output
        assert "train on them with sources.imagenet.root=OUT" in output

    def test_list_with_a_folder(self, in_data: Path) -> None:
        kinetics = Path("data/kinetics400")
        arguments = ["prepare", str(kinetics / "kinetics400_val_list_videos.txt"), "out", "--short-side", "32"]
        assert main([*arguments, "--folder", str(kinetics / "videos_val"), "--workers", "1"]) == 0
        before, after = (
            read_items(str(folder), Split(list=str(Path(place).resolve())), "video", None, None, "x")
            for folder, place in (
                (kinetics / "videos_val", kinetics / "kinetics400_val_list_videos.txt"),
                ("out", "out/kinetics400_val_list_videos.txt"),
            )
        )
        assert rows(before) == rows(after) and len(after) == 6


def test_shards_hold_the_prepared_items(in_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan = plan_source(load_recipe(CONFIG, tiny_overrides()), "kinetics400", CONFIG)
    preparation = prepared(plan, out, shard_bytes=20_000)
    assert len(preparation.shards) > 2
    for split_name, split in (
        ("train", "kinetics400_train_list_videos.txt"),
        ("validation", "kinetics400_val_list_videos.txt"),
    ):
        urls = tuple(str(path) for path in preparation.shards if path.name.startswith(split_name))
        shards = read_items(str(out), TarShards(urls), "video", None, 3, "x")
        folder = {"train": "videos_train", "validation": "videos_val"}[split_name]
        files = read_items(str(out), Split(folder=folder, list=split), "video", None, 3, "x")
        assert rows(shards) == rows(files) and len(files) in (12, 6)
    again = prepared(plan, out, shard_bytes=20_000)
    assert again.shards == preparation.shards and again.num_new == 0
