"""The times after which the processes of a run give one another up: environment variables, read before all else."""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass

from omnisource.errors import UserError


@dataclass(frozen=True)
class WatchTimes:
    """Times in seconds. `OMNISOURCE_MEETING_SECONDS` sets `meeting_seconds`, and so on; alike for all processes.

    With these defaults a process that stands still for a minute ends nothing, and a process that is gone without a
    word ends all others within two and a half minutes.

    Attributes:
        meeting_seconds: Longest wait for the other processes to start.
        heartbeat_seconds: From one heartbeat of a process to the next, and from one look at the others to the next.
        silence_seconds: A process without a heartbeat for this long counts as gone.
        answer_seconds: Time that the store is given for an answer to a process that fails.
        grace_seconds: Time in which a process may end by itself, and save, once another has failed.
        saving_seconds: Further time for a process that is in the middle of saving when it would be ended.
        leaving_seconds: Longest time from the end of a process that has failed until it is gone.
    """

    meeting_seconds: float = 60.0
    heartbeat_seconds: float = 2.0
    silence_seconds: float = 90.0
    answer_seconds: float = 15.0
    grace_seconds: float = 10.0
    saving_seconds: float = 20.0
    leaving_seconds: float = 30.0


MIN_HEARTBEATS = 3
"""Heartbeats that must fit into the silence after which a process counts as gone."""


def read_watch_times() -> WatchTimes:
    """Returns the times that the environment sets, and the defaults of the others.

    Raises:
        UserError: If a variable is no number of seconds, or heartbeats come too seldom for the silence.
    """
    times = WatchTimes(**{field.name: _seconds(field.name) for field in dataclasses.fields(WatchTimes)})
    if times.silence_seconds < MIN_HEARTBEATS * times.heartbeat_seconds:
        raise UserError(
            f"{variable('silence_seconds')}={times.silence_seconds:g} with {variable('heartbeat_seconds')}="
            f"{times.heartbeat_seconds:g}: the silence must be at least {MIN_HEARTBEATS} heartbeats long"
        )
    return times


def variable(name: str) -> str:
    """Returns the environment variable that sets a field of `WatchTimes`."""
    return f"OMNISOURCE_{name.upper()}"


def _seconds(name: str) -> float:
    text = os.environ.get(variable(name), str(getattr(WatchTimes, name)))
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", text) or not float(text):
        raise UserError(f"{variable(name)}={text}: wants a number of seconds above 0")
    return float(text)
