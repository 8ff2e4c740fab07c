"""Ranges of bytes of large files, on a disk or behind a URL: reading just these, and never those of another file."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from omnisource.errors import UnreadableMedia, UserError

T = TypeVar("T")

OPEN_FILES = 32
"""Files that a process keeps open between two reads; their number must not grow with that of the shards."""

REMEMBERED_FILES = 65536
"""Files behind URLs of which a process remembers that their version was the expected one."""

RETRY_SECONDS = (0.2, 1.0, 3.0)
"""Waits before a request that failed is made again: connections break, and servers are busy for a moment."""


@dataclass(frozen=True)
class FileVersion:
    """What tells a file from another of its name, without reading it.

    Attributes:
        size: Bytes.
        version: What changes when the file does: its time of modification in nanoseconds; of a URL the ETag or, where
            there is none, the time that the server tells; "" where it tells neither.
    """

    size: int
    version: str


@dataclass(frozen=True)
class ByteRange:
    """A run of bytes in a file.

    Attributes:
        url: Path of the file, or its URL.
        offset: First byte.
        size: Number of bytes.
        file_version: Of the file in which they lie there.
    """

    url: str
    offset: int
    size: int
    file_version: FileVersion


class _Replaced(ValueError):
    """A file of another version than the expected one; nothing that another attempt would fix."""

    def __init__(self, expected: FileVersion, found: FileVersion) -> None:
        if found.size != expected.size:
            what = f"it had {expected.size} bytes, and has {found.size}"
        else:
            what = f"its version was {expected.version}, and is {found.version}"
        super().__init__(f"was replaced after its index was read ({what}); put it back, or start again")


def local_version(found: os.stat_result) -> FileVersion:
    """Returns the version of a file on a disk."""
    return FileVersion(found.st_size, str(found.st_mtime_ns))


def version_of(information: Mapping[str, Any]) -> str:
    """Returns the version of a remote file, as in `FileVersion`, from what fsspec or the headers of an answer tell."""
    # Each kind of file system has a name of its own for this.
    names = ("ETag", "etag", "md5Hash", "Last-Modified", "LastModified", "mtime", "updated")
    versions = [str(information[name]) for name in names if information.get(name)]
    return versions[0].removeprefix("W/") if versions else ""


def is_url(place: str) -> bool:
    """Returns whether a place is a URL and not a path."""
    return "://" in place


def read_range(byte_range: ByteRange) -> bytes:
    """Returns the bytes of a range, all of them.

    A file on a disk, or behind http or https, is compared with its version at every range; of other kinds of URLs, each
    process asks once for the version of a file.

    Raises:
        UnreadableMedia: If they cannot be read, are fewer or more, or the file is of another version.
        UserError: If the package that reads such URLs is not installed.
    """
    if not byte_range.size:
        return b""
    return _read_remote(byte_range) if is_url(byte_range.url) else _read_local(byte_range)


def _read_local(byte_range: ByteRange) -> bytes:
    try:
        found = os.stat(byte_range.url)
        descriptor = _opened(byte_range.url, found.st_ino, found.st_mtime_ns).descriptor
        for state in (found, os.fstat(descriptor)):  # it may have been replaced before it was opened, too
            if local_version(state) != byte_range.file_version:
                raise UnreadableMedia(byte_range.url, str(_Replaced(byte_range.file_version, local_version(state))))
        content = bytearray()
        while len(content) < byte_range.size:
            piece = os.pread(descriptor, byte_range.size - len(content), byte_range.offset + len(content))
            if not piece:
                break
            content += piece
    except OSError as error:
        raise UnreadableMedia(byte_range.url, f"cannot be read: {error.strerror}") from error
    if len(content) < byte_range.size:
        end = byte_range.offset + byte_range.size
        reason = f"ends at byte {byte_range.offset + len(content)}, and the item at byte {end}: its index is wrong"
        raise UnreadableMedia(byte_range.url, reason)
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


def _read_remote(byte_range: ByteRange) -> bytes:
    filesystem, path = remote_filesystem(byte_range.url)
    is_web = byte_range.url.startswith(("http://", "https://"))
    # What else `cat_file` is given, aiohttp gets: it calls this with the answer, before the content is fetched.
    options = {"raise_for_status": _answer_check(byte_range.file_version)} if is_web else {}

    def read() -> bytes:
        if not is_web:
            _require_same(byte_range.url, byte_range.file_version)
        content = filesystem.cat_file(path, start=byte_range.offset, end=byte_range.offset + byte_range.size, **options)
        if len(content) < byte_range.size:
            raise ConnectionError(f"only {len(content)} of {byte_range.size} bytes came")
        return content

    try:
        content = retried(read)
    except _Replaced as error:
        raise UnreadableMedia(byte_range.url, str(error)) from error
    except Exception as error:  # each kind of file system has errors of its own
        raise UnreadableMedia(byte_range.url, reason_of(error)) from error
    if len(content) > byte_range.size:
        reason = (
            f"{len(content)} bytes came instead of {byte_range.size}: the server does not support requests of ranges"
        )
        raise UnreadableMedia(byte_range.url, reason)
    return content


def _answer_check(expected: FileVersion) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """Returns what compares an answer of a web server with a version; `_Replaced` is raised where it differs."""

    async def check(answer: Any) -> None:
        if answer.status not in (200, 206):
            return  # fsspec says what that means
        total = answer.headers.get("Content-Range", "").rpartition("/")[2]
        found = FileVersion(
            int(total) if total.isdecimal() else expected.size, version_of(answer.headers) or expected.version
        )
        if found != expected:
            answer.close()  # its content is not wanted
            raise _Replaced(expected, found)

    return check


@functools.lru_cache(maxsize=REMEMBERED_FILES)
def _require_same(url: str, expected: FileVersion) -> None:
    """Asks for the version of a remote file, once as long as it is the expected one.

    Raises:
        _Replaced: If it is another.
    """
    filesystem, path = remote_filesystem(url)
    information = filesystem.info(path)
    found = FileVersion(information["size"], version_of(information))
    if found != expected:
        raise _Replaced(expected, found)


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
    if is_missing(error):
        return "there is no such file"
    error = _actual(error)
    return f"cannot be read: {type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def is_missing(error: BaseException) -> bool:
    """Returns whether what could not be read from a URL is not there."""
    return isinstance(_actual(error), FileNotFoundError)


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
