"""Counts, checksums, lists and shards beside the prepared files."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from omnisource.cli.arguments import load_recipe
from omnisource.data.datasets import read_items
from omnisource.errors import UserError
from omnisource.prepare.jobs import job_from_folder, job_from_list, job_from_source
from omnisource.prepare.journal import Entry
from omnisource.prepare.results import with_missing_frames
from omnisource.recipe.data import Split, TarShards
from tests.support.miniature import tiny_overrides
from tests.support.preparing import CONFIG, entries, prepared, rows


def test_counts_and_checksums_are_those_of_the_files(originals: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared(job_from_folder(str(originals)), out)
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


def test_sha256sum_finds_every_file_that_is_not_what_was_written(originals: Path, tmp_path: Path) -> None:
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("sha256sum is not there")
    shutil.copy(originals / "first.mp4", originals / "back\\slash\nand line.mp4")
    out = tmp_path / "out"
    prepared(job_from_folder(str(originals)), out)

    def verified() -> tuple[int, str]:
        command = [program, "--check", "--quiet", "checksums.sha256"]
        found = subprocess.run(command, cwd=out, capture_output=True, text=True)
        return found.returncode, found.stdout

    assert verified() == (0, "")
    image = bytearray((out / "large.JPG").read_bytes())
    image[-3] ^= 1
    (out / "large.JPG").write_bytes(image)
    (out / "first.mp4").unlink()
    assert verified() == (1, "first.mp4: FAILED open or read\nlarge.JPG: FAILED\n")


def test_what_lacks_the_largest_share_comes_first() -> None:
    def entry(name: str, num_frames: int, declared_frames: int | None) -> Entry:
        return Entry(f"{name}.mp4", 1, "", num_frames, 2, 2, name, 1, 1, declared_frames)

    found = [entry("a", 118, 120), entry("b", 10, None), entry("c", 9, 9), entry("d", 5, 9), entry("e", 10, 9)]
    assert [one.original for one in with_missing_frames(found)] == ["d", "a"]


def test_shards_hold_the_prepared_items(in_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = job_from_source(load_recipe(CONFIG, tiny_overrides()), "kinetics400", CONFIG)
    preparation = prepared(job, out, shard_bytes=20_000)
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
    again = prepared(job, out, shard_bytes=20_000)
    assert again.shards == preparation.shards and again.num_new == 0


def test_list_that_was_changed_by_hand_is_not_overwritten(originals: Path, tmp_path: Path) -> None:
    list_path, out = originals / "list.txt", tmp_path / "out"
    list_path.write_text("first.mp4 0\nlarge.JPG 1\n")
    prepared(job_from_list(str(list_path), None), out)
    (out / "list.txt").write_text("first.mp4 7\n")
    with pytest.raises(UserError, match=r"list\.txt: was not written here, or was changed since"):
        prepared(job_from_list(str(list_path), None), out)
    assert (out / "list.txt").read_text() == "first.mp4 7\n"


def test_list_of_ours_is_replaced_when_the_original_changes(originals: Path, tmp_path: Path) -> None:
    list_path, out = originals / "list.txt", tmp_path / "out"
    list_path.write_text("first.mp4 0\nlarge.JPG 1\n")
    prepared(job_from_list(str(list_path), None), out)
    list_path.write_text("first.mp4 0\n")
    prepared(job_from_list(str(list_path), None), out)
    assert (out / "list.txt").read_text() == "first.mp4 0\n"
