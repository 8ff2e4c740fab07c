"""Finds the index of a shard: beside it, in the cache folder, or by reading the headers of the shard once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omnisource.data.shards.index import (
    INDEX_SUFFIX,
    ShardIndex,
    parse_index,
    save_index,
    scan_file,
    scan_shard,
)
from omnisource.errors import UserError
from omnisource.files.byte_ranges import (
    FileVersion,
    is_missing,
    is_url,
    local_version,
    reason_of,
    remote_filesystem,
    retried,
    version_of,
)
from omnisource.files.cache import cache_folder, mark_used, remove_old
from omnisource.printing import notice

KEPT_INDEXES = 4096
"""Indexes that are kept in the cache folder; older ones go when a new one comes, unless they are in use."""

_BLOCK_BYTES = 65536  # fetched at a time while the headers of a remote shard are read


class UnreadableShard(Exception):
    """A shard that cannot be used, with the reason."""


def shard_version(url: str) -> FileVersion:
    """Returns the version of a shard.

    Raises:
        UnreadableShard: If it is not there, or a server does not say how large it is.
        UserError: If the package that reads such URLs is not installed.
    """
    if not is_url(url):
        try:
            return local_version(os.stat(url))
        except OSError as error:
            raise UnreadableShard("missing shard" if isinstance(error, FileNotFoundError) else error.strerror) from None
    filesystem, path = remote_filesystem(url)
    information = _fetched(lambda: filesystem.info(path))
    if information.get("size") is None:
        raise UnreadableShard("the server does not say how large it is, so that no parts of it can be read")
    if information.get("partial") is False:
        raise UnreadableShard("the server does not support requests of ranges, so that no parts of it can be read")
    return FileVersion(information["size"], version_of(information))


def index_of(url: str, version: FileVersion) -> ShardIndex:
    """Returns the index of a shard, and keeps it where there was none that fits.

    An index beside a local shard, or in the cache folder, must be of the same size and version. An index beside a
    remote shard was made elsewhere and knows no version of the server's: the size must do.

    Raises:
        UnreadableShard: If the shard cannot be read, is none, or is not that of the version any more.
    """
    in_cache = _path_in_cache(url)
    for index_url in (url + INDEX_SUFFIX, *([] if in_cache is None else [str(in_cache)])):
        index = _kept_index(index_url)
        if index is None or index.problems:  # what was wrong may be read by now, by what this version leaves out
            continue
        if index.size == version.size and (is_url(index_url) or index.version == version.version):
            if in_cache is not None:
                mark_used(in_cache)
            return index
        notice(f"{index_url}: is of another version of the shard; the headers of the shard are read instead")
    index = _scanned(url, version)
    if FileVersion(index.size, index.version) != version:
        raise UnreadableShard("was replaced while it was read; start again")
    _keep(index, url, in_cache)
    return index


def _kept_index(index_url: str) -> ShardIndex | None:
    """Returns an index from where it may be kept, or None where there is none; one that cannot be used is reported."""
    try:
        content = _remote_content(index_url) if is_url(index_url) else Path(index_url).read_bytes()
        return parse_index(content)
    except FileNotFoundError:
        return None
    except UnreadableShard as error:
        reason = str(error)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except ValueError as error:
        reason = str(error)
    notice(f"{index_url}: {reason}; the headers of the shard are read instead")
    return None


def _remote_content(url: str) -> bytes:
    """Returns the content of a URL.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableShard: If it cannot be read for another reason.
    """
    filesystem, path = remote_filesystem(url)
    try:
        return retried(lambda: filesystem.cat_file(path))
    except Exception as error:  # each kind of file system has errors of its own
        if is_missing(error):
            raise FileNotFoundError(url) from error
        raise UnreadableShard(reason_of(error)) from error


def _scanned(url: str, version: FileVersion) -> ShardIndex:
    try:
        if is_url(url):
            return _scanned_remote(url, version)
        return scan_file(Path(url))
    except ValueError as error:
        raise UnreadableShard(str(error)) from error
    except OSError as error:
        raise UnreadableShard(f"cannot be read: {error.strerror or error}") from error


def _scanned_remote(url: str, version: FileVersion) -> ShardIndex:
    notice(f"{url}: has no index; its headers are read, once")
    filesystem, path = remote_filesystem(url)

    def scan() -> ShardIndex:
        with filesystem.open(path, "rb", block_size=_BLOCK_BYTES, cache_type="readahead") as file:
            return scan_shard(file, version.size, version.version)

    return _fetched(scan)


def _fetched(read: Callable[[], Any]) -> Any:
    try:
        return retried(read)
    except (UserError, ValueError):
        raise
    except Exception as error:  # each kind of file system has errors of its own
        raise UnreadableShard(reason_of(error)) from error


def _keep(index: ShardIndex, url: str, in_cache: Path | None) -> None:
    """Writes an index beside its shard or, where that cannot be, into the cache folder."""
    try:
        if not is_url(url):
            save_index(index, Path(url + INDEX_SUFFIX))
            return
    except OSError:
        pass  # a folder that can only be read, or a file of somebody else's
    if in_cache is None:
        return
    try:
        in_cache.parent.mkdir(parents=True, exist_ok=True)
        save_index(index, in_cache)
        remove_old(in_cache.parent, INDEX_SUFFIX, KEPT_INDEXES)
    except OSError as error:
        notice(f"{url}: its index cannot be kept, and is made again each time: {error}")


def _path_in_cache(url: str) -> Path | None:
    folder = cache_folder()
    if folder is None:
        return None
    name = hashlib.blake2b(url.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return folder / "shards" / f"{name}{INDEX_SUFFIX}"
