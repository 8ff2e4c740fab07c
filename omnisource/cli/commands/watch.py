"""`omnisource watch`: follows a run from another terminal."""

from __future__ import annotations

import argparse

from omnisource.cli.arguments import path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `omnisource watch`."""
    watch = commands.add_parser("watch", help="follow a run from another terminal, until it ends")
    watch.add_argument("run", metavar="RUN", type=path, help="work dir of the run")
    watch.add_argument("--once", action="store_true", help="show how it stands, and leave")
    watch.set_defaults(command=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    from omnisource.runs.watch import watch

    return watch(arguments.run, is_once=arguments.once)
