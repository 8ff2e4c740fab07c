"""The errors that a user can cause and mend."""

from __future__ import annotations


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
        return f"{self.path}: {self.reason}"


def shortened(lines: list[str], limit: int = 20) -> str:
    """Returns `lines` joined by newlines, cut to one screen; the last line counts what was left out."""
    if len(lines) <= limit:
        return "\n".join(lines)
    return "\n".join([*lines[:limit], f"... and {len(lines) - limit} more"])
