"""What was read from a list: items packed into few large arrays, which may be mapped from a file."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from omnisource.errors import UserError
from omnisource.files.byte_ranges import ByteRange, FileVersion, is_url, local_version
from omnisource.files.mapped_table import MappedTable, TableWriter, offsets_name

_CHUNK = 65536  # entries of an array that are looked at together: what is mapped need not be in memory as a whole


@dataclass(frozen=True)
class Item:
    """One item of a list.

    Attributes:
        path: Absolute path of the file, or of the folder of raw frames; in a shard `SHARD::MEMBER`.
        key: The path as the list gives it; in a shard the key that the sample has there.
        label: Class index.
        num_frames: Frames of a folder of raw frames, as its list counts them; None for files.
        byte_range: Where the bytes of the file lie in a shard; None for files of their own.
    """

    path: str
    key: str
    label: int
    num_frames: int | None
    byte_range: ByteRange | None = None


class PackedStrings(Sequence[str]):
    """Many strings in one array of bytes: ten million paths cost their characters and 8 bytes each.

    Attributes:
        blob: [bytes] uint8, the UTF-8 bytes of all strings.
        offsets: [N + 1] int64, where each text starts in them.
    """

    def __init__(self, strings: Iterable[str] = ()) -> None:
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]  # names of files need not be UTF-8
        self.blob = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self.offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    @classmethod
    def of(cls, columns: MappedTable, name: str) -> PackedStrings:
        """Returns a column of strings without copying it."""
        strings = cls.__new__(cls)
        strings.blob, strings.offsets = columns[name], columns[offsets_name(name)]
        return strings

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _CHUNK):
            offsets = self.offsets[first : first + _CHUNK + 1].tolist()
            blob, base = self.blob[offsets[0] : offsets[-1]].tobytes(), offsets[0]
            for start, end in itertools.pairwise(offsets):
                yield blob[start - base : end - base].decode("utf-8", "surrogateescape")

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"string {index} of {len(self)}")
        start, end = self.offsets[index % len(self)], self.offsets[index % len(self) + 1]
        return self.blob[start:end].tobytes().decode("utf-8", "surrogateescape")


@dataclass(frozen=True, eq=False)
class ByteRanges:
    """Where in shards the files of items lie.

    Attributes:
        urls: Paths or URLs of the shards.
        versions: Of each shard, when its index was read; of a copy of it on another machine, `of_own_copies`.
        shards: [N] int32, which of them holds the file.
        offsets: [N] int64, first byte of the file in it.
        sizes: [N] int64, bytes of the file.
    """

    urls: tuple[str, ...]
    versions: tuple[FileVersion, ...]
    shards: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray

    def __getitem__(self, index: int) -> ByteRange:
        shard = self.shards[index]
        return ByteRange(self.urls[shard], int(self.offsets[index]), int(self.sizes[index]), self.versions[shard])

    def of_own_copies(self) -> ByteRanges:
        """Returns the same places in the shards that this process sees, whose indexes another process has read.

        They may be copies, one a machine, each with a time of its own.

        Raises:
            UserError: If one is missing, or has another size.
        """
        pairs = zip(self.urls, self.versions, strict=True)
        return dataclasses.replace(self, versions=tuple(_own_version(url, version) for url, version in pairs))


@dataclass(frozen=True, eq=False, repr=False)
class Items:
    """The items of one list: immutable and compact. Its arrays may be mapped from a file that many processes share.

    Attributes:
        folder: Absolute path of the folder that the paths start from.
        keys: The paths as the list gives them.
        labels: [N] int32 class indices.
        num_frames: [N] int32 frames of each folder of raw frames, or None for files.
        paths: Paths below `folder` where they differ from the keys (ids without suffix), or None. Where there are
            `byte_ranges`, the names of the members of their shards.
        num_ignored: Files in the class folders that are no media of the source's kind.
        byte_ranges: Where the files lie in shards, or None for files of their own.
        notes: What is worth knowing and no mistake, such as files that were left out: a sentence each.
        label_conflicts: Which items give one file two labels under two names, a sentence each.
        has_class_folders: Whether the labels come from folders, and not from a list.
    """

    folder: str
    keys: PackedStrings
    labels: np.ndarray
    num_frames: np.ndarray | None = None
    paths: PackedStrings | None = None
    num_ignored: int = 0
    byte_ranges: ByteRanges | None = None
    notes: tuple[str, ...] = ()
    label_conflicts: tuple[str, ...] = ()
    has_class_folders: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        path = (self.keys if self.paths is None else self.paths)[index]
        byte_range = None if self.byte_ranges is None else self.byte_ranges[index]
        path = os.path.join(self.folder, path) if byte_range is None else member_path(byte_range.url, path)
        num_frames = None if self.num_frames is None else int(self.num_frames[index])
        return Item(path, self.keys[index], int(self.labels[index]), num_frames, byte_range)

    def __repr__(self) -> str:
        return f"Items({len(self)} in {self.folder!r})"

    def without(self, indices: set[int]) -> Items:
        """Returns the other items, in their order; not for items in shards."""
        if not indices:
            return self
        assert self.byte_ranges is None, "what is wrong in a shard is left out while it is read"
        writer = TableWriter(["keys", "paths"], {"labels": np.int32, "num_frames": np.int32})
        for index, key in enumerate(self.keys):
            if index not in indices:
                path = "" if self.paths is None else self.paths[index]
                writer.add(key, path, self.labels[index], 0 if self.num_frames is None else self.num_frames[index])
        columns = writer.finish()
        return dataclasses.replace(
            self,
            keys=PackedStrings.of(columns, "keys"),
            labels=columns["labels"],
            num_frames=None if self.num_frames is None else columns["num_frames"],
            paths=None if self.paths is None else PackedStrings.of(columns, "paths"),
        )

    def digest(self) -> str:
        """Returns a digest of all items in their order, the same on every machine; `is_same_digest` compares it.

        It is that of the keys and the labels in hex, followed, where there are numbers of frames, by "+" and theirs.
        """
        digest = _digest_of((self.keys.offsets, "<i8"), (self.keys.blob, "u1"), (self.labels, "<i4"))
        return digest if self.num_frames is None else f"{digest}+{_digest_of((self.num_frames, '<i4'))}"

    def class_counts(self, num_classes: int) -> np.ndarray:
        """Returns how many items each class has, [num_classes] int64."""
        counts = np.zeros(num_classes, dtype=np.int64)
        for first in range(0, len(self), _CHUNK):
            found = np.bincount(self.labels[first : first + _CHUNK], minlength=num_classes)
            counts = np.pad(counts, (0, len(found) - len(counts))) + found
        return counts


def _own_version(url: str, version: FileVersion) -> FileVersion:
    if is_url(url):
        return version
    remedy = "Every machine needs the same shards under the same paths: copy it there again"
    try:
        own = local_version(os.stat(url))
    except OSError as error:
        raise UserError(
            f"{url}: process 0 has read this shard, and here it cannot be: {error.strerror}. {remedy}."
        ) from None
    if own.size != version.size:
        raise UserError(f"{url}: this shard has {own.size} bytes here, and {version.size} for process 0. {remedy}.")
    return own


def is_same_digest(earlier: str, now: str) -> bool:
    """Returns whether a digest that a checkpoint holds is that of the present items, as far as it tells.

    Earlier checkpoints hold digests without the numbers of frames, and their runs are to go on.
    """
    return earlier in (now, now.partition("+")[0])


def _digest_of(*arrays: tuple[np.ndarray, str]) -> str:
    """Returns a hex digest of arrays, each converted to the type that stands beside it."""
    digest = hashlib.blake2b(digest_size=16)
    for array, kind in arrays:
        for first in range(0, len(array), _CHUNK):
            digest.update(array[first : first + _CHUNK].astype(kind).data)
    return digest.hexdigest()


def no_items(folder: str) -> Items:
    """Returns the items of an empty list."""
    return Items(os.path.abspath(folder), PackedStrings(), np.zeros(0, np.int32))


def member_path(shard: str, member: str) -> str:
    """Returns how a file in a shard is called in messages."""
    return f"{shard}::{member}"
