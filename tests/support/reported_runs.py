"""Runs that are reported as training reports them, without training."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from omnisource.reporting.records import StepRecord
from omnisource.reporting.report import Report, ReportSettings
from omnisource.reporting.report import open_report as open_report_of_rank

PROJECT = Path(__file__).resolve().parents[2]
TOTAL_STEPS = 40

BEGINNING = """
import sys, time
from pathlib import Path
from omnisource.errors import UserError
from tests.support.reported_runs import open_report, record, wait_for
run, go = Path(sys.argv[1]), Path(sys.argv[1] + ".go")
"""
"""What the code of `reporting_process` can use."""


def record(step: int, **changes: object) -> StepRecord:
    """Returns what a step of two sources tells: half a second, a tenth of it waiting; 50 samples a second."""
    values = {
        "step": step,
        "epoch": 1 + (step - 1) // 20,
        "losses": {"clips": 3.0 / step, "images": 1.0},
        "total_loss": 3.0 / step + 1.0,
        "learning_rate": 0.1,
        "gradient_norm": 2.5,
        "step_seconds": 0.5,
        "data_seconds": 0.05,
        "samples": {"clips": 4, "images": 21},
        "total_steps": TOTAL_STEPS,
    }
    return StepRecord(**{**values, **changes})  # type: ignore[arg-type]


def open_report(work_dir: Path, resumed_step: int | None = None) -> Report:
    """Returns a report that shows nothing on the screen and writes no curves."""
    work_dir.mkdir(parents=True, exist_ok=True)
    (work_dir / "recipe.json").write_text('{"main_source": "clips"}\n')
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    settings = ReportSettings(total_steps=TOTAL_STEPS, resumed_step=resumed_step, tensorboard=False)
    return open_report_of_rank(work_dir, 0, settings, console)


def write_run(work_dir: Path, steps: int = TOTAL_STEPS) -> Path:
    """Reports a run with a validation every 20 steps, top-1 step/100; returns its folder."""
    with open_report(work_dir) as report:
        for step in range(1, steps + 1):
            report.step(record(step))
            if step % 20 == 0:
                report.validation(step, step // 20, "clips", {"top1": step / 100, "count": 30})
                report.best(step / 100, step)
    return work_dir


def wait_for(path: Path) -> None:
    """Waits until there is a file."""
    deadline = time.monotonic() + 100
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


@contextmanager
def reporting_process(run: Path, code: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yields a process that reports to `run` as `code` says, and can wait for `go`: the file `RUN.go`."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen([sys.executable, "-c", BEGINNING + code, str(run)], env=environment)
    try:
        wait_for(run / "metrics.jsonl")
        yield process
    finally:
        process.kill()
        process.wait()


def let_go(run: Path) -> None:
    """Lets the process of a run go on that waits for `go`."""
    Path(f"{run}.go").touch()
