"""Overrides: `dotted.key=value`, checked against the types of a config; nothing is created silently. Knows no field."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from omnisource.errors import UserError
from omnisource.recipe.keys import leaves
from omnisource.recipe.values import field_names, fits, is_mapping, tuple_kinds, union_members

T = TypeVar("T")


def apply_overrides(config: T, overrides: Sequence[str]) -> T:
    """Returns `config` with each `dotted.key=value` applied, in order.

    The config's own checks run once, after the last: two keys that only fit together can be changed in any order. A
    key of a group that the config leaves unset (None) sets the group, with the defaults for its other keys.

    Raises:
        UserError: If a key is unknown, names a group, or a value does not fit its type, or if the config refuses
            the values. All faults are listed.
    """
    faults: list[str] = []
    changed = config
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            faults.append(f"{override!r}: an override is written key=value")
            continue
        try:
            changed = _replaced(changed, key.split("."), text, key)
        except _UnknownKey as fault:
            faults.append(f"{fault}{_elsewhere(config, key)}")
        except _Fault as fault:
            faults.append(str(fault))
    keys = [override.partition("=")[0] for override in overrides]
    if not faults:
        faults = [f"{key}: does not go together with a later one of {', '.join(keys)}" for key in _lost(changed, keys)]
    if faults:
        raise UserError("\n".join(faults))
    try:
        return _checked(changed)
    except ValueError as error:
        raise UserError(f"the overrides make a config that is wrong: {error}") from None


def _lost(config: Any, keys: Sequence[str]) -> list[str]:
    """Returns the keys that a config lacks: a later override has put a group of another kind into the place."""
    lost = []
    for key in keys:
        node = config
        for name in key.split("."):
            if node is None:
                break  # taken out by a later override, which says so
            if dataclasses.is_dataclass(node) and name not in field_names(type(node)):
                lost.append(key)
                break
            node = node[name] if isinstance(node, Mapping) else getattr(node, name)
    return lost


class _Fault(Exception):
    """One override that does not fit."""


class _UnknownKey(_Fault):
    """One override of a key that is not there."""


def _replaced(node: Any, path: list[str], text: str, key: str) -> Any:
    """Returns `node` with the value at `path` replaced; a config's own checks do not run."""
    here = ".".join(key.split(".")[: -len(path)])
    name, rest = path[0], path[1:]
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        names = [field.name for field in dataclasses.fields(node)]
        if name not in names:
            raise _unknown(key, here, path, names)
        hint = typing.get_type_hints(type(node))[name]
        current = _group_of_key(hint, getattr(node, name), rest[0] if rest else "")
        changed = copy.copy(node)
        value = _replaced(current, rest, text, key) if rest else _parsed(text, hint, key, current)
        object.__setattr__(changed, name, value)  # frozen for everyone else: this one is not yet anybody's
        return changed
    if isinstance(node, Mapping):
        if name not in node:
            raise _unknown(key, here, path, list(node))
        if not rest:
            raise _Fault(_is_group(key, node[name]))
        return {**node, name: _replaced(node[name], rest, text, key)}
    raise _Fault(f"{key}: {here} is a value, not a group; write {here}=...")


def _checked(node: Any) -> Any:
    """Returns a config rebuilt from its values, so that its own checks run."""
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        values = {field.name: _checked(getattr(node, field.name)) for field in dataclasses.fields(node)}
        return dataclasses.replace(node, **values)
    if isinstance(node, Mapping):
        return {name: _checked(value) for name, value in node.items()}
    return node


def _group_of_key(hint: Any, current: Any, key: str) -> Any:
    """Returns the value of a field, of which `key` is to be set.

    Where the field holds no group, or may hold groups of several kinds and only another has the key, it is a group of
    that kind with its defaults; None where these have no defaults, or the field holds no groups.
    """
    kinds = [option for option in union_members(hint) if field_names(option)]
    with_key = [kind for kind in kinds if key in field_names(kind)]
    if current is not None and (type(current) in with_key or not with_key):
        return current
    for kind in with_key or kinds:
        try:
            return kind()
        except TypeError:  # it has keys without defaults
            return current
    return current


def _unknown(key: str, here: str, path: list[str], names: list[str]) -> _UnknownKey:
    near = difflib.get_close_matches(path[0], names, n=1, cutoff=0.5)
    meant = ".".join([*([here] if here else []), near[0], *path[1:]]) if near else ""
    suggestion = f" Did you mean {meant}?" if near else ""
    return _UnknownKey(
        f"unknown key {key}.{suggestion} Allowed {f'after {here}' if here else 'are'}: {', '.join(names)}."
    )


def _elsewhere(config: Any, key: str) -> str:
    """Returns a hint at the keys that end like an unknown one: `batch_size` is there, below each source."""
    found = [full for full, _ in leaves(config) if full.endswith(f".{key}")]
    return f" There is {', '.join(found)}." if found else ""


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
        kinds = tuple_kinds(hint, len(parts))
        if kinds is None:
            raise _Fault(f"{key}={text}: wants {len(arguments)} values separated by commas, got {len(parts)}")
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
    if not fits(value, hint):
        raise _Fault(f"{key}={text}: wants a finite number")
    return value
