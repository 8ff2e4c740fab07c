"""`omnisource compare`: runs the variants of an experiment and compares them."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omnisource.cli.arguments import default_work_dir, path, path_text, positive
from omnisource.printing import notice, show
from omnisource.signals import Interrupted

if TYPE_CHECKING:
    from omnisource.compare.experiment import Experiment
    from omnisource.compare.run import Runner


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource compare`."""
    compare = commands.add_parser("compare", help="run the variants of an experiment, and compare them")
    compare.add_argument(
        "experiment", metavar="EXPERIMENT.py", type=path_text, help="Python file that builds `experiment`"
    )
    compare.add_argument("--work-dir", type=path, help="where it goes (work_dirs/NAME OF THE EXPERIMENT)")
    compare.add_argument("--jobs", type=positive, default=1, metavar="N", help="runs at a time (%(default)s)")
    compare.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="do the I-th of N parts, from 1; by default what torchrun or a SLURM array says",
    )
    instead = compare.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="list the runs and what they cost; write nothing")
    instead.add_argument("--results", action="store_true", help="write the results of what is done; train nothing")
    compare.set_defaults(command=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from omnisource.compare.experiment import Experiment
    from omnisource.compare.forecast import print_plan
    from omnisource.compare.job_files import last_error
    from omnisource.compare.run import Runner, Share, check_recipes
    from omnisource.recipe.loading import load_config

    experiment = load_config(arguments.experiment, Experiment, "experiment")
    folder = arguments.work_dir or default_work_dir(arguments.experiment)
    index, count = arguments.shard or shard_of_environment()
    runner = Runner(experiment, folder, Share(arguments.jobs, index, count))
    check_recipes(runner)
    if arguments.dry_run:
        print_plan(runner)
        return 0
    if arguments.results:
        _write_results(experiment, runner, folder)
        return 0
    try:
        runner.run()
    except Interrupted as stop:
        notice("stopped; the same command goes on from here, and --results writes what is done", sys.stdout)
        return 128 + stop.signal_number
    for name, log in runner.failed.items():
        show(f"failed: {name}: {last_error(log)}", f"  log: {log}")
    if index == 0:
        _write_results(experiment, runner, folder)
    return 1 if runner.failed else 0


def _write_results(experiment: Experiment, runner: Runner, folder: Path) -> None:
    """Writes what is there of a comparison, and its page; there is none where no run is done."""
    from omnisource.compare.results import write_comparison
    from omnisource.report.comparison import COMPARISON
    from omnisource.report.write import write_page_after

    write_comparison(experiment, runner, folder)
    if (folder / COMPARISON).exists():
        write_page_after(folder)


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text}: wants I/N with I from 1 to N, such as 1/4")
    return int(found[1]) - 1, int(found[2])


def shard_of_environment() -> tuple[int, int]:
    """Returns (index, count) of torchrun or of a SLURM array; all of it where neither started us."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        first = int(os.environ.get("SLURM_ARRAY_TASK_MIN", "0"))
        step = int(os.environ.get("SLURM_ARRAY_TASK_STEP", "1"))
        count = int(os.environ["SLURM_ARRAY_TASK_COUNT"])
        return (int(os.environ["SLURM_ARRAY_TASK_ID"]) - first) // step % count, count  # arrays may have gaps
    return 0, 1
