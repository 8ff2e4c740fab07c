"""Reports without a run, and what they wrote."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from omnisource.reporting.records import StepRecord
from omnisource.reporting.report import Report, ReportSettings, open_report
from omnisource.reporting.status_file import RunStatus, read_status


def record(step: int, total_steps: int = 40, **changes: object) -> StepRecord:
    """Returns what a step of two sources tells; its losses are all different."""
    values = {
        "step": step,
        "epoch": 1 + step // 20,
        "losses": {"clips": 3 / (step + 2), "images": 1 / 3 + step},
        "total_loss": 3 / (step + 2) + 1 / 3 + step,
        "learning_rate": 0.1 / step,
        "gradient_norm": 2.0**0.5,
        "step_seconds": 0.5,
        "data_seconds": 0.1,
        "samples": {"clips": 4, "images": 21},
        "total_steps": total_steps,
    }
    return StepRecord(**{**values, **changes})  # type: ignore[arg-type]


def plain_console() -> Console:
    """Returns a console without a terminal, which keeps what it shows."""
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def opened(work_dir: Path, console: Console | None = None, **settings: object) -> Report:
    """Returns the report of the first process of a run; its console keeps what it shows."""
    return open_report(work_dir, 0, ReportSettings(**settings), console or plain_console())  # type: ignore[arg-type]


def shown(console: Console) -> str:
    """Returns what a console has been given."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def status_of(work_dir: Path) -> RunStatus:
    """Returns the content of run.json."""
    status = read_status(work_dir)
    assert status is not None
    return status


def lines_of(path: Path) -> list[dict]:
    """Returns the content of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_steps(work_dir: Path, first: int, last: int, **options: object) -> Console:
    """Reports steps `first` to `last`, with a validation every 20; returns the console."""
    console = plain_console()
    with opened(work_dir, console=console, tensorboard=False, **options) as report:  # type: ignore[arg-type]
        for step in range(first, last + 1):
            report.step(record(step))
            if step % 20 == 0:
                report.validation(step, step // 20, "clips", {"top1": step / 100, "count": 30})
    return console
