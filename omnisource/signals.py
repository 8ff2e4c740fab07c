"""The signals that ask a command to stop, and the two ways of taking them: noted for a good moment, or at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Signals that end long work with what it has done kept.

SLURM warns with SIGUSR1, when told to. A terminal that is closed sends SIGHUP.
"""


class Interrupted(KeyboardInterrupt):
    """Work that was asked to stop, and has kept what it did until then.

    No `Exception`, because loading in this process takes any of those for a fault of the loader.

    Attributes:
        signal_number: The signal that asked.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signal_number).name}"


@contextlib.contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Yields a list to which `STOP_SIGNALS` are appended instead of ending the process at once.

    Raises:
        KeyboardInterrupt: At a second signal, if it is Ctrl-C.
    """
    received: list[int] = []

    def note(number: int) -> None:
        received.append(number)
        if len(received) > 1 and number == signal.SIGINT:  # a second Ctrl-C means it
            raise KeyboardInterrupt

    with _handled(note):
        yield received


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Makes `STOP_SIGNALS` end the block at once.

    Raises:
        Interrupted: At the signal, wherever the block is then.
    """

    def stop(number: int) -> None:
        raise Interrupted(number)

    with _handled(stop):
        yield


@contextlib.contextmanager
def _handled(handle: Callable[[int], None]) -> Iterator[None]:
    """Calls `handle` with the number of every stop signal; the handlers from before are back after the block."""

    def call(number: int, frame: FrameType | None) -> None:
        handle(number)

    before = {}
    with contextlib.suppress(ValueError):  # not the main thread: the caller handles signals
        for number in STOP_SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup: the work is to outlive its terminal
            before[number] = signal.signal(number, call)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
