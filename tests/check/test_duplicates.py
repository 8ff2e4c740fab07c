"""Which files count as the same, against a comparison of every pair by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from omnisource.check import duplicates
from omnisource.check.duplicates import (
    SAME_CHANGE_BITS,
    SAME_FRAME_BITS,
    SAME_PICTURE_BITS,
    TrainTestDuplicate,
    find_groups,
    find_leaks,
)
from omnisource.check.examine import FileReport
from omnisource.check.files import FileTable
from omnisource.check.splits import CheckedSplit
from omnisource.data.hashing.picture_hash import HASH_BYTES
from omnisource.data.lists.items import Items, PackedStrings
from omnisource.recipe.data import Source, Split, SplitName
from omnisource.types import Media


def table(trained: Sequence[str], held_out: Sequence[str], media: Media = "image") -> FileTable:
    """Returns a table of files that do not exist, by their names."""
    source = Source(media, "things", "/nowhere", train=Split(list="train.txt"), batch_size=1)
    sides: list[tuple[SplitName, Sequence[str]]] = [("train", trained), ("validation", held_out)]
    splits = []
    for name, keys in sides:
        items = Items("/nowhere", PackedStrings(keys), np.zeros(len(keys), dtype=np.int32))
        described = source if name == "train" else Source(media, "things", "/nowhere", Split(list="t"), Split(list="v"))
        splits.append(CheckedSplit("things", described, name, ("thing",), items, None, ()))
    return FileTable(splits, advance=lambda: None)


def number_of(files: FileTable, key: str) -> int:
    return next(number for number in range(len(files)) if files.request(number).key == key)


def name_of(files: FileTable, number: int) -> str:
    return files.request(number).key


def take(files: FileTable, key: str, digest: int, *hashes: bytes | None) -> None:
    """Makes known what reading a file found; None stands for a plain frame or change."""
    bits = tuple((one or bytes(HASH_BYTES)).hex() for one in hashes)
    is_plain = tuple(one is None for one in hashes)
    files.take(number_of(files, key), FileReport("", 1, None, 8, 8, f"{digest:016x}" + "0" * 16, bits, is_plain))


def random_hash(rng: np.random.Generator) -> bytes:
    return rng.integers(0, 256, HASH_BYTES, dtype=np.uint8).tobytes()


def flipped(picture: bytes, bits: int, rng: np.random.Generator) -> bytes:
    values = np.unpackbits(np.frombuffer(picture, dtype=np.uint8))
    values[rng.choice(len(values), bits, replace=False)] ^= 1
    return np.packbits(values).tobytes()


def leaks_of(files: FileTable) -> dict[str, tuple[str, int | None]]:
    is_trained, is_held_out = files.first_items_where(True) >= 0, files.first_items_where(False) >= 0
    found = find_leaks(files, is_trained, is_held_out, lambda done, total: None)
    assert all(isinstance(leak, TrainTestDuplicate) for leak in found)
    return {name_of(files, leak.held_out): (name_of(files, leak.trained), leak.differing_bits) for leak in found}


def groups_of(files: FileTable) -> list[list[str]]:
    groups = find_groups(files, files.first_items_where(True) >= 0, lambda done, total: None)
    return [[name_of(files, number) for number in group] for group in groups]


def test_same_file_same_bytes_and_same_picture_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    one, two, three = (random_hash(rng) for _ in range(3))
    files = table(["a", "b", "c", "both"], ["both", "copy of a", "like b", "unlike c"])
    take(files, "a", 1, one)
    take(files, "b", 2, two)
    take(files, "c", 3, three)
    take(files, "both", 4, random_hash(rng))
    take(files, "copy of a", 1, one)
    take(files, "like b", 5, flipped(two, SAME_PICTURE_BITS, rng))
    take(files, "unlike c", 6, flipped(three, SAME_PICTURE_BITS + 1, rng))
    expected = {"both": ("both", None), "copy of a": ("a", None), "like b": ("b", SAME_PICTURE_BITS)}
    assert leaks_of(files) == expected
    assert list(leaks_of(files)) == ["both", "copy of a", "like b"]


def test_most_similar_training_file_is_named() -> None:
    rng = np.random.default_rng(1)
    picture = random_hash(rng)
    names = [f"t{number}" for number in range(20)]
    files = table(names, ["v"])
    for number, name in enumerate(names):
        take(files, name, 10 + number, flipped(picture, 25 - number, rng))
    take(files, "v", 99, picture)
    assert leaks_of(files) == {"v": ("t19", 6)}


def test_plain_pictures_are_the_same_by_their_bytes_only() -> None:
    files = table(["a", "b"], ["c", "d"])
    take(files, "a", 1, None)
    take(files, "b", 2, None)
    take(files, "c", 2, None)
    take(files, "d", 3, None)
    assert leaks_of(files) == {"c": ("b", None)}


def test_unreadable_files_are_the_same_as_nothing() -> None:
    files = table(["a"], ["b"])
    for name in "ab":
        files.take(number_of(files, name), FileReport(fault="damaged"))
    assert leaks_of(files) == {} and groups_of(files) == []


def test_all_pictures_of_a_still_video_must_be_the_same_and_two_of_them_not_plain() -> None:
    rng = np.random.default_rng(2)
    still = (None, None)
    one, two, three, four = (random_hash(rng) for _ in range(4))
    close = [flipped(picture, 10, rng) for picture in (one, two, three)]
    held_out = ["copy", "other end", "plain copy", "title copy", "not plain", "further"]
    files = table(["whole", "begins plain", "title"], held_out, "video")
    take(files, "whole", 1, one, two, three, *still)
    take(files, "begins plain", 2, None, two, four, *still)
    take(files, "title", 3, one, None, None, *still)
    take(files, "copy", 4, *close, *still)
    take(files, "other end", 5, close[0], close[1], random_hash(rng), *still)
    take(files, "plain copy", 6, None, close[1], flipped(four, 30, rng), *still)
    take(files, "title copy", 7, close[0], None, None, *still)
    take(files, "not plain", 8, random_hash(rng), close[1], four, *still)
    take(files, "further", 9, one, two, flipped(three, SAME_PICTURE_BITS + 1, rng), *still)
    assert leaks_of(files) == {"copy": ("whole", 10), "plain copy": ("begins plain", 30)}


def test_where_something_moves_the_changes_must_be_the_same_too() -> None:
    rng = np.random.default_rng(6)
    one, two, three, first, second = (random_hash(rng) for _ in range(5))
    names = ["copy", "limit", "too far", "other change", "one still", "both second still"]
    files = table(["whole", "ends still"], names, "video")
    take(files, "whole", 1, one, two, three, first, second)
    take(files, "ends still", 2, three, two, one, first, None)
    close = [flipped(picture, SAME_FRAME_BITS, rng) for picture in (one, two, three)]
    take(files, "copy", 3, *close, first, second)
    take(files, "limit", 4, one, two, three, *(flipped(change, SAME_CHANGE_BITS, rng) for change in (first, second)))
    take(files, "too far", 5, one, two, three, first, flipped(second, SAME_CHANGE_BITS + 1, rng))
    take(files, "other change", 6, one, two, three, random_hash(rng), random_hash(rng))
    take(files, "one still", 7, one, two, three, first, None)
    take(files, "both second still", 8, three, two, one, flipped(first, 20, rng), None)
    assert leaks_of(files) == {
        "copy": ("whole", SAME_FRAME_BITS),
        "limit": ("whole", 0),
        "both second still": ("ends still", 0),
    }


def test_image_is_the_same_as_a_video_that_shows_nothing_else() -> None:
    rng = np.random.default_rng(7)
    picture = random_hash(rng)
    files = table(["picture", "moving"], ["still"], "video")
    take(files, "picture", 1, picture)
    take(files, "moving", 2, picture, picture, picture, random_hash(rng), random_hash(rng))
    take(files, "still", 3, *(flipped(picture, bits, rng) for bits in (3, 9, 6)), None, None)
    assert leaks_of(files) == {"still": ("picture", 9)}


def test_chains_of_similar_training_files_are_one_group() -> None:
    rng = np.random.default_rng(3)
    first = random_hash(rng)
    second = flipped(first, 30, rng)
    third = flipped(second, 30, rng)
    assert sum((a ^ b).bit_count() for a, b in zip(first, third, strict=True)) > SAME_PICTURE_BITS
    files = table(["c", "x", "b", "a", "y", "copy of x"], [])
    for name, digest, picture in (("a", 1, first), ("b", 2, second), ("c", 3, third)):
        take(files, name, digest, picture)
    for name in ("x", "copy of x"):
        take(files, name, 7, None)
    take(files, "y", 8, random_hash(rng))
    assert groups_of(files) == [["c", "b", "a"], ["x", "copy of x"]]


def test_many_files_are_compared_like_each_pair_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # Products of a few files each, so that pairs lie within one, across several, and on the diagonal.
    monkeypatch.setattr(duplicates, "_ROWS", 7)
    monkeypatch.setattr(duplicates, "_COLUMNS", 11)
    rng = np.random.default_rng(4)
    scenes = [random_hash(rng) for _ in range(40)]
    names = [f"t{number}" for number in range(60)], [f"v{number}" for number in range(50)]
    files = table(*names)
    hashes: dict[str, bytes | None] = {}
    for digest, name in enumerate([*names[0], *names[1]]):
        scene = scenes[int(rng.integers(len(scenes)))]
        hashes[name] = None if rng.random() < 0.2 else flipped(scene, int(rng.integers(0, 30)), rng)
        take(files, name, digest, hashes[name])

    def is_same(first: str, second: str) -> bool:
        a, b = hashes[first], hashes[second]
        return a is not None and b is not None and differing(a, b) <= SAME_PICTURE_BITS

    assert set(leaks_of(files)) == {v for v in names[1] if any(is_same(v, t) for t in names[0])}
    for held_out, (trained, bits) in leaks_of(files).items():
        apart = {t: differing(hashes[held_out] or b"", hashes[t] or b"") for t in names[0] if hashes[t] is not None}
        assert bits == apart[trained] == min(apart.values())
    grouped = {name: group for group in groups_of(files) for name in group}
    for first in names[0]:
        reached = {first}
        while further := {t for t in names[0] for r in reached if is_same(r, t)} - reached:
            reached |= further
        assert set(grouped.get(first, [first])) == reached


def differing(first: bytes, second: bytes) -> int:
    return sum((a ^ b).bit_count() for a, b in zip(first, second, strict=True))


def test_too_many_training_files_are_compared_by_bytes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = random_hash(np.random.default_rng(5))
    files = table(["a", "b", "c"], ["v"])
    for digest, name in ((1, "a"), (1, "b"), (2, "c"), (3, "v")):
        take(files, name, digest, picture)
    assert groups_of(files) == [["a", "b", "c"]]
    monkeypatch.setattr(duplicates, "MAX_COMPARED_PAIRS", 2)
    assert groups_of(files) == [["a", "b"]]
    assert leaks_of(files) == {"v": ("a", 0)}, "what is held out is compared all the same"
