"""Packing files into tar shards."""

from __future__ import annotations

import json
import os
import re
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from omnisource.data.shards.index import INDEX_SUFFIX, parse_index, scan_file
from omnisource.data.shards.write import ShardFile, write_shards
from omnisource.errors import UserError

KEYS = ("a/b.c.mp4", "a/b c.mp4", "x/a/b.c.mp4", "ü/日本.webm", "._.jpg", f"{'long' * 40}.JPEG", "b.c.mp4")


def media_files(folder: Path, keys: Sequence[str] = KEYS, size: int = 1000) -> list[ShardFile]:
    """Makes files of different sizes; their content is no media, which packing does not look at."""
    files = []
    for number, key in enumerate(keys):
        path = folder / f"file{number}{Path(key).suffix}"
        path.write_bytes(bytes([number]) * (size + number))
        files.append(ShardFile(path, key, number % 3))
    return files


def members(path: Path) -> list[tuple[str, bytes]]:
    """Returns (name, content) of each file in a shard."""
    found = []
    with tarfile.open(path) as archive:
        for info in archive:
            content = archive.extractfile(info)
            assert content is not None
            found.append((info.name, content.read()))
    return found


def test_sample_is_three_members_that_share_their_name_up_to_the_first_dot(tmp_path: Path) -> None:
    files = media_files(tmp_path)
    (path,) = write_shards(files, tmp_path / "out", "train", 10**6)
    assert path == tmp_path / "out/train-000000.tar"
    found = members(path)
    names = set()
    for file, triple in zip(files, zip(*[iter(found)] * 3, strict=True), strict=True):
        # The rule by which webdataset splits a member's name.
        splits = [re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", name) for name, _ in triple]
        (name,) = {split[1] for split in splits if split}
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
        names.add(name)
        assert [split[2] for split in splits if split] == [Path(file.key).suffix[1:].lower(), "cls", "json"]
        assert triple[0][1] == file.path.read_bytes()
        assert triple[1][1] == str(file.label).encode()
        assert json.loads(triple[2][1]) == {"key": file.key, "label": file.label}
    assert len(names) == len(files)


def test_equal_files_make_equal_shards_whenever_and_wherever(tmp_path: Path) -> None:
    first = write_shards(media_files(tmp_path), tmp_path / "one", "train", 4000)
    time.sleep(0.01)
    (tmp_path / "elsewhere").mkdir()
    second = write_shards(media_files(tmp_path / "elsewhere"), tmp_path / "two", "train", 4000)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    with tarfile.open(first[0]) as archive:
        assert {(info.mtime, info.uid, info.uname, info.mode) for info in archive} == {(0, 0, "", 0o644)}


def test_shard_is_full_before_it_is_larger_than_wanted_and_has_at_least_one_sample(tmp_path: Path) -> None:
    keys = [f"{number}.mp4" for number in range(7)]
    files = media_files(tmp_path, keys, size=3 * 512 - 8)
    sample_bytes = 4 * 512 + 2 * 1024  # with headers, each rounded up to blocks
    paths = write_shards(files, tmp_path / "two", "train", 2 * sample_bytes)
    assert [path.name for path in paths] == [f"train-{number:06d}.tar" for number in range(4)]
    assert [len(members(path)) // 3 for path in paths] == [2, 2, 2, 1]
    assert len(write_shards(files, tmp_path / "one", "train", 1)) == 7
    assert len(write_shards(files, tmp_path / "all", "train", 7 * sample_bytes)) == 1
    assert write_shards([], tmp_path / "none", "train", 1) == []


def test_index_lies_beside_each_shard_and_is_what_a_scan_finds(tmp_path: Path) -> None:
    for path in write_shards(media_files(tmp_path), tmp_path / "out", "train", 4000):
        index = parse_index(path.with_name(path.name + INDEX_SUFFIX).read_bytes())
        assert index == scan_file(path)
        content = path.read_bytes()
        found = [
            (f"{sample.name}.{member.suffix}", content[member.offset : member.offset + member.size])
            for sample in index.samples
            for member in sample.members
        ]
        assert found == members(path)


def test_packing_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    files = media_files(tmp_path)
    folder = tmp_path / "out"
    paths = write_shards(files, folder, "train", 4000)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    paths[-1].rename(folder / f"{paths[-1].name}.0123456789abcdef.tmp")  # half of it, for all that anybody knows
    os.remove(folder / f"{paths[-1].name}{INDEX_SUFFIX}")
    (folder / f"{paths[0].name}{INDEX_SUFFIX}.0123456789abcdef.tmp").touch()
    foreign = [folder / "train-x-000000.tar.0123456789abcdef.tmp", folder / "train-000000.tar.mine.tmp"]
    for path in foreign:
        path.touch()
    os.remove(folder / f"{paths[0].name}{INDEX_SUFFIX}")
    before = paths[0].stat()
    assert write_shards(files, folder, "train", 4000) == paths
    assert paths[0].stat().st_mtime_ns == before.st_mtime_ns
    assert paths[0].stat().st_ino == before.st_ino
    now = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in paths:
        assert now[path.name] == whole[path.name]
    assert now.keys() == whole.keys() | {path.name for path in foreign}


@pytest.mark.parametrize("change", ["another file", "another label", "another key", "fewer", "newer", "foreign"])
def test_shard_of_another_content_is_never_overwritten(tmp_path: Path, change: str) -> None:
    files = media_files(tmp_path)
    (path,) = write_shards(files, tmp_path / "out", "train", 10**6)
    before = path.read_bytes()
    if change == "another file":
        files[2].path.write_bytes(b"longer" * 1000)
    elif change == "another label":
        files[2] = ShardFile(files[2].path, files[2].key, 9)
    elif change == "another key":
        files[2] = ShardFile(files[2].path, "other.mp4", files[2].label)
    elif change == "fewer":
        files.pop()
    elif change == "newer":  # of the same size, but its bytes may be others
        later = path.stat().st_mtime + 1
        os.utime(files[2].path, (later, later))
    else:
        path.write_bytes(b"somebody's")
        before = b"somebody's"
    with pytest.raises(UserError, match=r"train-000000\.tar: "):
        write_shards(files, tmp_path / "out", "train", 10**6)
    assert path.read_bytes() == before


def test_surplus_shard_of_an_earlier_packing_is_reported(tmp_path: Path) -> None:
    files = media_files(tmp_path)
    paths = write_shards(files, tmp_path / "out", "train", 1)
    with pytest.raises(UserError, match=r"train-000006\.tar: does not belong to the 6 shards before it"):
        write_shards(files[:-1], tmp_path / "out", "train", 1)
    assert paths[-1].exists()


def test_foreign_file_in_the_place_of_an_index_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    foreign = tmp_path / f"out/train-000000.tar{INDEX_SUFFIX}"
    foreign.write_text("mine")
    with pytest.raises(UserError, match="is there already, and is no index of a shard"):
        write_shards(media_files(tmp_path), tmp_path / "out", "train", 10**6)
    assert foreign.read_text() == "mine"


def test_files_that_cannot_be_packed_are_reported(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"notes\.txt: its suffix is none of media"):
        write_shards([ShardFile(tmp_path / "notes.txt", "notes", 0)], tmp_path / "out", "train", 1)
    with pytest.raises(UserError, match=r"gone\.mp4: cannot be packed: No such file"):
        write_shards([ShardFile(tmp_path / "gone.mp4", "gone", 0)], tmp_path / "out", "train", 1)
    assert list((tmp_path / "out").iterdir()) == []


def test_folder_that_cannot_be_written_to_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/out: cannot be written to: Not a directory"):
        write_shards(media_files(tmp_path), tmp_path / "file/out", "train", 1)
