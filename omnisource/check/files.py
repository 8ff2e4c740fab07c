"""The distinct files of all lists: by what each is recognized, which items have it, and what reading it found.

Everything is kept in arrays, because lists can have millions of items.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from omnisource.check.examine import VIDEO_FRAMES, VIDEO_HASHES, FileReport
from omnisource.check.splits import CheckedSplit
from omnisource.data.hashing.picture_hash import HASH_BYTES
from omnisource.data.loading.request import SampleRequest
from omnisource.files.byte_ranges import is_url


@dataclass(frozen=True)
class FileState:
    """By what a file is recognized, and known to be unchanged.

    Attributes:
        path: Real path of the file, the folder of raw frames or the shard; or the URL of the shard.
        read_as: "image", "video" or, for a folder, the names of its frames and how many are read.
        offset: First byte of a part of a shard; 0 for a file of its own.
        size: Bytes of the file, of the part, or of all files in the folder; -1 where there is nothing.
        modified_ns: When the file, the shard, or the last one in the folder was modified, in nanoseconds since 1970; of
            a URL a number that stands for what its server tells of its version.
    """

    path: str
    read_as: str
    offset: int
    size: int
    modified_ns: int

    def identity(self) -> int:
        """Returns a 64-bit hash of which file it is."""
        return _hash(self.path, self.read_as, self.offset)

    def version(self) -> int:
        """Returns a 64-bit hash of what changes when the file does."""
        return _hash(self.size, self.modified_ns)


class StateReader:
    """Reads the sizes and times of files, without opening them."""

    def __init__(self) -> None:
        # Every part of a path costs a call of the system, and items that follow one another share their folder.
        self._real_folder = functools.lru_cache(maxsize=1024)(os.path.realpath)
        self._started_ns = time.time_ns()

    def state(self, request: SampleRequest) -> FileState:
        """Returns the state of the file that a request reads, as it is now."""
        if request.byte_range is not None:
            url, offset, size = request.byte_range.url, request.byte_range.offset, request.byte_range.size
            if is_url(url):
                # What no server tells the version of, another check reads again: it may have changed.
                version = request.byte_range.file_version.version
                modified_ns = _hash(version) >> 1 if version else self._started_ns  # as JSON's readers have integers
                return FileState(url, request.media, offset, size, modified_ns)
            path = self._real_path(url)
            return FileState(path, request.media, offset, size, _file_size_and_time(path)[1])
        path = self._real_path(request.path)
        if request.num_frames is None:
            return FileState(path, request.media, 0, *_file_size_and_time(path))
        read_as = f"{request.num_frames} frames {request.frame_template}"
        return FileState(path, read_as, 0, *_folder_size_and_time(path))

    def _real_path(self, path: str) -> str:
        folder, name = os.path.split(path)
        real = os.path.join(self._real_folder(folder), name)
        return os.path.realpath(real) if os.path.islink(real) else real


class FileTable:
    """What is known of each distinct file.

    Attributes:
        splits: The lists.
        of_items: For each split the number of each item's file, [N] int64.
        first_items: [F] int64, the first item that has each file, counted through all splits.
        identities: [F] uint64, ascending: by these the files are numbered.
        versions: [F] uint64.
        is_read: [F] bool, whether it is known what reading gives, be it a fault.
        is_taken_over: [F] bool, whether that is known from an earlier check.
        num_frames: [F] int32, frames that decode; 0 where none do.
        declared_frames: [F] int32, frames that the container declares; -1 where it does not.
        widths: [F] int32, pixels.
        heights: [F] int32, pixels.
        digests: [F] uint64, of the bytes.
        hashes: [F, P, 32] uint8, of images or frames; P is 1 where all sources have images, otherwise `VIDEO_HASHES`.
        is_clear: [F, P] bool, whether each is known and not plain.
        faults: Why a file cannot be read, by its number.
    """

    def __init__(self, splits: Sequence[CheckedSplit], advance: Callable[[], None]) -> None:
        """Looks at every file of every item.

        Args:
            splits: The lists.
            advance: Called once for each item.
        """
        self.splits = list(splits)
        reader = StateReader()
        lengths = [len(split.items) for split in splits]
        self._starts = np.cumsum([0, *lengths])
        identities = np.empty(self._starts[-1], dtype=np.uint64)
        versions = np.empty_like(identities)
        for split, start in zip(splits, self._starts, strict=False):
            for index in range(len(split.items)):
                state = reader.state(split.request(index))
                identities[start + index], versions[start + index] = state.identity(), state.version()
                advance()
        self.identities, self.first_items, numbers = np.unique(identities, return_index=True, return_inverse=True)
        self.of_items = np.split(numbers, self._starts[1:-1])
        self.versions = versions[self.first_items]
        count = len(self.identities)
        self.is_read, self.is_taken_over = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        self.num_frames, self.declared_frames, self.widths, self.heights = np.zeros((4, count), dtype=np.int32)
        self.digests = np.zeros(count, dtype=np.uint64)
        has_videos = any(split.source.media == "video" for split in splits)
        num_hashes = VIDEO_HASHES if has_videos else 1
        self.hashes = np.zeros((count, num_hashes, HASH_BYTES), dtype=np.uint8)
        self.is_clear = np.zeros((count, num_hashes), dtype=bool)
        self.faults: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.identities)

    def find(self, state: FileState) -> int | None:
        """Returns the number of the file in this very state, None where it is in no list or has changed."""
        identity = np.uint64(state.identity())
        number = int(np.searchsorted(self.identities, identity))
        if number == len(self) or self.identities[number] != identity:
            return None
        return number if self.versions[number] == np.uint64(state.version()) else None

    def unread(self) -> np.ndarray:
        """Returns the numbers of the files that are still to be read, in the order of the lists."""
        numbers = np.flatnonzero(~self.is_read)
        return numbers[np.argsort(self.first_items[numbers])]

    def item(self, position: int) -> tuple[CheckedSplit, int]:
        """Returns the split of an item, and its index there, given its position among the items of all splits."""
        split = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self.splits[split], int(position - self._starts[split])

    def request(self, number: int) -> SampleRequest:
        """Returns the request of the first item that has a file."""
        split, index = self.item(self.first_items[number])
        return split.request(index)

    def first_items_where(self, is_training: bool) -> np.ndarray:
        """Returns the first item to train on, or held out, that has each file: [F] int64, -1 for none."""
        first_items = np.full(len(self), -1, dtype=np.int64)
        for split, numbers, start in reversed([*zip(self.splits, self.of_items, self._starts, strict=False)]):
            if split.is_training == is_training:
                first_items[numbers[::-1]] = np.arange(start, start + len(numbers))[::-1]  # the first is written last
        return first_items

    def is_named_twice(self) -> np.ndarray:
        """Returns whether several items of one training list are each file, under names of their own, [F] bool."""
        found = np.zeros(len(self), dtype=bool)
        for split, numbers in zip(self.splits, self.of_items, strict=True):
            if split.is_training:
                found |= np.bincount(numbers, minlength=len(self)) > 1
        return found

    def training_items(self, numbers: Sequence[int]) -> dict[int, list[tuple[CheckedSplit, int]]]:
        """Returns the split and the index of every item to train on, by the numbers of the files."""
        found: dict[int, list[tuple[CheckedSplit, int]]] = {number: [] for number in numbers}
        for split, of_split in zip(self.splits, self.of_items, strict=True):
            if split.is_training:
                for index in np.flatnonzero(np.isin(of_split, numbers)).tolist():
                    found[int(of_split[index])].append((split, index))
        return found

    def take(self, number: int, found: FileReport, *, is_taken_over: bool = False) -> None:
        """Keeps what reading a file found."""
        self.is_read[number], self.is_taken_over[number] = True, is_taken_over
        if found.fault:
            self.faults[number] = found.fault
            return
        self.num_frames[number] = found.num_frames
        self.declared_frames[number] = -1 if found.declared_frames is None else found.declared_frames
        self.widths[number], self.heights[number] = found.width, found.height
        self.digests[number] = int(found.digest[:16], 16)
        hashes = np.frombuffer(bytes.fromhex("".join(found.hashes)), dtype=np.uint8).reshape(-1, HASH_BYTES)
        # Beside videos an image counts as one in which nothing moves: all frames the same, and no change that is clear.
        which = slice(0, len(hashes) if len(hashes) > 1 else VIDEO_FRAMES)
        self.hashes[number, which] = hashes
        self.is_clear[number, which] = ~np.array(found.is_plain)

    def is_readable(self) -> np.ndarray:
        """Returns whether each file decodes, [F] bool."""
        return self.num_frames > 0

    def is_comparable(self) -> np.ndarray:
        """Returns whether each file has enough clear frames to be compared by, [F] bool: an image one, a video two."""
        return self.is_clear[:, :VIDEO_FRAMES].sum(axis=1) >= min(2, self.is_clear.shape[1])


def _hash(*parts: str | int) -> int:
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")  # names of files need not be UTF-8
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _file_size_and_time(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:  # reading it will say so
        return -1, 0
    return found.st_size, found.st_mtime_ns


def _folder_size_and_time(folder: str) -> tuple[int, int]:
    """Returns the bytes of all files in a folder, and when it or the last of them was modified."""
    try:
        size, modified_ns = 0, os.stat(folder).st_mtime_ns
        with os.scandir(folder) as entries:
            for entry in entries:
                found = entry.stat()
                size += found.st_size
                modified_ns = max(modified_ns, found.st_mtime_ns)
    except OSError:  # reading it will say so
        return -1, 0
    return size, modified_ns
