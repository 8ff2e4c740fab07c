"""Packs media files into tar shards that webdataset and `TarShards` read.

A sample is three members, one after the other: NAME.mp4 (or another suffix of media), NAME.cls with the label as text,
and NAME.json with the key and the label. NAME is a running number and what can be kept of the file's name: readers
split a member's name at its first dot, so the key itself, with dots, blanks or folders, stands in the JSON member.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from omnisource.data.lists.media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from omnisource.data.shards.index import BLOCK_BYTES, INDEX_SUFFIX, ShardIndex, save_index, scan_file
from omnisource.errors import UserError
from omnisource.files.atomic import UNFINISHED, atomic_write

_NAME_LENGTH = 60  # characters of a file's name that are kept: with number and suffix, tar takes 100


@dataclass(frozen=True)
class ShardFile:
    """One media file to be packed.

    Attributes:
        path: The file; its suffix tells its kind.
        key: What it is called in lists and results; unique.
        label: Class index.
    """

    path: Path
    key: str
    label: int


@dataclass(frozen=True)
class _Sample:
    """A file and how it is stored."""

    file: ShardFile
    name: str  # of its members, without suffix
    suffix: str  # of the media member, with the dot
    size: int  # bytes of the file
    modified_ns: int

    def texts(self) -> dict[str, str]:
        """Returns the text members by suffix."""
        description = {"key": self.file.key, "label": self.file.label}
        return {".cls": str(self.file.label), ".json": json.dumps(description, sort_keys=True)}

    def num_bytes(self) -> int:
        """Returns the bytes that the sample takes in a shard."""
        sizes = [self.size, *(len(text.encode()) for text in self.texts().values())]
        return sum(BLOCK_BYTES + -(-size // BLOCK_BYTES) * BLOCK_BYTES for size in sizes)


def write_shards(files: Iterable[ShardFile], folder: Path, prefix: str, target_bytes: int) -> list[Path]:
    """Packs files into `PREFIX-000000.tar`, `PREFIX-000001.tar` and so on, each with its index; returns their paths.

    Equal files make equal shards. A shard that is there already and holds just what it should is kept as it is, so
    that packing goes on where a killed process stopped; any other is never overwritten.

    Args:
        files: What to pack, in this order.
        folder: Where the shards go; made where it is missing.
        prefix: What their names begin with.
        target_bytes: A shard is full before the sample that would make it larger; it has at least one.

    Raises:
        UserError: If a file cannot be read or is none of media, or a shard cannot be written or is there with another
            content.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(folder, prefix)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to: {error.strerror}") from error
    paths = []
    for number, samples in enumerate(_filled(files, target_bytes)):
        path = folder / f"{prefix}-{number:06d}.tar"
        _pack(samples, path)
        paths.append(path)
    surplus = folder / f"{prefix}-{len(paths):06d}.tar"
    if surplus.exists():
        raise UserError(f"{surplus}: does not belong to the {len(paths)} shards before it; remove it and those after")
    return paths


def _remove_unfinished(folder: Path, prefix: str) -> None:
    """Removes what a process that was killed left half written."""
    index = re.escape(INDEX_SUFFIX)
    unfinished = re.compile(rf"{re.escape(prefix)}-\d{{6}}\.tar({index})?\.[0-9a-f]{{16}}{re.escape(UNFINISHED)}")
    for path in folder.iterdir():
        if unfinished.fullmatch(path.name):
            path.unlink()


def _filled(files: Iterable[ShardFile], target_bytes: int) -> Iterator[list[_Sample]]:
    """Yields the samples of each shard."""
    samples: list[_Sample] = []
    num_bytes = 0
    for number, file in enumerate(files):
        sample = _sample(file, number)
        if samples and num_bytes + sample.num_bytes() > target_bytes:
            yield samples
            samples, num_bytes = [], 0
        samples.append(sample)
        num_bytes += sample.num_bytes()
    if samples:
        yield samples


def _sample(file: ShardFile, number: int) -> _Sample:
    suffix = file.path.suffix.lower()
    if suffix not in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
        known = ", ".join(sorted((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)))
        raise UserError(f"{file.path}: its suffix is none of media, by which readers of shards know it ({known})")
    try:
        found = os.stat(file.path)
    except OSError as error:
        raise UserError(f"{file.path}: cannot be packed: {error.strerror}") from error
    kept = re.sub(r"[^A-Za-z0-9_-]", "_", Path(file.key).stem)[:_NAME_LENGTH]
    return _Sample(file, f"{number:09d}_{kept}", suffix, found.st_size, found.st_mtime_ns)


def _pack(samples: list[_Sample], path: Path) -> None:
    """Writes one shard and its index, or leaves the shard that is there."""
    try:
        is_there = path.exists()
        if not is_there:
            with atomic_write(path) as file:
                _write(samples, file)
        index = scan_file(path)  # read back, so that what it promises is there
        if is_there and not _holds(path, index, samples):
            raise UserError(f"{path}: is there already, with another content. Remove it, or write elsewhere.")
        save_index(index, path.with_name(path.name + INDEX_SUFFIX))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written: {error}") from error


def _write(samples: list[_Sample], file: BinaryIO) -> None:
    """Writes the samples with headers that hold nothing of the machine or the moment."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for sample in samples:
            with sample.file.path.open("rb") as media:
                archive.addfile(_header(sample.name + sample.suffix, sample.size), media)
            for suffix, text in sample.texts().items():
                content = text.encode()
                archive.addfile(_header(sample.name + suffix, len(content)), io.BytesIO(content))


def _header(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)  # its other fields are the same for all: mode 0644, time 0, owner 0
    info.size = size
    return info


def _holds(path: Path, index: ShardIndex, samples: list[_Sample]) -> bool:
    """Returns whether a shard has just these samples, of files that have not changed since it was written."""
    expected = [(sample.name, {sample.suffix: sample.size}, sample.texts()) for sample in samples]
    found = [
        (
            sample.name,
            {f".{member.suffix}": member.size for member in sample.members if member.text is None},
            {f".{member.suffix}": member.text for member in sample.members if member.text is not None},
        )
        for sample in index.samples
    ]
    written_ns = path.stat().st_mtime_ns
    return not index.problems and expected == found and all(sample.modified_ns <= written_ns for sample in samples)
