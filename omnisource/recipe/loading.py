"""Loading a config file: from the path of a Python file to the value that it builds."""

from __future__ import annotations

import difflib
import re
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
        stack = traceback.extract_tb(error.__traceback__)
        frames = [frame for frame in stack if frame.filename == str(file)]
        where = f"{file}:{frames[-1].lineno}" if frames else str(file)
        # A ValueError is how a recipe says what is wrong with it; others need their name to be understood.
        reason = str(error) if type(error) is ValueError else f"the config failed: {type(error).__name__}: {error}"
        is_import_here = isinstance(error, ImportError) and stack[-1].filename == str(file)
        hint = _import_hint(stack[-1].line or "", file) if is_import_here else ""
        raise UserError(f"{where}: {reason}{hint}") from error
    return module


def _import_hint(statement: str, file: Path) -> str:
    """Returns what to write instead of an import of another config: no folder of configs is searched for modules."""
    found = re.match(r"from\s+\.*([\w.]*)\s+import\s+(\w+)|import\s+([\w.]+)", statement)
    module = (found[1] or found[2] or found[3]) if found else ""
    path = Path(*module.split(".")).with_suffix(".py") if module else Path()
    if module and (file.parent / path).is_file():
        place = f"str(Path(__file__).parent / {str(path)!r})"
    elif module and path.is_file():
        place = repr(str(path))
    else:
        return ""
    return (
        "\nA config is loaded by its path and cannot import another one. To build on that, write:\n"
        "  from pathlib import Path\n"
        "  from omnisource import Recipe, load_config\n"
        f"  recipe = load_config({place}, Recipe)\n"
        "Modules that are no configs are found if PYTHONPATH has the full path of their folder."
    )
