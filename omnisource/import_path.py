"""Where this process and those that it starts look for what they import: never in the current folder.

A user's random.py or queue.py there would be run in the place of Python's own. What `PYTHONPATH` names by its full path
counts: that was asked for. This module imports only what Python has loaded when it starts.
"""

from __future__ import annotations

import os
import sys


def leave_out_current_folder() -> None:
    """Takes the current folder out of this process's search path where Python put it before its own library.

    It does so for `python -m`, for a script of that folder, and for an empty or relative entry of `PYTHONPATH`.
    """
    library = os.path.dirname(os.__file__)
    first = sys.path.index(library) if library in sys.path else len(sys.path)
    sys.path[:first] = [entry for entry in sys.path[:first] if not _is_current_folder(entry)]


def environment_of_children() -> dict[str, str]:
    """Returns the environment for processes of ours: without entries of `PYTHONPATH` that mean the current folder."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(_full_entries())}


def further_folders() -> list[str]:
    """Returns the folders that this process imports from, for children to look into last.

    Left out are the current folder and that of the main program: what lies there is the user's own.
    """
    main_file = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    own = os.path.dirname(main_file)
    return [entry for entry in sys.path if os.path.isabs(entry) and entry != own and not _is_current_folder(entry)]


def _is_current_folder(entry: str) -> bool:
    if not os.path.isabs(entry):
        return True
    if entry in _full_entries():
        return False
    try:
        return os.path.samefile(entry, os.curdir)
    except OSError:  # one of them is not there
        return False


def _full_entries() -> list[str]:
    """Returns the entries of `PYTHONPATH` that are full paths."""
    return [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
