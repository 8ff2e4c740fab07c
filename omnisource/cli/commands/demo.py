"""`omnisource demo`: trains on media that it makes."""

from __future__ import annotations

import argparse
from pathlib import Path

from omnisource.cli.arguments import path
from omnisource.errors import adding_path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource demo`."""
    demo = commands.add_parser("demo", help="make small media, train on them jointly, test, and predict (CPU, minutes)")
    demo.add_argument("--work-dir", type=path, default=Path("work_dirs/demo"), help="where it goes (%(default)s)")
    demo.set_defaults(command=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from omnisource.demo.run import run_demo

    with adding_path(arguments.work_dir):
        return run_demo(arguments.work_dir)
