"""The paths of a recipe: which of its keys are paths, and the home folders in them. Knows no field."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from omnisource.paths import NoHomeFolder, with_home_folder
from omnisource.recipe.keys import is_among, leaves, marked_keys
from omnisource.recipe.marks import PATH
from omnisource.recipe.values import marks

T = TypeVar("T")


def with_home_folders(value: T) -> T:
    """Returns a config, or a mapping or value of one, with `~` and `~user` replaced at the beginning of its paths.

    A path whose home folder is not known here stays as it is: the recipe of a checkpoint may come from elsewhere. What
    nothing has to be replaced in is returned itself.
    """
    if isinstance(value, Mapping):
        changed = {name: with_home_folders(group) for name, group in value.items()}
        return value if all(changed[name] is value[name] for name in changed) else typing.cast(T, changed)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    changes = path_changes(value)
    return dataclasses.replace(value, **changes) if changes else value


def path_changes(config: Any) -> dict[str, Any]:
    """Returns the new values of the fields of a config, by name, in which there is something to be replaced."""
    hints = typing.get_type_hints(type(config), include_extras=True)
    changes = {}
    for field in dataclasses.fields(config):
        before = getattr(config, field.name)
        after = _replaced(before) if PATH in marks(hints[field.name]) else with_home_folders(before)
        if after is not before and after != before:
            changes[field.name] = after
    return changes


def home_faults(config: Any) -> list[str]:
    """Returns, a line each, the paths of a config that begin with `~` where there is no such home folder."""
    keys = marked_keys(type(config), PATH)
    faults = []
    for key, value in leaves(config):
        for path in value if isinstance(value, tuple | list) else (value,):
            if isinstance(path, str) and is_among(key, keys):
                try:
                    with_home_folder(path)
                except NoHomeFolder as error:
                    faults.append(f"{key}={error}")
    return faults


def _replaced(value: Any) -> Any:
    """Returns a path, or several, with their home folders; anything else as it is."""
    if isinstance(value, tuple | list):
        return tuple(map(_replaced, value))
    if not isinstance(value, str):
        return value
    try:
        return with_home_folder(value)
    except NoHomeFolder:
        return value
