"""The commands in one parser. Everything heavy is imported when a command runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from omnisource import __version__
from omnisource.cli.arguments import path_text
from omnisource.cli.commands import (
    check,
    checkpoint,
    compare,
    demo,
    lists,
    predict,
    prepare,
    report,
    runs,
    show,
    test,
    train,
)
from omnisource.printing import printable


def dispatch(arguments: Sequence[str] | None) -> int:
    """Runs the command that the arguments ask for, and returns its exit code."""
    parser = make_parser()
    # argparse takes the last positional arguments only in one row; those that stand after a flag come back as unknown.
    parsed, unknown = parser.parse_known_args(arguments)
    if any(text.startswith("-") for text in unknown):
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if hasattr(parsed, "overrides"):
        parsed.overrides = [*parsed.overrides, *unknown]
    elif hasattr(parsed, "files"):
        parsed.files += make_paths(parser, unknown)
    elif unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return parsed.command(parsed)


def make_paths(parser: argparse.ArgumentParser, texts: Sequence[str]) -> list[str]:
    """Returns paths that argparse has not taken as such; ends the program where one is none."""
    try:
        return [path_text(text) for text in texts]
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))


class _Parser(argparse.ArgumentParser):
    """Takes flags in full only: an abbreviation would change its meaning when a flag is added."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = _Parser(
        prog="omnisource", description="Trains one recognizer on image and video datasets together, and uses it."
    )
    parser.add_argument("--version", action="version", version=f"omnisource {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (train, test, predict, compare, show, check, prepare, lists, checkpoint, runs, report, demo):
        command.add_parser(commands)
    return parser
