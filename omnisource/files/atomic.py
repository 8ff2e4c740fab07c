"""Files that are written whole or not at all, whatever ends the process."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from omnisource.errors import adding_path

UNFINISHED = ".tmp"
"""End of the names of files that are being written, or that an ended process left."""

_TOKEN_BYTES = 8
_UNFINISHED_NAME = re.compile(rf".+\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}{re.escape(UNFINISHED)}")


@contextlib.contextmanager
def atomic_path(path: Path, *, sync: bool = True, unfinished_in: Path | None = None) -> Iterator[Path]:
    """Yields the name of a file to be made, which takes the place of `path` once it is whole and on the disk.

    If the block raises, nothing has changed. Processes that write the same path do not meet: the last one counts.

    Args:
        path: The file.
        sync: Whether to wait for the disk. Without it, a machine that loses its power can leave an empty file: for
            what is written often, and missed by nobody.
        unfinished_in: Folder of the file as long as it is written, on the same disk; that of `path` unless given.

    Raises:
        OSError: If the folder cannot be written to, or the disk is full; it names the file.
    """
    # Not by the process id: processes of other machines, and in other containers, may have the same one.
    unfinished = (unfinished_in or path.parent) / f"{path.name}.{secrets.token_hex(_TOKEN_BYTES)}{UNFINISHED}"
    try:
        with adding_path(path):
            yield unfinished
            if sync:
                _sync(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


@contextlib.contextmanager
def atomic_write(path: Path, *, sync: bool = True, unfinished_in: Path | None = None) -> Iterator[BinaryIO]:
    """Yields a file to be written, which takes the place of `path` once it is whole; as `atomic_path` says.

    Raises:
        OSError: If the folder cannot be written to, or the disk is full; it names the file.
    """
    with atomic_path(path, sync=sync, unfinished_in=unfinished_in) as unfinished, open(unfinished, "xb") as file:
        yield file


def require_folder_of(path: Path) -> None:
    """Checks before long work that a file can be made: that its folder is there, and may be written to.

    Raises:
        OSError: It is not, or may not; it names the folder.
    """
    if not path.parent.is_dir():
        raise NotADirectoryError(errno.ENOENT, f"there is no such folder, which {path.name} is to lie in", path.parent)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path.parent)


def remove_unfinished(folder: Path) -> None:
    """Removes what killed processes left half written in a folder; a folder that is missing holds nothing."""
    for path in folder.glob(f"*{UNFINISHED}"):
        if _UNFINISHED_NAME.fullmatch(path.name):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder last as well; where it cannot be synced, as on some network disks, it is not."""
    with contextlib.suppress(OSError):
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
