"""The errors that a user can cause and fix."""

from __future__ import annotations

import contextlib
import errno
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


_MORE_PROCESSES = "let this user have more processes and threads (ulimit -u), or set num_workers lower"

_REMEDIES = {
    errno.EMFILE: "let a process have more of them (ulimit -n 4096), or set num_workers lower",
    errno.ENFILE: "end other programs, or set num_workers lower",
    errno.EAGAIN: _MORE_PROCESSES,
    errno.ENOMEM: "end other programs, or set num_workers or batch sizes lower",
    errno.EFBIG: "let files be larger (ulimit -f)",
    errno.ENOSPC: "make space there",
    errno.EDQUOT: "make space there",
    errno.EROFS: "choose another folder",
}
"""What to do about errors of the system that say too little by themselves."""


def describe_system_error(error: OSError | RuntimeError) -> str | None:
    """Returns what is wrong in one line: the file if the error names one, what the system says, and what to do.

    None for a RuntimeError, but for the one that Python raises where the system lets it start no thread.
    """
    if isinstance(error, RuntimeError):
        return f"{error}: {_MORE_PROCESSES}" if str(error) == "can't start new thread" else None
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is not None:
        reason = f"{os.fsdecode(error.filename)}: {reason}"
    elif isinstance(error, FileNotFoundError):
        reason = _missing_without_name(reason)
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{reason}: {remedy}" if remedy else reason


def _missing_without_name(reason: str) -> str:
    """Returns what is wrong where something without a name is missing: the current folder, or one for temporaries."""
    try:
        os.getcwd()
    except OSError:
        return "the current folder is gone: change to one that is there"
    return f"{reason}: set TMPDIR to a folder that can be written to" if "temporary" in reason else reason


def shortened(lines: list[str], limit: int = 20) -> str:
    """Returns `lines` joined by newlines, cut to one screen; the last line counts what was left out."""
    if len(lines) <= limit:
        return "\n".join(lines)
    return "\n".join([*lines[:limit], f"... and {len(lines) - limit} more"])
