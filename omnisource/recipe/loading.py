"""Loading a config file: from the path of a Python file to the value that it builds."""

from __future__ import annotations

import difflib
import sys
import traceback
import types
from pathlib import Path
from typing import TypeVar

from omnisource.errors import UserError

T = TypeVar("T")


def load_config(path: str, expected: type[T], name: str = "recipe") -> T:
    """Returns the value called `name` that the Python file `path` builds.

    Raises:
        UserError: If the file is missing, fails, or has no such value of type `expected`.
    """
    file = Path(path)
    if not file.is_file():
        others = [other.name for other in file.parent.glob("*.py") if other.is_file()]
        near = difflib.get_close_matches(file.name, others, n=1)
        hint = f" Did you mean {file.parent / near[0]}?" if near else ""
        raise UserError(f"{path}: no such config file.{hint}")
    value = getattr(_executed(file), name, None)
    if not isinstance(value, expected):
        found = "nothing of that name" if value is None else f"{name} = {value!r:.80}"
        raise UserError(f"{path}: a config must build `{name} = {expected.__name__}(...)`; it has {found}.")
    return value


def _executed(file: Path) -> types.ModuleType:
    """Returns the module that a Python file makes.

    It is compiled here, and not imported: the published name has hyphens and dots, which no import statement can say,
    and a cached import takes an edit of the same second and the same length for no edit.
    """
    module = types.ModuleType(f"omnisource_config_{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses defined in a config look their module up here
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except UserError:
        raise
    except SyntaxError as error:
        where = ":".join(str(part) for part in (error.filename or file, error.lineno) if part)
        raise UserError(f"{where}: not valid Python: {error.msg}") from error
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f"{file}:{frames[-1].lineno}" if frames else str(file)
        # A ValueError is how a recipe says what is wrong with it; others need their name to be understood.
        reason = str(error) if type(error) is ValueError else f"the config failed: {type(error).__name__}: {error}"
        raise UserError(f"{where}: {reason}") from error
    return module
