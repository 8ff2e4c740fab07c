"""The command line: what comes before a command, and exit codes.

What is imported at the top Python has loaded when it starts: anything else could be a file of the current folder.
"""

from __future__ import annotations

import os

from omnisource.import_path import leave_out_current_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    0: done. 2: a mistake in what was given. 128 + n: stopped by signal n, after saving.
    """
    leave_out_current_folder()

    def command() -> int:
        from omnisource.cli.parser import dispatch

        return dispatch(arguments)

    return run(command)


def run(command: Callable[[], int]) -> int:
    """Runs `command` and returns its exit code; a user's mistake becomes a message and exit code 2."""
    import logging
    import signal

    from omnisource.errors import UserError, describe_system_error
    from omnisource.paths import ignore_relative_base_folders
    from omnisource.printing import flushed_output, notice, open_streams, settle_streams
    from omnisource.signals import Interrupted

    open_streams()
    ignore_relative_base_folders()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it keeps its fonts is nothing to a user of ours
    try:
        os.getcwd()  # torch cannot be loaded where it is gone, and relative paths lead nowhere
        with flushed_output():
            return command()
    except UserError as error:
        notice(f"error: {error}")
        return 2
    except KeyboardInterrupt as stop:
        notice("interrupted")
        return 128 + (stop.signal_number if isinstance(stop, Interrupted) else signal.SIGINT)
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has seen enough
        return 141
    except (OSError, RuntimeError) as error:  # a full disk, no permission, too many open files, no thread to be had
        description = describe_system_error(error)
        if description is None:
            raise
        notice(f"error: {description}")
        return 2
    finally:
        settle_streams()
