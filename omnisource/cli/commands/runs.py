"""`omnisource runs` and `omnisource watch`: list runs, and follow one from another terminal."""

from __future__ import annotations

import argparse
from pathlib import Path

from omnisource.cli.arguments import path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource runs` and `omnisource watch`."""
    runs = commands.add_parser("runs", help="list runs with their state, step, best score and age")
    runs.add_argument(
        "folder", metavar="DIR", nargs="?", type=path, default=Path("work_dirs"), help="where they are (%(default)s)"
    )
    runs.add_argument("--json", action="store_true", help="print one JSON line a run")
    runs.set_defaults(command=_runs)
    watch = commands.add_parser("watch", help="follow a run from another terminal, until it ends")
    watch.add_argument("run", metavar="RUN", type=path, help="work dir of the run")
    watch.add_argument("--once", action="store_true", help="show how it stands, and leave")
    watch.set_defaults(command=_watch)


def _runs(arguments: argparse.Namespace) -> int:
    from omnisource.runs.table import print_runs

    return print_runs(arguments.folder, is_json=arguments.json)


def _watch(arguments: argparse.Namespace) -> int:
    from omnisource.runs.watch import watch

    return watch(arguments.run, is_once=arguments.once)
