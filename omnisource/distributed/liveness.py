"""Whether a process is still there: of this machine by its number and its start, since numbers are reused."""

from __future__ import annotations

import os
from pathlib import Path


def this_machine() -> str:
    """Returns what tells this machine since its start, and the container we are in, from others; "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_start(process_id: int) -> str | None:
    """Returns when a process started, in ticks since the machine did; None if there is none, or it has ended."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    state, start = fields[0], fields[19]
    return None if state in "ZXx" else start


def is_process_alive(process_id: int, start: str, machine: str) -> bool | None:
    """Returns whether a process still runs; None where that cannot be seen from here.

    Args:
        process_id: Its number.
        start: Its `process_start`.
        machine: `this_machine` of the process.
    """
    if not machine or machine != this_machine():
        return None
    found = process_start(process_id)
    if found is not None:
        return found == start
    try:
        os.kill(process_id, 0)  # sends nothing
    except PermissionError:  # it is another user's, and hidden
        return None
    except (OSError, OverflowError):
        return False
    return False  # it has ended, and whoever started it has not noticed
