"""The command line: what comes before a command, and exit codes.

What is imported at the top Python has loaded when it starts: anything else could be a file of the current folder.
"""

from __future__ import annotations

import io
import os
import sys

from omnisource.import_path import leave_out_current_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    0: done. 2: a mistake in what was given. 128 + n: stopped by signal n, after saving.
    """
    leave_out_current_folder()
    from omnisource.cli.parser import dispatch

    return run(lambda: dispatch(arguments))


def run(command: Callable[[], int]) -> int:
    """Runs `command` and returns its exit code; a user's mistake becomes a message and exit code 2."""
    from omnisource.errors import UserError

    for stream in (sys.stdout, sys.stderr):
        # File names are bytes: one that is no text here is shown escaped, and must not end the command.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has seen enough
        sys.stderr.close()
        return 141
    except OSError as error:  # a full disk, no permission, a folder where a file should be
        if error.filename is None:
            raise
        print(f"error: {os.fsdecode(error.filename)}: {error.strerror}", file=sys.stderr)
        return 2
