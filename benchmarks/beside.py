"""Two ways to do the same work, timed in turn: what every part of `beside_peer.py` prints."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What was done.
        peer: Seconds of the processor that the peer took, one a round; bytes where `unit` says so.
        ours: What ours took in the same rounds.
        unit: "s" or "MB".
    """

    name: str
    peer: Sequence[float]
    ours: Sequence[float]
    unit: str = "s"


def in_turn(name: str, peer: Callable[[], object], ours: Callable[[], object], rounds: int) -> Row:
    """Returns the processor seconds of both sides, in turn, after a round that is not counted.

    Who begins changes from round to round, so that neither always finds the caches of the other.
    """
    seconds: dict[Callable[[], object], list[float]] = {peer: [], ours: []}
    for number in range(rounds + 1):
        for work in (peer, ours) if number % 2 else (ours, peer):
            start = time.process_time()
            work()
            if number:
                seconds[work].append(time.process_time() - start)
    return Row(name, seconds[peer], seconds[ours])


def print_table(rows: Sequence[Row]) -> None:
    """Prints medians, and the median of the ratios round by round: above 1 ours takes less."""
    print("| work | peer | ours | peer / ours |\n| --- | --- | --- | --- |")
    for row in rows:
        peer, ours = (_text(statistics.median(values), row.unit) for values in (row.peer, row.ours))
        ratio = statistics.median(theirs / mine for theirs, mine in zip(row.peer, row.ours, strict=True))
        print(f"| {row.name} | {peer} | {ours} | {ratio:.2f} |", flush=True)


def _text(value: float, unit: str) -> str:
    if unit == "MB":
        return f"{value / 1e6:.0f} MB"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"
