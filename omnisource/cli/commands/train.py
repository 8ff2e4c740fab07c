"""`omnisource train`: trains a recipe, and says how to continue a run that was stopped."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from omnisource.cli.arguments import (
    add_config,
    add_overrides,
    default_work_dir,
    load_recipe,
    non_negative,
    path,
    resumed,
)
from omnisource.printing import notice
from omnisource.signals import Interrupted, stopped_by_signals


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource train`."""
    train = commands.add_parser(
        "train", help="train a recipe", epilog="omnisource show CONFIG --keys lists every key with its meaning."
    )
    add_config(train)
    add_overrides(train)
    train.add_argument("--seed", type=non_negative, help="seed of the run; the same as seed=N")
    train.add_argument("--deterministic", action="store_true", help="use deterministic algorithms only")
    train.add_argument("--work-dir", type=path, help="where the run goes (work_dirs/NAME OF THE CONFIG)")
    train.add_argument(
        "--resume",
        default="",
        type=resumed,
        metavar="auto|PATH",
        help="continue from the newest checkpoint of the run, or from PATH",
    )
    train.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate to the real number of clips a step"
    )
    train.set_defaults(command=_train)


def _train(arguments: argparse.Namespace) -> int:
    overrides = list(arguments.overrides)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    if arguments.deterministic:
        overrides.append("deterministic=True")
    return run_training(
        arguments.config, overrides, arguments.work_dir, arguments.resume, auto_scale_lr=arguments.auto_scale_lr
    )


def run_training(
    config_path: str, overrides: Sequence[str], work_dir: Path | None, resume: str, *, auto_scale_lr: bool
) -> int:
    """Trains; returns 0 at the end of the run, and 128 + the signal's number if a signal asked it to stop."""
    folder = work_dir or default_work_dir(config_path)
    try:
        with stopped_by_signals():  # loading torch takes seconds
            from omnisource.distributed import processes
            from omnisource.report.write import write_page_after
            from omnisource.training.resuming.ending import RunInterrupted
            from omnisource.training.train import Invocation, train

            recipe = load_recipe(config_path, overrides)
    except Interrupted as stop:
        return _stopped_early(stop)
    try:
        with stopped_by_signals():
            train(recipe, folder, resume=resume, invocation=Invocation(config_path, auto_scale_lr))
    except RunInterrupted as stop:
        if processes.rank() == 0:
            again = shlex.join([config_path, *overrides, "--work-dir", str(folder), "--resume", "auto"])
            scaled = " --auto-scale-lr" if auto_scale_lr else ""
            count = processes.world_size()
            command = f"omnisource train {again}{scaled}"
            if count > 1:
                command = f"the command that started the {count} processes, and --resume auto"
            notice(f"stopped and saved: {stop.checkpoint}\ncontinue with: {command}", sys.stdout)
        processes.stop()
        return 128 + stop.signal_number
    except (Exception, KeyboardInterrupt) as error:
        # `stop` could wait here for the other processes: what failed is shown first, and the group left as it is.
        if not processes.is_own_failure(error):
            return 1  # another process failed before, and shows why
        if isinstance(error, Interrupted):
            return _stopped_early(error)
        raise
    if processes.rank() == 0:
        write_page_after(folder)
    processes.stop()
    return 0


def _stopped_early(stop: Interrupted) -> int:
    """Says that a signal has ended a run that has not begun, and returns its exit code."""
    notice(f"{stop} before the first step: nothing is lost, and the same command starts again", sys.stdout)
    return 128 + stop.signal_number
