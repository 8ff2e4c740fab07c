"""The command line: the commands in one parser, and exit codes. Everything heavy is imported when a command runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from omnisource import __version__
from omnisource.cli.commands import (
    check,
    checkpoint,
    demo,
    export,
    lists,
    predict,
    prepare,
    runs,
    show,
    test,
    train,
    watch,
)
from omnisource.errors import UserError
from omnisource.printing import flushed_output, notice, open_streams, printable, settle_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    0: done. 2: a mistake in what was given. 128 + n: stopped by signal n, after saving.
    """
    return run(lambda: _dispatch(arguments))


def run(command: Callable[[], int]) -> int:
    """Runs `command` and returns its exit code; a user's mistake becomes a message and exit code 2."""
    open_streams()
    try:
        with flushed_output():
            return command()
    except UserError as error:
        notice(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        notice("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has seen enough
        return 141
    except OSError as error:  # a full disk, no permission, a folder where a file should be
        if error.filename is None:
            raise
        notice(f"error: {os.fsdecode(error.filename)}: {error.strerror}")
        return 2
    finally:
        settle_streams()


def _dispatch(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    # argparse takes the last positional arguments only in one row; those that stand after a flag come back as unknown.
    parsed, unknown = parser.parse_known_args(arguments)
    if any(text.startswith("-") for text in unknown):
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if hasattr(parsed, "overrides"):
        parsed.overrides = [*parsed.overrides, *unknown]
    elif hasattr(parsed, "files"):
        parsed.files = [*parsed.files, *unknown]
    elif unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return parsed.command(parsed)


class _Parser(argparse.ArgumentParser):
    """Takes flags in full only: an abbreviation would change its meaning when a flag is added."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="omnisource", description="Trains one recognizer on image and video datasets together, and uses it."
    )
    parser.add_argument("--version", action="version", version=f"omnisource {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (train, test, predict, export, show, check, prepare, lists, checkpoint, runs, watch, demo):
        command.add_parser(commands)
    return parser
