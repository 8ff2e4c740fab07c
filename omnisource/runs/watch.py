"""`omnisource watch`: follows a run from another terminal by the files in its work dir, which it only reads."""

from __future__ import annotations

import re
import time
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from omnisource.files.tail import LineFollower
from omnisource.printing import show
from omnisource.reporting.lines import LOG, figures_line, progress_line, progress_text, short
from omnisource.reporting.terminal import open_console, plain_text
from omnisource.runs.read import Run, age, read_run, score
from omnisource.runs.table import STATE_STYLES

POLL_SECONDS = 0.5
"""Time from one look at the run to the next."""

LOG_BYTES = 4096
"""End of train.log that is shown first."""

STEP_LINE = re.compile(rb"\S+ \S+  epoch \d+  step \d+/\d+  loss ")
"""A plain line of steps, whose figures a terminal shows in the drawing below."""


def watch(folder: Path, is_once: bool) -> int:
    """Shows a run until it ends; returns 0 if it is complete, else 1.

    Args:
        folder: Work dir of the run.
        is_once: Whether to show its state once, and return 0.

    Raises:
        UserError: The folder holds no run.
    """
    run = read_run(folder)
    console = open_console()
    if is_once:
        _print(run, console)
        return 0
    log = LineFollower(folder / LOG, LOG_BYTES)
    if console.is_terminal and not console.is_dumb_terminal:
        run = _watch_live(run, log, console)
    else:
        run = _watch_plain(run, log, console)
    return 0 if _is_complete(run) else 1


def _watch_live(run: Run, log: LineFollower, console: Console) -> Run:
    """Keeps the state of the run at the bottom of the terminal, and prints messages of its log above it."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            for line in log.new_lines():
                if not STEP_LINE.match(line):
                    console.print(plain_text(line.decode(errors="replace")))
            live.update(_drawing(run, has_bar=True), refresh=True)
            if _is_over(run):
                return run
            time.sleep(POLL_SECONDS)
            run = read_run(run.path)


def _watch_plain(run: Run, log: LineFollower, console: Console) -> Run:
    """Prints the lines of the log as they come, and at the end the state of the run."""
    while True:
        for line in log.new_lines():
            show(line.decode(errors="replace"), flush=True)
        if _is_over(run):
            _print(run, console)
            return run
        time.sleep(POLL_SECONDS)
        run = read_run(run.path)


def _is_complete(run: Run) -> bool:
    """Returns whether a run has reached its end; without run.json, by its last step."""
    has_all_steps = run.step is not None and run.step == run.total_steps
    return run.state == "complete" or (run.state == "unknown" and has_all_steps)


def _is_over(run: Run) -> bool:
    """Returns whether nothing more is to be expected; of a run without run.json that cannot be known before its end."""
    return run.state not in ("running", "unknown") or _is_complete(run)


def _print(run: Run, console: Console) -> None:
    """Prints the state of a run, each line unbroken where there is no terminal."""
    console.print(_drawing(run, console.is_terminal), soft_wrap=not console.is_terminal)


def _drawing(run: Run, has_bar: bool) -> Group:
    """Returns the state of a run; a bar is as wide as the terminal."""
    parts: list[RenderableType] = [_state_line(run)]
    if run.reason:
        first, *more = run.reason.splitlines()
        parts.append(plain_text(f"{first} ... (the rest is in {LOG})" if more else first))
    if run.steps:
        last, pace = run.steps[-1], run.pace
        parts.append(progress_line(last, pace) if has_bar else plain_text(progress_text(last, pace)))
        parts.append(figures_line(last, pace))
    for validation in run.validations:
        figures = "  ".join(f"{name} {short(value)}" for name, value in validation.metrics.items())
        parts.append(plain_text(f"validation of {validation.source} at step {validation.step}: {figures}"))
    if run.best_score is not None:
        parts.append(plain_text(f"best top-1 of {run.main_source}: {score(run)}", "bold"))
    parts += [plain_text(fault, "red") for fault in run.faults]
    return Group(*parts)


def _state_line(run: Run) -> Text:
    line = plain_text(f"{run.path}  ", "bold")
    line.append(run.state, STATE_STYLES[run.state])
    if run.activity not in ("", "training"):
        line.append(f", {run.activity}")
    line.append(f"  last heartbeat {age(run.age_seconds)} ago", "dim")
    return line
