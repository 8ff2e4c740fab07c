"""The errors that a user can cause and fix."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


class UserError(Exception):
    """A mistake in what the user gave: a config, a list, a file, a flag.

    The message says what was given, what is allowed and what to change, and names the file and the line where
    there is one. The command line prints it without a traceback and exits with code 2.
    """


class UnreadableMedia(UserError):
    """A video or an image that cannot be decoded.

    Attributes:
        path: The file, as it was given.
        reason: What is wrong with it, in one line.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)  # both arguments, so that the error survives pickling between processes
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        path = self.path.replace("\n", "\\n")  # a name may have line ends
        return f"{path}: {self.reason}"


def with_path(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """Returns an error of the system that names a file: as it is where it names one, and otherwise `path`.

    What fails on an open file, as writing does on a full disk, names none.
    """
    if error.filename is not None:
        return error
    return OSError(error.errno, error.strerror or str(error), os.fspath(path))


@contextlib.contextmanager
def adding_path(path: str | os.PathLike[str]) -> Iterator[None]:
    """Adds `path` to errors of the system that name no file.

    Raises:
        OSError: What the block raises, by `with_path`.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise with_path(error, path) from error


def shortened(lines: list[str], limit: int = 20) -> str:
    """Returns `lines` joined by newlines, cut to one screen; the last line counts what was left out."""
    if len(lines) <= limit:
        return "\n".join(lines)
    return "\n".join([*lines[:limit], f"... and {len(lines) - limit} more"])
