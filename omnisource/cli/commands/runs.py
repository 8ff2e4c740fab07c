"""`omnisource runs`: lists runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from omnisource.cli.arguments import path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource runs`."""
    runs = commands.add_parser("runs", help="list runs with their state, step, best score and age")
    runs.add_argument(
        "folder", metavar="DIR", nargs="?", type=path, default=Path("work_dirs"), help="where they are (%(default)s)"
    )
    runs.add_argument("--json", action="store_true", help="print one JSON line a run")
    runs.set_defaults(command=_runs)


def _runs(arguments: argparse.Namespace) -> int:
    from omnisource.runs.table import print_runs

    return print_runs(arguments.folder, is_json=arguments.json)
