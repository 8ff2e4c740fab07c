"""A progress bar for long work: rate and time left in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
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


@contextlib.contextmanager
def file_progress(description: str, num_files: int, num_bytes: int) -> Iterator[Callable[[int, bool], None]]:
    """Yields a function to be called for every file done, with its bytes and whether it failed.

    The time left follows from the bytes: files of one data set can differ a thousandfold.
    """
    console = Console(file=sys.stderr)
    started = last_line = time.monotonic()
    done = done_bytes = failed = 0

    def counts() -> str:
        return f"{done}/{num_files} files" + (f", {failed} failed" if failed else "")

    with contextlib.ExitStack() as stack:
        bar = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}: {task.fields[counts]}"), BarColumn(), DownloadColumn())
            rate = (TransferSpeedColumn(), TimeRemainingColumn())
            bar = stack.enter_context(Progress(*columns, *rate, console=console, speed_estimate_period=300))
            bar.add_task(description, total=num_bytes, counts=counts())

        def advance(size: int, has_failed: bool) -> None:
            nonlocal done, done_bytes, failed, last_line
            done, done_bytes, failed = done + 1, done_bytes + size, failed + has_failed
            now = time.monotonic()
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done_bytes, counts=counts())
            elif done == num_files or now - last_line >= PLAIN_INTERVAL_SECONDS:
                last_line = now
                rate = done_bytes / max(now - started, 1e-9)
                left = (num_bytes - done_bytes) / max(rate, 1e-9)
                speed = f"{rate / 1e6:.2f} MB/s, {left:.0f} s left"
                print(f"{description}: {counts()}, {speed}", file=sys.stderr, flush=True)

        yield advance
