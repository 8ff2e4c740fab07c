"""Overrides: `dotted.key=value`, checked against the types of a config; nothing is created silently. Knows no field."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from omnisource.config import is_mapping, leaves, union_members
from omnisource.errors import UserError

T = TypeVar("T")


def apply_overrides(config: T, overrides: Sequence[str]) -> T:
    """Returns `config` with each `dotted.key=value` applied, in order.

    Raises:
        UserError: If a key is unknown, names a group, or a value does not fit its type. All faults are listed.
    """
    faults: list[str] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            faults.append(f"{override!r}: an override is written key=value")
            continue
        try:
            config = _replaced(config, key.split("."), text, key)
        except _Fault as fault:
            faults.append(str(fault))
    if faults:
        raise UserError("\n".join(faults))
    return config


class _Fault(Exception):
    """One override that does not fit."""


def _replaced(node: Any, path: list[str], text: str, key: str) -> Any:
    here = ".".join(key.split(".")[: -len(path)])
    name, rest = path[0], path[1:]
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        names = [field.name for field in dataclasses.fields(node)]
        if name not in names:
            raise _Fault(_unknown(key, here, name, names))
        hint = typing.get_type_hints(type(node))[name]
        current = getattr(node, name)
        value = _replaced(current, rest, text, key) if rest else _parsed(text, hint, key, current)
        try:
            return dataclasses.replace(node, **{name: value})
        except ValueError as error:
            raise _Fault(f"{key}={text}: {error}") from None
    if isinstance(node, Mapping):
        if name not in node:
            raise _Fault(_unknown(key, here, name, list(node)))
        if not rest:
            raise _Fault(_is_group(key, node[name]))
        return {**node, name: _replaced(node[name], rest, text, key)}
    if node is None:
        raise _Fault(f"{key}: {here} is not set in the config, so {key} has no place; set {here} in the config file")
    raise _Fault(f"{key}: {here} is a value, not a group; write {here}=...")


def _unknown(key: str, here: str, name: str, names: list[str]) -> str:
    prefix = f"{here}." if here else ""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    suggestion = f"; did you mean {prefix}{near[0]}?" if near else ""
    return f"unknown key {key}{suggestion} Allowed after {here or 'the start'}: {', '.join(names)}"


def _is_group(key: str, node: Any) -> str:
    inside = [name for name, _ in leaves(node, f"{key}.")]
    return f"{key} is a group, not a value; set one of its keys: {', '.join(inside[:12])}"


def _parsed(text: str, hint: Any, key: str, current: Any = None) -> Any:
    """Returns the text of an override as a value of the hinted type."""
    options = union_members(hint)
    if type(None) in options:
        if text.lower() in ("none", "null"):
            return None
        options = [option for option in options if option is not type(None)]
    if any(dataclasses.is_dataclass(option) or is_mapping(option) for option in options):
        raise _Fault(_is_group(key, current))
    faults = []
    for option in options:
        try:
            return _scalar(text, option, key)
        except _Fault as fault:
            faults.append(str(fault))
    raise _Fault(faults[0])


def _scalar(text: str, hint: Any, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        for allowed in arguments:
            if text == str(allowed):
                return allowed
        raise _Fault(f"{key}={text}: allowed are {', '.join(str(allowed) for allowed in arguments)}")
    if origin is tuple:
        parts = [part.strip().strip("'\"") for part in text.strip().strip("()[]").split(",") if part.strip()]
        kinds = [arguments[0]] * len(parts) if arguments[1:] == (...,) else list(arguments)
        if len(kinds) != len(parts):
            raise _Fault(f"{key}={text}: wants {len(kinds)} values separated by commas, got {len(parts)}")
        return tuple(_scalar(part, kind, key) for part, kind in zip(parts, kinds, strict=True))
    if hint is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise _Fault(f"{key}={text}: wants True or False")
    if hint is str:
        return text
    assert hint in (int, float), f"{key}: the config has a field of unsupported type {hint}"
    try:
        value = hint(text)
    except ValueError:
        raise _Fault(f"{key}={text}: wants {'a whole number' if hint is int else 'a number'}") from None
    if not math.isfinite(value):
        raise _Fault(f"{key}={text}: wants a finite number")
    return value
