"""Tar shards as a source's items: which samples they hold, with their labels, and where the media lie."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from omnisource.data.lists.items import ByteRanges, Items, PackedStrings, member_path
from omnisource.data.lists.labels import LabelReader
from omnisource.data.lists.media_files import is_foreign_path, suffixes_of
from omnisource.data.lists.text import MOST_PROBLEMS, Problem
from omnisource.data.shards.index import TEXT_BYTES, Member, ShardIndex, ShardSample
from omnisource.data.shards.lookup import UnreadableShard, index_of, shard_version
from omnisource.files.byte_ranges import FileVersion, is_url
from omnisource.files.mapped_table import MappedTable, TableWriter, open_table
from omnisource.recipe.data import SHARD_RANGE, TarShards
from omnisource.types import Progress

if TYPE_CHECKING:
    from omnisource.types import Media

_AT_ONCE = 8  # shards that are asked for at the same time: servers answer late


def shard_places(root: str, shards: TarShards) -> list[str]:
    """Returns the absolute path or the URL of each shard, in order."""
    root = os.path.abspath(os.path.expanduser(root) or ".")
    urls = [expanded for url in shards.urls for expanded in _expanded(url)]
    return [url if is_url(url) else os.path.join(root, os.path.expanduser(url)) for url in urls]


def _expanded(url: str) -> Iterator[str]:
    """Yields a URL for each number of its ranges, the last range running fastest."""
    found = SHARD_RANGE.search(url)
    if found is None:
        yield url
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from _expanded(f"{url[: found.start()]}{number:0{len(first)}d}{url[found.end() :]}")


def read_shards(
    root: str,
    shards: TarShards,
    media: Media,
    labels: LabelReader,
    problems: list[Problem],
    progress: Progress | None = None,
) -> Items:
    """Returns the samples of shards, in their order; notes what is wrong with the shards and their samples.

    Args:
        root: Folder of the dataset.
        shards: The shards.
        media: "image" or "video": which suffixes count.
        labels: Reads labels.
        problems: Takes what is wrong. A sample with a wrong label is among the items, with the label 0.
        progress: Called after each shard with the number of shards read and of all.

    Raises:
        UserError: If the package that reads the URLs is not installed.
    """
    urls = shard_places(root, shards)
    problems += [Problem(url, None, "the shard is named twice") for url, count in Counter(urls).items() if count > 1]
    reader = _SampleReader(shards, media, labels, problems)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        versions = list(threads.map(_version, urls))
        columns = _columns(urls, versions, reader, threads, progress)
    if not len(columns["labels"]) and not problems:
        problems.append(Problem(", ".join(shards.urls), None, "the shards are empty"))
    return Items(
        folder=os.path.abspath(os.path.expanduser(root) or "."),
        keys=PackedStrings.of(columns, "keys"),
        labels=columns["labels"],
        paths=PackedStrings.of(columns, "members"),
        byte_ranges=ByteRanges(
            tuple(urls),
            # No item lies in a shard that has none.
            tuple(version if isinstance(version, FileVersion) else FileVersion(0, "") for version in versions),
            columns["shards"],
            columns["offsets"],
            columns["sizes"],
        ),
    )


def _columns(
    urls: list[str],
    versions: list[FileVersion | UnreadableShard],
    reader: _SampleReader,
    threads: ThreadPoolExecutor,
    progress: Progress | None,
) -> MappedTable:
    """Returns a row a sample: `keys`, `members`, `labels`, `shards`, `offsets` and `sizes`.

    A large set of shards that was read before, and had no mistakes then, is not read again.
    """
    options = ("shards 1", urls, versions, reader.shards, reader.media, reader.labels.options())
    key = hashlib.blake2b(repr(options).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    found = open_table(key)
    if found is not None:
        return found
    problems = reader.problems
    num_problems = len(problems)
    for first in range(0, len(urls), _AT_ONCE):  # as many indexes are in memory
        batch = range(first, min(first + _AT_ONCE, len(urls)))
        indexes = threads.map(_index, (urls[number] for number in batch), (versions[number] for number in batch))
        for number, index in zip(batch, indexes, strict=True):
            reader.add_shard(urls[number], number, index)
            if progress is not None:
                progress(number + 1, len(urls))
        if len(problems) > MOST_PROBLEMS:
            what = f"not read from here on: over {MOST_PROBLEMS} problems before"
            problems.append(Problem(urls[batch[-1]], None, what))
            break
    return reader.writer.finish(key if len(problems) == num_problems else "")


def _version(url: str) -> FileVersion | UnreadableShard:
    try:
        return shard_version(url)
    except UnreadableShard as error:
        return error


def _index(url: str, version: FileVersion | UnreadableShard) -> ShardIndex | UnreadableShard:
    try:
        return version if isinstance(version, UnreadableShard) else index_of(url, version)
    except UnreadableShard as error:
        return error


class _SampleReader:
    """Adds the samples of shards to the rows of items, and what is wrong with them to the problems."""

    def __init__(self, shards: TarShards, media: Media, labels: LabelReader, problems: list[Problem]) -> None:
        self.shards = shards
        self.media = media
        self.labels = labels
        self.problems = problems
        self.suffixes = (_plain_suffix(shards.media_suffix),) if shards.media_suffix else suffixes_of(media)
        numbers = {"labels": np.int32, "shards": np.int32, "offsets": np.int64, "sizes": np.int64}
        self.writer = TableWriter(["keys", "members"], numbers)

    def add_shard(self, url: str, number: int, index: ShardIndex | UnreadableShard) -> None:
        if isinstance(index, UnreadableShard):
            self.problems.append(Problem(url, None, str(index)))
            return
        self.problems += [Problem(url, None, what) for what in index.problems]
        for sample in index.samples:
            # An index that an earlier version wrote may hold hidden files, too.
            if not is_foreign_path(f"{sample.name}.{sample.members[0].suffix}"):
                self._add(sample, url, number)

    def _add(self, sample: ShardSample, url: str, number: int) -> None:
        members = {f".{member.suffix}": member for member in sample.members}
        found = [suffix for suffix in members if suffix in self.suffixes]
        where = member_path(url, sample.name)
        if len(found) != 1:
            count = f"{len(found)} members could be the {self.media}, set media_suffix; it has"
            what = count if found else f"no {self.media} in this sample; it has"
            self.problems.append(Problem(where, None, f"{what} {', '.join(members)}"))
            return
        label = self._label(members.get(_plain_suffix(self.shards.label_suffix)))
        if isinstance(label, str):
            self.problems.append(Problem(where, None, label))
            label = 0
        media = members[found[0]]
        name = sample.name + found[0]
        key = _original_key(members.get(".json")) or member_path(os.path.basename(url), name)
        self.writer.add(key, name, label, number, media.offset, media.size)

    def _label(self, member: Member | None) -> int | str:
        """Returns the label of a sample, or what is wrong with it."""
        field = self.shards.label_field
        if member is None:
            return f"no label in this sample, which would be its member {self.shards.label_suffix}"
        if member.text is None:
            return f"the member {member.suffix} holds no label: it is no text, or longer than {TEXT_BYTES} bytes"
        if not field:
            return self.labels.read(member.text.strip())
        try:
            value = json.loads(member.text)[field]
        except (ValueError, LookupError, TypeError):
            return f"the member {member.suffix} is no JSON with the field {field}"
        if isinstance(value, bool) or not isinstance(value, int | str):
            return f"the field {field} holds {value!r:.40}, which is neither a number nor a name"
        return self.labels.read(str(value))


def _plain_suffix(suffix: str) -> str:
    """Returns a suffix as users write it, with its dot and in small letters."""
    return f".{suffix.removeprefix('.').lower()}"


def _original_key(member: Member | None) -> str | None:
    """Returns the key that `write_shards` keeps in the JSON member; None where somebody else wrote the shard."""
    try:
        key = json.loads(member.text)["key"] if member is not None and member.text is not None else None
    except (ValueError, LookupError, TypeError):
        return None
    return key if isinstance(key, str) else None
