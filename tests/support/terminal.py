"""Programs in a terminal of their own, as a person would start them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence

CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
REWRITTEN = re.compile(r"\r(?!\n)")
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"
"""What hides the cursor, and shows it again."""


class Terminal:
    """A terminal with one program in it.

    Attributes:
        raw: All that the program has written so far, with its control sequences.
    """

    def __init__(self, command: Sequence[str], columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "TERM": "xterm"},
            # A shell lets what it starts in the background ignore Ctrl-C, the tests perhaps and so all that they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(slave)
        self.raw = ""

    @property
    def text(self) -> str:
        """Returns what the program has written, without control sequences; a line written again is one more line."""
        return REWRITTEN.sub("\n", CONTROL.sub("", self.raw)).replace("\r", "")

    def read_until(self, is_enough: Callable[[str], bool], seconds: float = 100) -> None:
        """Reads until the text is enough, or the program has ended; fails the test after `seconds`."""
        deadline = time.monotonic() + seconds
        while not is_enough(self.text):
            assert time.monotonic() < deadline, self.text
            if not select.select([self._master], [], [], 0.2)[0]:
                continue
            try:
                part = os.read(self._master, 65536)
            except OSError:  # Linux's way to say that nobody has the other end any more
                return
            if not part:
                return
            self.raw += part.decode(errors="replace")

    def interrupt(self) -> None:
        """Does what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Reads to the end of the program; returns its exit code."""
        self.read_until(lambda text: False)
        return self._process.wait(timeout=100)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)
