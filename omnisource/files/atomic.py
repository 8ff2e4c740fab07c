"""Files that are written whole or not at all, whatever ends the process."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from omnisource.errors import naming

UNFINISHED = ".tmp"
"""End of the names of files that are being written, or that an ended process left."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yields a file to be written, which takes the place of `path` once it is whole and on the disk.

    If the block raises, nothing has changed. Processes that write the same path do not meet: the last one counts.

    Raises:
        OSError: If the folder cannot be written to, or the disk is full; it names the file.
    """
    # Not by the process id: processes of other machines, and in other containers, may have the same one.
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}{UNFINISHED}")
    try:
        with naming(path), open(unfinished, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder last as well; where it cannot be synced, as on some network disks, it is not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
