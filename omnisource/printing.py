"""What the program prints: text that no name can drive a terminal with, and streams that cannot be written to any more.

Everything that goes to standard output or standard error goes through here; tables, bars and colors through the console
of `omnisource.reporting.terminal`, which has the same rules.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from omnisource.errors import adding_path

STANDARD_OUTPUT, STANDARD_ERROR = "standard output", "standard error"
"""How errors name the streams."""

# What a terminal acts on: control characters but for tab and newline, separators of lines, marks that turn the order of
# what follows. And surrogates: they stand for bytes of file names that are no text.
_ACTED_ON = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""Returns text as it may be printed: what a terminal acts on and what the encoding has not are shown escaped.

    Lines and tabs stay. From U+007F on, what is escaped is written as \uXXXX, so that JSON stays what it was.
    """
    text = _ACTED_ON.sub(_escaped, text)
    try:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:  # a stream of somebody's own
        return text


def printable_name(name: str) -> str:
    """Returns the name of a file or a class as it may be printed, in one line."""
    return printable(name.replace("\n", "\\n").replace("\t", "\\t"))


def show(*lines: str, file: TextIO | None = None, flush: bool = False) -> None:
    """Prints what a command was asked for, to standard output unless a file is given.

    It comes last: what was worked for is written by then.

    Raises:
        OSError: If it cannot be written, BrokenPipeError where nobody reads it any more; it names the stream.
    """
    stream = sys.stdout if file is None else file
    if stream is None:
        return
    with adding_path(STANDARD_ERROR if stream is sys.stderr else STANDARD_OUTPUT):
        for line in lines:
            print(printable(line, getattr(stream, "encoding", None) or "utf-8"), file=stream)
        if flush:
            stream.flush()


def show_json(value: Any, indent: int | None = None, file: TextIO | None = None, *, flush: bool = False) -> None:
    """Prints plain data as JSON; raises as `show` does."""
    encoding = getattr(sys.stdout if file is None else file, "encoding", None) or "utf-8"
    # What is escaped for want of an encoding would be Python's way of writing it, which is no JSON.
    is_unicode = encoding.lower().startswith("utf")
    text = json.dumps(value, indent=indent, ensure_ascii=not is_unicode)
    show(text, file=file, flush=flush)


def notice(text: str, file: TextIO | None = None) -> None:
    """Prints what is met in the course of work, which goes on where nobody reads that; to standard error, or a file."""
    with contextlib.suppress(OSError, ValueError):
        show(text, file=sys.stderr if file is None else file, flush=True)


def open_streams() -> None:
    """Makes the standard streams such that any text can be printed, also where some of them were closed."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened would get the number, and what is printed
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(nowhere, True)
    # Python has no object for a stream that was closed when it started.
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 (open to the end of the program)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # File names are bytes: one that is no text here is shown escaped, and must not end the command.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def flushed_output() -> Iterator[None]:
    """Has what the block prints written at its end, also where argparse leaves it with SystemExit.

    Raises:
        OSError: As `show`.
    """
    try:
        yield
    except SystemExit:
        show(flush=True)
        raise
    show(flush=True)


def settle_streams() -> None:
    """Sends nowhere what the streams still hold and cannot write.

    It would fail once more at the end of the program, with words of the interpreter and exit code 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            send_nowhere(stream)


def send_nowhere(stream: Any) -> None:
    """Sends nowhere what a stream still holds, and what will be written to it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no descriptor, or none any more
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x7F else f"\\u{code:04x}"
