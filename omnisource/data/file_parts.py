"""Parts of large files, on a disk or behind a URL: reading just their bytes, and never others."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from omnisource.errors import UnreadableMedia, UserError

T = TypeVar("T")

OPEN_FILES = 32
"""Files that a process keeps open between two reads; their number must not grow with that of the shards."""

RETRY_SECONDS = (0.2, 1.0, 3.0)
"""Waits before a request that failed is made again: connections break, and servers are busy for a moment."""


@dataclass(frozen=True)
class FilePart:
    """A run of bytes in a file.

    Attributes:
        url: Path of the file, or its URL.
        offset: First byte.
        size: Number of bytes.
    """

    url: str
    offset: int
    size: int


def is_url(place: str) -> bool:
    """Returns whether a place is a URL and not a path."""
    return "://" in place


def read_part(part: FilePart) -> bytes:
    """Returns the bytes of a part, all of them.

    Raises:
        UnreadableMedia: If they cannot be read, or are fewer or more: bytes of something else are never returned.
        UserError: If the package that reads such URLs is not installed.
    """
    if not part.size:
        return b""
    return _read_remote(part) if is_url(part.url) else _read_local(part)


def _read_local(part: FilePart) -> bytes:
    try:
        found = os.stat(part.url)
        descriptor = _opened(part.url, found.st_ino, found.st_mtime_ns).descriptor
        content = bytearray()
        while len(content) < part.size:
            piece = os.pread(descriptor, part.size - len(content), part.offset + len(content))
            if not piece:
                break
            content += piece
    except OSError as error:
        raise UnreadableMedia(part.url, f"cannot be read: {error.strerror}") from error
    if len(content) < part.size:
        end = part.offset + part.size
        reason = f"ends at byte {part.offset + len(content)}, and the item at byte {end}: the file was cut or replaced"
        raise UnreadableMedia(part.url, reason)
    return bytes(content)


class _OpenFile:
    """An open file, which is closed when nobody holds it any more."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


@functools.lru_cache(maxsize=OPEN_FILES)
def _opened(path: str, inode: int, modified_ns: int) -> _OpenFile:
    """Returns an open file; another file that took its place meanwhile has another inode or time."""
    return _OpenFile(path)


def _read_remote(part: FilePart) -> bytes:
    filesystem, path = remote_filesystem(part.url)

    def read() -> bytes:
        content = filesystem.cat_file(path, start=part.offset, end=part.offset + part.size)
        if len(content) < part.size:
            raise ConnectionError(f"only {len(content)} of {part.size} bytes came")
        return content

    try:
        content = retried(read)
    except Exception as error:  # each kind of file system has errors of its own
        raise UnreadableMedia(part.url, reason_of(error)) from error
    if len(content) > part.size:
        reason = f"{len(content)} bytes came instead of {part.size}: the server does not support requests of ranges"
        raise UnreadableMedia(part.url, reason)
    return content


def retried(read: Callable[[], T]) -> T:
    """Returns what `read` returns, after some attempts if need be; what is missing, forbidden or wrong is so at once.

    Raises:
        Exception: What the last attempt raised.
    """
    for seconds in RETRY_SECONDS:
        try:
            return read()
        except Exception as error:  # each kind of file system has errors of its own
            if isinstance(_actual(error), FileNotFoundError | PermissionError | ValueError | UserError):
                raise
            time.sleep(seconds)
    return read()


def reason_of(error: BaseException) -> str:
    """Returns why something could not be read from a URL, in one line."""
    error = _actual(error)
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return f"cannot be read: {type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def _actual(error: BaseException) -> BaseException:
    """Returns what went wrong: fsspec calls a file missing whose server did not answer, or refused."""
    cause = error.__cause__
    is_disguised = isinstance(error, FileNotFoundError) and type(cause).__module__.startswith("aiohttp")
    if cause is None or not is_disguised or getattr(cause, "status", None) in (404, 410):
        return error
    return cause


def remote_filesystem(url: str) -> tuple[Any, str]:
    """Returns the fsspec file system of a URL, the same one for all URLs of its kind, and the path in it.

    Raises:
        UserError: If there is no such kind of URL, or the package that reads it is not installed.
    """
    import fsspec  # only for URLs: it takes longer to import than a list to read

    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = "pip install 'omnisource[remote]'" if url.startswith("http") else str(error)
        raise UserError(f"{url}: the package that reads such URLs is not installed: {extra}") from error
    except ValueError as error:
        raise UserError(f"{url}: {error}") from error
