"""What is drawn in a terminal while a program works: lines at its foot, and the console that nobody reads any more."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live

REFRESH_SECONDS = 0.2
"""Time from one drawing to the next."""


class Foot:
    """Lines at the foot of a terminal, which are redrawn in place; what is printed meanwhile passes above them.

    It starts no thread: whoever does the work draws, where `is_due`.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        # What a command prints into a pipe must go on going there.
        shows_output, shows_errors = _is_terminal(sys.stdout), _is_terminal(sys.stderr)
        self._live = Live(
            console=console, auto_refresh=False, redirect_stdout=shows_output, redirect_stderr=shows_errors
        )
        self._drawn_at = -float("inf")

    @property
    def is_due(self) -> bool:
        """Returns whether the last drawing is old enough for the next one."""
        return time.monotonic() - self._drawn_at >= REFRESH_SECONDS

    def draw(self, *lines: RenderableType) -> None:
        """Draws these lines instead of the last ones."""
        self._drawn_at = time.monotonic()
        with quiet_if_gone(self._console):
            if not self._live.is_started:
                self._live.start()
            self._live.update(Group(*lines), refresh=True)

    def stop(self) -> None:
        """Leaves the lines as they stand and gives the terminal back; stopping twice does nothing more."""
        with quiet_if_gone(self._console):
            self._live.stop()


def show_line(console: Console, line: str) -> None:
    """Shows a line as it is, without colors and not wrapped: a file or a pipe has no width."""
    with quiet_if_gone(console):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def quiet_if_gone(console: Console) -> Iterator[None]:
    """Lets a console go quiet for good that cannot be written to; the block does nothing but write to it.

    The reader of a pipe has ended, or a terminal is lost: no reason to end a run, whose log has the same lines.
    """
    try:
        yield
    except (OSError, SystemExit):  # rich leaves the program where a pipe has no reader
        console.quiet = True
        # What the stream still holds would fail once more at the end of the program, and make its exit code 120.
        with contextlib.suppress(OSError, ValueError):  # no descriptor, or none any more
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, console.file.fileno())
            os.close(nowhere)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
