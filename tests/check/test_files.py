"""By what files are recognized from one check to the next."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from omnisource.check.examine import FileReport
from omnisource.check.files import FileTable, StateReader
from omnisource.check.splits import CheckedSplit
from omnisource.data.lists.items import ByteRanges, Items, PackedStrings
from omnisource.data.loading.request import SampleRequest
from omnisource.files.byte_ranges import ByteRange, FileVersion, local_version
from omnisource.recipe.data import Source, Split, SplitName
from omnisource.types import Media

FOUND = FileReport("", 7, None, 30, 20, "0123456789abcdef" * 2, ("ab" * 32,), (False,))


def split_of(
    folder: Path, keys: list[str], name: SplitName = "train", media: Media = "image", **items: object
) -> CheckedSplit:
    source = Source(media, "things", str(folder), Split(list="t"), Split(list="v"), batch_size=1)
    of_split = Items(str(folder), PackedStrings(keys), np.zeros(len(keys), dtype=np.int32), **items)  # pyright: ignore
    return CheckedSplit("things", source, name, ("thing",), of_split, None, ())


def table(*splits: CheckedSplit) -> FileTable:
    return FileTable(splits, advance=lambda: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    return tmp_path


def request_of(split: CheckedSplit, index: int = 0) -> SampleRequest:
    return split.request(index)


def test_every_file_is_there_once_and_read_in_the_order_of_the_lists(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "b")
    (folder / "elsewhere").symlink_to(folder, target_is_directory=True)
    train = split_of(folder, ["c", "a", "link", "c"])
    validation = split_of(folder, ["elsewhere/a", "b"], "validation")
    files = table(train, validation)
    assert [files.request(number).key for number in files.unread()] == ["c", "a", "link"]
    c, a, b = files.unread().tolist()
    assert [numbers.tolist() for numbers in files.of_items] == [[c, a, b, c], [a, b]]
    assert files.first_items_where(True)[[c, a, b]].tolist() == [0, 1, 2]
    assert files.first_items_where(False)[[c, a, b]].tolist() == [-1, 4, 5]
    assert files.item(4)[0] is validation and files.item(4)[1] == 0


def test_what_was_read_is_unread_no_more(folder: Path) -> None:
    files = table(split_of(folder, ["a", "b", "c"]))
    first, second, third = files.unread().tolist()
    files.take(second, FOUND, is_taken_over=True)
    files.take(third, FileReport(fault="damaged"))
    assert files.unread().tolist() == [first]
    assert files.is_taken_over[[first, second, third]].tolist() == [False, True, False]
    assert files.is_readable()[[first, second, third]].tolist() == [False, True, False]
    assert files.faults == {third: "damaged"}
    assert (files.num_frames[second], files.declared_frames[second]) == (7, -1)
    assert (files.widths[second], files.heights[second]) == (30, 20)
    assert files.digests[second] == 0x0123456789ABCDEF
    assert files.hashes[second].tobytes() == b"\xab" * 32 and files.is_comparable()[second]


def test_unchanged_file_is_found_again_and_a_changed_one_is_not(folder: Path) -> None:
    split = split_of(folder, ["a", "b"])
    before = StateReader().state(request_of(split))
    number = table(split).find(before)
    assert number is not None and table(split).request(number).key == "a"
    os.utime(folder / "a", ns=(0, before.modified_ns + 1))
    assert table(split).find(before) is None
    (folder / "a").write_text("other")
    os.utime(folder / "a", ns=(0, before.modified_ns))
    assert table(split).find(before) is None, "its size is another"
    assert table(split_of(folder, ["b"])).find(before) is None, "no list has it"


def test_file_read_as_something_else_is_not_found(folder: Path) -> None:
    state = StateReader().state(request_of(split_of(folder, ["a"])))
    assert table(split_of(folder, ["a"], media="video")).find(state) is None


def test_changed_frame_changes_its_folder(folder: Path) -> None:
    raw = folder / "raw"
    raw.mkdir()
    for number in range(3):
        (raw / f"img_{number:05d}.jpg").write_text("frame")
    split = split_of(folder, ["raw"], media="video", num_frames=np.array([3], dtype=np.int32))
    reader = StateReader()
    before = reader.state(request_of(split))
    assert before.size == 15 and "3 frames img_" in before.read_as
    assert reader.state(request_of(split)) == before
    (raw / "img_00001.jpg").write_text("fr")
    changed = reader.state(request_of(split))
    assert changed.size == 12 and changed.identity() == before.identity() and changed.version() != before.version()
    longer = split_of(folder, ["raw"], media="video", num_frames=np.array([4], dtype=np.int32))
    assert reader.state(request_of(longer)).identity() != changed.identity()


def test_missing_file_has_a_state_too(folder: Path) -> None:
    state = StateReader().state(request_of(split_of(folder, ["none"])))
    assert (state.size, state.modified_ns) == (-1, 0)


def test_parts_of_shards_are_told_apart_by_place_and_size_and_change_with_their_shard(folder: Path) -> None:
    places = np.zeros(3, dtype=np.int32), np.array([0, 0, 512]), np.array([10, 10, 20])
    byte_ranges = ByteRanges((str(folder / "a"),), (local_version((folder / "a").stat()),), *places)
    split = split_of(folder, ["x", "y", "z"], byte_ranges=byte_ranges, paths=PackedStrings(["x.jpg", "y.jpg", "z.jpg"]))
    files = table(split)
    assert len(files) == 2
    state = StateReader().state(request_of(split, 2))
    assert (state.path, state.offset, state.size) == (os.path.realpath(folder / "a"), 512, 20)
    assert files.find(state) is not None
    os.utime(folder / "a", ns=(0, 1))
    assert table(split).find(state) is None
    remote = dataclasses.replace(
        request_of(split), byte_range=ByteRange("https://example.org/a.tar", 512, 20, FileVersion(9, ""))
    )
    state = StateReader().state(remote)
    assert (state.path, state.offset, state.size) == ("https://example.org/a.tar", 512, 20)
    assert StateReader().state(remote) != state  # the server tells no version: another check reads it again

    def version_of(version: str) -> int:
        part = ByteRange("https://example.org/a.tar", 512, 20, FileVersion(9, version))
        return StateReader().state(dataclasses.replace(remote, byte_range=part)).version()

    assert version_of('"etag 1"') == version_of('"etag 1"') != version_of('"etag 2"')
