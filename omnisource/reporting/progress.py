"""The progress bar of long work: rate and time left in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.table import Table

from omnisource.reporting.lines import bar_line, clock, short
from omnisource.reporting.terminal import Foot, open_console, show_line

PLAIN_INTERVAL_SECONDS = 15.0
"""Time from one plain line to the next."""

WINDOW_SECONDS = 300.0
"""Time over which the rate is taken: files of one data set can differ a thousandfold."""

_MARK_SECONDS = 1.0  # from one point of the window to the next


@dataclass(frozen=True)
class Progress:
    """How far some work is.

    Attributes:
        description: What is done, in a few words.
        done: Items done.
        total: Items to do, with these.
        unit: What the items are, in the plural.
        failed: Those of the done ones that failed.
        share: Share of the work that is done, 0 to 1.
        rate: What is done in a second, with its unit.
        seconds_left: Time that the rest takes at this rate; None where nothing is done yet.
    """

    description: str
    done: int
    total: int
    unit: str
    failed: int
    share: float
    rate: str
    seconds_left: float | None

    def __str__(self) -> str:
        return f"{self._counts}  {self._times}"

    def line(self) -> Table:
        """Returns the same with a bar, as wide as a terminal."""
        return bar_line(self._counts, self.share, f"{self.share:.0%}  {self._times}")

    @property
    def _counts(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.description}  {self.done}/{self.total} {self.unit}{failed}"

    @property
    def _times(self) -> str:
        left = "-" if self.seconds_left is None else clock(self.seconds_left)
        return f"{self.rate}  {left} left"


class Counter:
    """Counts what is done, and says how far the work is.

    Args:
        description: What is done, in a few words.
        total: Items to do.
        unit: What the items are, in the plural.
        num_bytes: Bytes of all items, where rate and time left are to follow from these. 0: from the items.
    """

    def __init__(self, description: str, total: int, unit: str = "items", num_bytes: int = 0) -> None:
        self.total = total
        self.done = 0
        self._description = description
        self._unit = unit
        self._num_bytes = num_bytes
        self._done_bytes = self._failed = 0
        self._marks = deque([(time.monotonic(), 0)])  # (time, amount done), from the beginning of the window on

    def advance(self, num_bytes: int = 0, has_failed: bool = False) -> None:
        """Counts one item: its bytes, and whether it failed."""
        self.done += 1
        self._done_bytes += num_bytes
        self._failed += has_failed

    def progress(self) -> Progress:
        """Returns how far the work is."""
        amount, whole = (self._done_bytes, self._num_bytes) if self._num_bytes else (self.done, self.total)
        per_second = self._per_second(amount)
        return Progress(
            description=self._description,
            done=self.done,
            total=self.total,
            unit=self._unit,
            failed=self._failed,
            share=amount / whole if whole else 1.0,
            rate=_rate(per_second / 1e6, "MB") if self._num_bytes else _rate(per_second, self._unit),
            seconds_left=(whole - amount) / per_second if per_second else None,
        )

    def _per_second(self, amount: int) -> float:
        now = time.monotonic()
        while len(self._marks) > 1 and self._marks[1][0] <= now - WINDOW_SECONDS:
            self._marks.popleft()
        began, before = self._marks[0]
        if now - self._marks[-1][0] >= _MARK_SECONDS:
            self._marks.append((now, amount))
        return (amount - before) / max(now - began, 1e-9)


@contextlib.contextmanager
def progress_bar(
    description: str, total: int, unit: str = "items", num_bytes: int = 0
) -> Iterator[Callable[..., None]]:
    """Yields a function to be called once for every item done; its arguments are those of `Counter.advance`.

    The bar goes to standard error, so that what a command prints can be piped on.

    Args:
        description: What is done, in a few words.
        total: Items to do.
        unit: What the items are, in the plural.
        num_bytes: Bytes of all items, where rate and time left are to follow from these. 0: from the items.
    """
    counter = Counter(description, total, unit, num_bytes)
    console = open_console(sys.stderr)
    foot = Foot(console) if console.is_terminal else None
    shown_at = time.monotonic()

    def advance(num_bytes: int = 0, has_failed: bool = False) -> None:
        nonlocal shown_at
        counter.advance(num_bytes, has_failed)
        is_last = counter.done == counter.total
        if foot is not None:
            if is_last or foot.is_due:
                foot.draw(counter.progress().line())
        elif is_last or time.monotonic() - shown_at >= PLAIN_INTERVAL_SECONDS:
            shown_at = time.monotonic()
            show_line(console, str(counter.progress()))

    try:
        if foot is not None and total:
            foot.draw(counter.progress().line())
        yield advance
    finally:
        if foot is not None:
            foot.stop()


@contextlib.contextmanager
def counted_progress(description: str, unit: str = "items") -> Iterator[Callable[[int, int], None]]:
    """Yields a function to be called with (done, total); the bar appears with its first call."""
    with contextlib.ExitStack() as stack:
        advance: Callable[[], None] | None = None
        shown = 0

        def update(done: int, total: int) -> None:
            nonlocal advance, shown
            if advance is None:
                advance = stack.enter_context(progress_bar(description, total, unit))
            for _ in range(shown, done):
                advance()
            shown = max(shown, done)

        yield update


def _rate(per_second: float, unit: str) -> str:
    # Lists are looked through at tens of thousands of lines a second, which `short` would write as 3.341e+04.
    return f"{short(per_second) if per_second < 10_000 else format(per_second, '.0f')} {unit}/s"
