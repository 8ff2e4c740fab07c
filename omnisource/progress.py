"""A progress bar for long work: rate and time left in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_INTERVAL_SECONDS = 15.0
"""Time from one plain line to the next."""


class RateColumn(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        """Returns the current rate as text."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s", style="progress.data.speed")


@contextlib.contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[], None]]:
    """Yields a function to be called once for every item done.

    The bar goes to standard error, so that what a command prints can be piped on.
    """
    console = Console(file=sys.stderr)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task(description, total=total)
            yield lambda: bar.advance(task)
        return

    started = last_line = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, last_line
        done += 1
        now = time.monotonic()
        if done == total or now - last_line >= PLAIN_INTERVAL_SECONDS:
            last_line = now
            rate = done / max(now - started, 1e-9)
            left = (total - done) / rate
            print(f"{description}: {done}/{total}, {rate:.1f}/s, {left:.0f} s left", file=sys.stderr, flush=True)

    yield advance


@contextlib.contextmanager
def counted_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function to be called with (done, total); the bar appears with its first call."""
    with contextlib.ExitStack() as stack:
        advance: Callable[[], None] | None = None
        shown = 0

        def update(done: int, total: int) -> None:
            nonlocal advance, shown
            if advance is None:
                advance = stack.enter_context(progress_bar(description, total))
            for _ in range(shown, done):
                advance()
            shown = max(shown, done)

        yield update
