"""What it costs a run to be watched, and what it costs to watch: processor time, for machines that others use too.

python benchmarks/watching.py
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from omnisource.evaluation.examples import Example, draw_examples
from omnisource.reporting.metrics_file import METRICS
from omnisource.reporting.records import StepRecord, metrics_line
from omnisource.reporting.report import ReportSettings, open_report
from omnisource.reporting.starvation import Starvation
from omnisource.reporting.status_file import note_complete
from omnisource.runs.read import read_run

LONG_RUN_STEPS = 500_000
MANY_RUNS = 200


def record(step: int) -> StepRecord:
    return StepRecord(
        step=step,
        epoch=1 + step // 1875,
        losses={"clips": 3 / step, "images": 1 / 3},
        total_loss=3 / step + 1 / 3,
        learning_rate=0.1 / step,
        gradient_norm=2**0.5,
        step_seconds=0.5 + 1 / step,
        data_seconds=0.01 / step,
        samples={"clips": 128, "images": 680},
        total_steps=LONG_RUN_STEPS,
        samples_digest="0123456789abcdef",
    )


def milliseconds(function: Callable[[int], object], repeats: int) -> float:
    """Returns the processor time of a call in this thread, in milliseconds: the mean over the calls."""
    started = time.thread_time()
    for number in range(repeats):
        function(number)
    return 1000 * (time.thread_time() - started) / repeats


def command_seconds(arguments: list[str]) -> float:
    """Returns the processor time of a command from its start to its end, in seconds: the median of five."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    )
    command = [sys.executable, "-c", code, sys.executable, "-m", "omnisource", *arguments]
    return statistics.median(
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(5)
    )


def print_row(name: str, amount: float, unit: str) -> None:
    print(f"| {name} | {amount:.3g} {unit} |", flush=True)


def write_long_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text('{"main_source": "clips"}\n')
    with (folder / METRICS).open("w") as file:
        for step in range(1, LONG_RUN_STEPS + 1):
            file.write(metrics_line(record(step)) + "\n")


def main() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    examples = [Example(picture, label=number % 2, prediction=1, score=0.5) for number in range(16)]
    print("| | processor time |\n| --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for tensorboard in (False, True):
            console = Console(file=io.StringIO(), force_terminal=False)
            settings = ReportSettings(interval_steps=20, tensorboard=tensorboard)
            report = open_report(folder / str(tensorboard), 0, settings, console)
            report.step(record(1))  # opens what is opened once
            words = "with" if tensorboard else "without"
            spent = milliseconds(lambda number, report=report: report.step(record(number + 2)), 5000)
            print_row(f"reporting a step, {words} tensorboard", spent, "ms")
            report.close()
        starvation = Starvation(num_workers=8, local_processes=1, cores=8)
        print_row(
            "of it, watching for a device that waits", milliseconds(lambda n: starvation.add(record(1)), 5000), "ms"
        )
        draw_examples(examples, ["left", "right"])  # imports matplotlib
        print_row(
            "drawing 16 examples", milliseconds(lambda number: draw_examples(examples, ["left", "right"]), 10), "ms"
        )
        long_run = folder / "runs/long"
        write_long_run(long_run)
        size = (long_run / METRICS).stat().st_size / 1e6
        for words in ("without", "with"):
            if words == "with":
                note_complete(long_run, LONG_RUN_STEPS, None, None)
            spent = milliseconds(lambda number: read_run(long_run), 20)
            print_row(f"reading a run of {LONG_RUN_STEPS} steps ({size:.0f} MB), {words} run.json", spent, "ms")
        print_row("`omnisource runs`, this run", command_seconds(["runs", str(folder / "runs")]), "s")
        for number in range(MANY_RUNS):
            with open_report(folder / f"runs/run_{number}", 0, ReportSettings(tensorboard=False), console) as short:
                for step in range(1, 101):
                    short.step(record(step))
        print_row(f"`omnisource runs`, {MANY_RUNS + 1} runs", command_seconds(["runs", str(folder / "runs")]), "s")


if __name__ == "__main__":
    main()
