"""The folder for what can be made again: where it is, and what is removed from it."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from omnisource.errors import UserError
from omnisource.files.atomic import UNFINISHED
from omnisource.paths import NoHomeFolder, home_folder, with_home_folder

IN_USE_SECONDS = 30 * 86400
"""A file that was used in this time is never removed: a run may still map it."""


def cache_folder() -> Path | None:
    """Returns the folder: $OMNISOURCE_CACHE, or omnisource in the user's cache folder; None if there is no home folder.

    Raises:
        UserError: If the first is a path in a home folder that is not known.
    """
    if chosen := os.environ.get("OMNISOURCE_CACHE"):
        try:
            return Path(with_home_folder(chosen))
        except NoHomeFolder as error:
            raise UserError(f"OMNISOURCE_CACHE={error}") from error
    caches = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(caches):  # which the standard wants ignored. Source: XDG Base Directory Specification 0.8
        home = home_folder()
        if home is None:
            return None
        caches = os.path.join(home, ".cache")
    return Path(caches) / "omnisource"


def mark_used(path: Path) -> None:
    """Makes a file newer than those that were not used since."""
    with contextlib.suppress(OSError):  # a folder that can only be read
        os.utime(path)


def remove_old(folder: Path, suffix: str, kept: int) -> None:
    """Removes files that were not used for long, but for the newest ones.

    Args:
        folder: Holds them.
        suffix: End of their names; no other file is touched, but for what killed processes left unfinished.
        kept: Number of files that are kept, however old they are.
    """
    used: list[tuple[float, Path]] = []
    for path in [*folder.glob(f"*{suffix}"), *folder.glob(f"*{suffix}.*{UNFINISHED}")]:
        with contextlib.suppress(OSError):  # another process was faster
            used.append((path.stat().st_mtime, path))
    for seconds, path in sorted(used, reverse=True)[kept:]:
        if time.time() - seconds > IN_USE_SECONDS:
            path.unlink(missing_ok=True)
