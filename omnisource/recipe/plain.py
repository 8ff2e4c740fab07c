"""Configs as plain data, ready for JSON, and back. Knows no field."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from omnisource.errors import UserError
from omnisource.recipe.marks import Formerly
from omnisource.recipe.values import (
    bound_faults,
    field_names,
    fits,
    is_mapping,
    marks,
    tuple_kinds,
    type_faults,
    union_members,
)

T = TypeVar("T")


def to_plain(config: Any) -> Any:
    """Returns a config as dicts, lists and scalars, ready for JSON."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: to_plain(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_plain(value) for value in config]
    return config


def to_json(config: Any) -> str:
    """Returns a config as indented JSON."""
    return json.dumps(to_plain(config), indent=2)


def from_plain(expected: type[T], plain: Any, where: str) -> T:
    """Returns the config of type `expected` that `to_plain` turned into `plain`.

    A key that an earlier version did not write yet has its default, or the value that stands for what was done then
    (`Formerly`).

    Args:
        expected: A dataclass.
        plain: Dicts, lists and scalars.
        where: Names the file in errors.

    Raises:
        UserError: If keys are missing or unknown, a value has another type, or the config refuses its values.
    """
    try:
        config = _built_group(expected, plain, "")
    except ValueError as error:  # ours, or the config's own checks
        raise UserError(f"{where}: {error}") from None
    if faults := type_faults(config) or bound_faults(config):
        raise UserError(f"{where}: {'; '.join(faults)}")
    return config


def _built(hint: Any, plain: Any, key: str) -> Any:
    """Returns plain data in the form that the hint wants; whether the values fit is not looked at."""
    members = union_members(hint)
    if plain is None and type(None) in members:
        return None
    if kinds := [member for member in members if field_names(member)]:
        return _built_group(max(kinds, key=lambda kind: len(set(field_names(kind)) & _names(plain))), plain, key)
    if is_mapping(members[0]):
        if not isinstance(plain, Mapping):
            raise ValueError(f"{key} must be a group of keys")
        kind = typing.get_args(members[0])[1]
        return {name: _built(kind, value, f"{key}.{name}") for name, value in plain.items()}
    if isinstance(plain, list):
        kinds = tuple_kinds(hint, len(plain)) or [Any] * len(plain)
        return tuple(_built(kind, value, key) for kind, value in zip(kinds, plain, strict=True))
    # A config may say 1 where floats are wanted.
    return float(plain) if float in members and type(plain) is int and fits(plain, float) else plain


def _built_group(expected: type, plain: Any, key: str) -> Any:
    """Returns a mapping of plain data as a dataclass."""
    if not isinstance(plain, Mapping):
        raise ValueError(f"{key or 'the config'} must be a group of keys")
    prefix = f"{key}." if key else ""
    needed = {
        field.name
        for field in dataclasses.fields(expected)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if unknown := sorted(_names(plain) - set(field_names(expected))):
        names = ", ".join(f"{prefix}{name}" for name in unknown)
        raise ValueError(f"unknown keys {names}; if a newer omnisource wrote this file, update yours")
    if missing := sorted(needed - set(plain)):
        raise ValueError(f"missing keys {', '.join(f'{prefix}{name}' for name in missing)}")
    hints = typing.get_type_hints(expected)
    former = {name: value for name, value in former_values(expected).items() if name not in plain}
    return expected(**{name: _built(hints[name], value, f"{prefix}{name}") for name, value in plain.items()}, **former)


def former_values(config_type: type) -> dict[str, Any]:
    """Returns what was done before there were the fields of a dataclass that are marked so (`Formerly`), by field."""
    hints = typing.get_type_hints(config_type, include_extras=True)
    return {name: mark.value for name, hint in hints.items() for mark in marks(hint) if isinstance(mark, Formerly)}


def with_former_values(ours: T, theirs: T, prefix: str = "") -> tuple[T, list[str]]:
    """Returns our config with what was done before a field was there, where theirs does it and ours has the default.

    So a run that began before goes on in the same way, with a config that does not know of the field.

    Args:
        ours: A dataclass.
        theirs: The same as it was stored.
        prefix: Goes before the keys.

    Returns:
        The config, and a line for each key that was changed.
    """
    changes: dict[str, Any] = {}
    lines: list[str] = []
    former = former_values(type(ours))
    for field in dataclasses.fields(ours):  # pyright: ignore[reportArgumentType]
        our_value, their_value = getattr(ours, field.name), getattr(theirs, field.name)
        if dataclasses.is_dataclass(our_value) and type(our_value) is type(their_value):
            changed, of_group = with_former_values(our_value, their_value, f"{prefix}{field.name}.")
            if of_group:
                changes[field.name] = changed
                lines += of_group
        elif field.name in former and our_value == field.default and their_value == former[field.name] != our_value:
            changes[field.name] = their_value
            lines.append(f"{prefix}{field.name}={their_value}, not {our_value}: the run goes on as it began")
    return dataclasses.replace(ours, **changes), lines  # pyright: ignore[reportArgumentType]


def _names(plain: Any) -> set[str]:
    return set(map(str, plain)) if isinstance(plain, Mapping) else set()
