"""The console that shows text as it is, and what is drawn in a terminal while a program works: lines at its foot."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from omnisource.errors import adding_path
from omnisource.printing import STANDARD_OUTPUT, printable, printable_name, send_nowhere

REFRESH_SECONDS = 0.2
"""Time from one drawing to the next."""


class _Console(Console):
    """A console with the rules of `omnisource.printing`."""

    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str(printable(text, self.encoding), **settings)

    def print(self, *objects: Any, **settings: Any) -> None:
        with adding_path(STANDARD_OUTPUT):
            super().print(*objects, **settings)

    def on_broken_pipe(self) -> None:
        raise  # the error that is being handled; rich would end the program here, with code 1


def open_console(file: TextIO | None = None) -> Console:
    """Returns a console that shows text as it is: names may hold what rich takes for colors, links or emoji.

    Args:
        file: Where it writes. None: standard output.
    """
    return _Console(file=file, markup=False, emoji=False, highlight=False)


def plain_text(text: str, style: str = "") -> Text:
    """Returns text for a console, in one line."""
    return Text(printable_name(text), style)


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
        line = printable(line, console.encoding)
        console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def quiet_if_gone(console: Console) -> Iterator[None]:
    """Lets a console go quiet for good that cannot be written to; the block does nothing but write to it.

    The reader of a pipe has ended, or a terminal is lost: no reason to end a run, whose log has the same lines.
    """
    try:
        yield
    except (OSError, SystemExit):  # rich leaves the program where a pipe has no reader
        console.quiet = True
        send_nowhere(console.file)  # or what it still holds would fail once more at the end of the program


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
