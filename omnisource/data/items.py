"""What was read from a list: items packed into few large objects, so that lists of millions travel cheaply."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np


@dataclass(frozen=True)
class Item:
    """One item of a list.

    Attributes:
        path: Absolute path of the file, or of the folder of raw frames.
        key: The path as the list gives it.
        label: Class index.
        num_frames: Frames of a folder of raw frames, as its list counts them; None for files.
    """

    path: str
    key: str
    label: int
    num_frames: int | None


class Texts(Sequence[str]):
    """Many texts in one bytes object: ten million paths cost their characters and 8 bytes each."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        blob, offsets = bytearray(), array("q", [0])
        for text in texts:
            blob += text.encode("utf-8", "surrogateescape")  # names of files need not be UTF-8
            offsets.append(len(blob))
        self.blob = bytes(blob)
        self.offsets = np.array(offsets, dtype=np.int64)  # [N + 1], where each text starts

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in array("q", self.offsets[1:].tobytes()):
            yield self.blob[start:end].decode("utf-8", "surrogateescape")
            start = end

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        start, end = self.offsets[index % len(self)], self.offsets[index % len(self) + 1]
        return self.blob[start:end].decode("utf-8", "surrogateescape")


@dataclass(frozen=True, eq=False, repr=False)
class Items:
    """The items of one list: immutable, compact, and cheap to send to a worker process.

    Attributes:
        folder: Absolute path of the folder that the paths start from.
        keys: The paths as the list gives them.
        labels: [N] int32 class indices.
        num_frames: [N] int32 frames of each folder of raw frames, or None for files.
        paths: Paths below `folder` where they differ from the keys (ids without suffix), or None.
        num_ignored: Files in the class folders that are no media of the source's kind.
    """

    folder: str
    keys: Texts
    labels: np.ndarray
    num_frames: np.ndarray | None = None
    paths: Texts | None = None
    num_ignored: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        path = (self.keys if self.paths is None else self.paths)[index]
        num_frames = None if self.num_frames is None else int(self.num_frames[index])
        return Item(os.path.join(self.folder, path), self.keys[index], int(self.labels[index]), num_frames)

    def __repr__(self) -> str:
        return f"Items({len(self)} in {self.folder!r})"

    def without(self, indices: set[int]) -> Items:
        """Returns the other items, in their order."""
        if not indices:
            return self
        kept = [index for index in range(len(self)) if index not in indices]
        return Items(
            self.folder,
            Texts(self.keys[index] for index in kept),
            self.labels[kept],
            None if self.num_frames is None else self.num_frames[kept],
            None if self.paths is None else Texts(self.paths[index] for index in kept),
            self.num_ignored,
        )

    def digest(self) -> str:
        """Returns a hex digest of the keys and the labels in their order, the same on every machine."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(self.keys.offsets.astype("<i8").tobytes())
        digest.update(self.keys.blob)
        digest.update(self.labels.astype("<i4").tobytes())
        return digest.hexdigest()

    def class_counts(self, num_classes: int) -> np.ndarray:
        """Returns how many items each class has, [num_classes] int64."""
        return np.bincount(self.labels, minlength=num_classes).astype(np.int64)
