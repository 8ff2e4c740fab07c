"""What lies where in a tar shard: scanning a shard, and the text form in which the result is kept.

A sample of the webdataset convention is a run of members whose names agree up to the first dot after the last slash;
what follows that dot is the suffix of the member.
Source: webdataset, `webdataset/tariterators.py` (`base_plus_ext`, `group_by_keys`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from omnisource.data.lists.media_files import is_foreign_path, media_by_suffix
from omnisource.files.atomic import atomic_write

INDEX_SUFFIX = ".index.jsonl"
"""What the name of an index has after that of its shard."""

TEXT_BYTES = 65536
"""Members of up to this many bytes that are UTF-8 text and no media, such as labels, are kept in the index itself."""

BLOCK_BYTES = 512
"""Bytes of a block of a tar file."""

_FORMAT = "omnisource shard index 1"
_META = re.compile(r"__[^/]*__($|/)")  # names of members that webdataset leaves out


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a sample.

    Attributes:
        suffix: What follows the first dot of its name, in small letters.
        offset: First byte of its content in the shard.
        size: Bytes of its content.
        text: The content of a small text member; None for others.
    """

    suffix: str
    offset: int
    size: int
    text: str | None = None


@dataclass(frozen=True, slots=True)
class ShardSample:
    """The members of one sample.

    Attributes:
        name: What their names begin with, up to the first dot after the last slash.
        members: In the order of the shard.
    """

    name: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class ShardIndex:
    """What lies where in one shard.

    Attributes:
        size: Bytes of the shard.
        version: What changes when the shard does: its time of modification, or the ETag of a URL; "" where unknown.
        samples: In the order of the shard.
        problems: What is wrong with the shard, a line each.
    """

    size: int
    version: str
    samples: tuple[ShardSample, ...]
    problems: tuple[str, ...] = ()


def scan_shard(file: BinaryIO, size: int, version: str) -> ShardIndex:
    """Returns the index of a shard, for which every header in it is read, and no content but that of small texts.

    Args:
        file: The shard, from its beginning; must be able to seek.
        size: Its bytes.
        version: As in `ShardIndex`.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no plain tar file.
    """
    samples: list[ShardSample] = []
    problems: list[str] = []
    names: set[str] = set()
    for name, member in _members(file, size, problems):
        if samples and samples[-1].name == name:
            if any(member.suffix == other.suffix for other in samples[-1].members):
                problems.append(f"{name}.{member.suffix}: is there twice")
            else:
                samples[-1] = ShardSample(name, (*samples[-1].members, member))
        elif name in names:
            problems.append(f"{name}.{member.suffix}: does not lie beside the other members of its sample")
        else:
            names.add(name)
            samples.append(ShardSample(name, (member,)))
    return ShardIndex(size, version, tuple(samples), tuple(problems))


def scan_file(path: Path) -> ShardIndex:
    """Returns the index of a shard on a disk; the rest is as in `scan_shard`."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        return scan_shard(file, found.st_size, str(found.st_mtime_ns))


def save_index(index: ShardIndex, path: Path) -> None:
    """Writes an index, unless it is there already.

    Raises:
        OSError: If it cannot be written, or a file that is no index has its name.
    """
    content = format_index(index)
    if path.exists():
        present = path.read_bytes()
        if present == content:
            return
        if not is_index(present):
            raise FileExistsError(f"{path}: is there already, and is no index of a shard")
    with atomic_write(path) as file:
        file.write(content)


def _members(file: BinaryIO, size: int, problems: list[str]) -> Iterator[tuple[str, Member]]:
    """Yields (name of the sample, member) for each file in a shard; notes what cannot be used."""
    archive = _opened(file)
    try:
        while (info := archive.next()) is not None:
            archive.members = []  # pyright: ignore[reportAttributeAccessIssue] (it would grow with the shard)
            if not info.isfile() or _META.match(info.name) or is_foreign_path(info.name):
                continue
            name, suffix = _split_name(info.name)
            if info.issparse():
                problems.append(f"{info.name}: is stored with holes, so that its bytes do not lie in one piece")
            elif not suffix:
                problems.append(f"{info.name}: its name has no suffix, by which members of a sample are told apart")
            elif info.offset_data + info.size > size:
                problems.append(f"{info.name}: is cut short, as the shard is")
            else:
                yield name, Member(suffix, info.offset_data, info.size, _text(archive, info))
    except tarfile.TarError as error:
        problems.append(f"cannot be read from byte {archive.offset} on: {error}")
        return
    # The module takes any header that it does not understand for the end.
    file.seek(archive.offset)
    if file.read(BLOCK_BYTES) != bytes(BLOCK_BYTES):
        problems.append(f"cannot be read from byte {archive.offset} on: there is neither a file nor the end mark")


def _opened(file: BinaryIO) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=file, mode="r:")
    except tarfile.TarError as error:
        raise ValueError(f"is no plain tar file: {error}") from error


def _split_name(name: str) -> tuple[str, str]:
    """Returns (name of the sample, suffix in small letters) of a member; no suffix where it has none."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower() if stem else ""


def _text(archive: tarfile.TarFile, info: tarfile.TarInfo) -> str | None:
    """Returns the text of a small text member, None for others."""
    if info.size > TEXT_BYTES or media_by_suffix(info.name):
        return None
    content = archive.extractfile(info)
    assert content is not None, "only files come here"
    try:
        return content.read().decode()
    except UnicodeDecodeError:
        return None


def format_index(index: ShardIndex) -> bytes:
    """Returns an index as JSON lines: what it is of and a checksum, then one line a sample."""
    lines = []
    for sample in index.samples:
        members = [
            [member.suffix, member.offset, member.size, *([] if member.text is None else [member.text])]
            for member in sample.members
        ]
        lines.append(json.dumps([sample.name, *members], ensure_ascii=False, separators=(",", ":")) + "\n")
    body = "".join(lines).encode("utf-8", "surrogateescape")  # names of members need not be UTF-8
    head = {"format": _FORMAT, "size": index.size, "version": index.version, "problems": index.problems}
    return json.dumps({**head, "checksum": _checksum(head, body)}).encode() + b"\n" + body


def parse_index(content: bytes) -> ShardIndex:
    """Returns the index that `format_index` made the text of.

    Raises:
        ValueError: If it is another text, or damaged.
    """
    if not is_index(content):
        raise ValueError("is no index of a shard")
    first, _, body = content.partition(b"\n")
    head = json.loads(first)
    if head.pop("checksum", "") != _checksum(head, body):
        raise ValueError("is damaged: its checksum is another")
    samples = []
    for line in body.decode("utf-8", "surrogateescape").split("\n")[:-1]:
        name, *members = json.loads(line)
        samples.append(ShardSample(name, tuple(Member(*member) for member in members)))
    return ShardIndex(head["size"], head["version"], tuple(samples), tuple(head["problems"]))


def _checksum(head: Mapping[str, Any], body: bytes) -> str:
    return hashlib.blake2b(json.dumps(head).encode() + body, digest_size=16).hexdigest()


def is_index(content: bytes) -> bool:
    """Returns whether a file begins as an index does, whole or damaged: anything else is not ours to replace."""
    return content.startswith(json.dumps({"format": _FORMAT})[:-1].encode())
