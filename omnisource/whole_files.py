"""Files that are written whole or not at all, whatever ends the process."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".tmp"
"""End of the names of files that are being written, or that an ended process left."""


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Yields a file to be written, which takes the place of `path` once it is whole and on the disk.

    If the block raises, nothing has changed. Processes that write the same path do not meet: the last one counts.

    Raises:
        OSError: If the folder cannot be written to.
    """
    # Not by the process id: processes of other machines, and in other containers, may have the same one.
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}{UNFINISHED}")
    try:
        with open(unfinished, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the new name last as well; where a folder cannot be synced, as on some network disks, it is not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
