"""Notices a device that waits for its data, and says what to change."""

from __future__ import annotations

from collections import deque

from omnisource.reporting.metrics_file import StepRecord

HIGHEST_SHARE = 0.25
"""Share of the time that may be spent waiting for data without a word."""

WINDOW_STEPS, WINDOW_SECONDS, LEAST_STEPS = 100, 300.0, 10
"""What is judged: the last 100 steps, or 5 minutes of at least 10 steps."""

WARM_UP_STEPS = 10
"""First steps of a process, which wait for the workers to start."""

SILENT_SECONDS = 1800.0
"""Training time from one warning to the next."""


class Starvation:
    """Watches the steps of one process.

    Args:
        num_workers: Loading processes of each training process.
        local_processes: Training processes on this machine.
        cores: Processor cores that they may use.
    """

    def __init__(self, num_workers: int, local_processes: int, cores: int) -> None:
        self._num_workers = num_workers
        self._local_processes = local_processes
        self._cores = cores
        self._seen_steps = 0
        self._times: deque[tuple[float, float]] = deque()  # (step_seconds, data_seconds) of the window
        self._silent_until_seconds = 0.0
        self._trained_seconds = 0.0

    def add(self, record: StepRecord) -> str | None:
        """Takes a step into account; returns a warning if too much of the last steps was waiting, else None."""
        self._seen_steps += 1
        self._trained_seconds += record.step_seconds
        if self._seen_steps <= WARM_UP_STEPS:
            return None
        self._times.append((record.step_seconds, record.data_seconds))
        if len(self._times) > WINDOW_STEPS:
            self._times.popleft()
        if self._trained_seconds < self._silent_until_seconds:
            return None
        seconds, waiting = (sum(times) for times in zip(*self._times, strict=True))
        is_full = len(self._times) == WINDOW_STEPS or (seconds >= WINDOW_SECONDS and len(self._times) >= LEAST_STEPS)
        if not is_full or waiting <= HIGHEST_SHARE * seconds:
            return None
        self._silent_until_seconds = self._trained_seconds + SILENT_SECONDS
        return (
            f"warning: {waiting / seconds:.0%} of the time of the last {len(self._times)} steps went into waiting for "
            f"data; {self._advice()}"
        )

    def _advice(self) -> str:
        """Returns what to change, with the numbers of this machine."""
        have = f"num_workers is {self._num_workers}"
        if self._local_processes > 1:
            have += f" for each of {self._local_processes} processes"
        cores = "1 core" if self._cores == 1 else f"{self._cores} cores"
        affordable = self._cores // self._local_processes
        smaller = "`omnisource prepare` makes files that decode faster; a disk that is closer reads faster"
        if self._num_workers < affordable:
            return f"{have}, on {cores}: raise it, up to num_workers={affordable} where the cores are idle. {smaller}"
        return f"{have}, and there are no more than {cores}, so more workers would not help. {smaller}"
