"""The types and bounds that the fields of a config declare, and which of its values do not fit. Knows no field."""

from __future__ import annotations

import dataclasses
import operator
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

_WORDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
"""The comparisons of `annotated_types` and of `operator`, in words."""


def type_faults(config: Any, prefix: str = "") -> list[str]:
    """Returns, a line each, which values of a config are not of the types that its fields declare.

    Args:
        config: A dataclass; Python itself checks no types.
        prefix: Goes before the keys.
    """
    hints = typing.get_type_hints(type(config))
    return [
        fault
        for name in field_names(type(config))
        for fault in _type_faults_of(getattr(config, name), hints[name], f"{prefix}{name}")
    ]


def bound_faults(config: Any, prefix: str = "") -> list[str]:
    """Returns, a line each, which values of a config are beyond the bounds beside their fields; groups come last.

    Args:
        config: A dataclass whose values have the right types.
        prefix: Goes before the keys.
    """
    hints = typing.get_type_hints(type(config), include_extras=True)
    faults: list[str] = []
    groups: dict[str, Any] = {}
    for name in field_names(type(config)):
        key, value = f"{prefix}{name}", getattr(config, name)
        if isinstance(value, Mapping):
            groups |= {f"{key}.{of_name}.": group for of_name, group in value.items()}
        elif dataclasses.is_dataclass(value):
            groups[f"{key}."] = value
        elif value is not None:
            faults += _bound_faults_of(key, value, hints[name])
    return faults + [fault for key, group in groups.items() for fault in bound_faults(group, key)]


def _type_faults_of(value: Any, hint: Any, key: str) -> list[str]:
    members = union_members(hint)
    if any(field_names(member) and isinstance(value, member) for member in members):
        return type_faults(value, f"{key}.")
    if is_mapping(members[0]):
        if not isinstance(value, Mapping):
            return [f"{key} must be a group of keys"]
        kind = typing.get_args(members[0])[1]
        unnamed = [f"{key}: {name!r} is no name: wants text" for name in value if not isinstance(name, str)]
        return unnamed + [
            fault for name, group in value.items() for fault in _type_faults_of(group, kind, f"{key}.{name}")
        ]
    if isinstance(value, tuple | list) and (kinds := tuple_kinds(hint, len(value))) is not None:
        return [fault for each, kind in zip(value, kinds, strict=True) for fault in _type_faults_of(each, kind, key)]
    if any(fits(value, member) for member in members):
        return []
    shown = list(value) if isinstance(value, tuple) else value
    return [f"{key} = {shown!r:.80}: wants {_wanted(hint)}"]


def _wanted(hint: Any) -> str:
    """Returns what a field of the hinted type takes, for messages."""
    members = union_members(hint)
    groups = [member for member in members if field_names(member)]
    return " or ".join(map(_wanted_of, groups or members))


def _wanted_of(member: Any) -> str:
    simple = {int: "a whole number", float: "a finite number", bool: "True or False", str: "text", type(None): "None"}
    arguments = typing.get_args(member)
    if typing.get_origin(member) is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if typing.get_origin(member) is tuple:
        return "several values" if arguments[1:] == (...,) else f"{len(arguments)} values"
    return simple.get(member) or f"{member.__name__}(...)"


def fits(value: Any, member: Any) -> bool:
    """Returns whether a value is of a type that has no parts, or one of the literals."""
    if typing.get_origin(member) is typing.Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in typing.get_args(member))
    # True is an int to Python, but not to somebody who reads a recipe.
    if isinstance(value, bool) or member is bool:
        return isinstance(value, bool) and member is bool
    if member is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return member in (int, str, type(None)) and isinstance(value, member)


def _bound_faults_of(key: str, value: Any, hint: Any) -> list[str]:
    """Returns how a value that is no group is beyond its bounds."""
    if isinstance(value, tuple | list):
        parts = zip(value, tuple_kinds(hint, len(value)) or [], strict=True)
        violated = [limits for part, kind in parts for limits in _violated_limits(part, kind)]
        return [f"{key}={value}: both must be {_allowed(violated[0])}"] if violated else []
    faults = []
    for limits in _violated_limits(value, hint):
        short = f"{value:g}" if isinstance(value, float) else str(value)
        # 1.0 or 1.0000001 beyond a limit of 1 are shown in full: a mere 1 would read like the limit.
        shown = value if float(short) in limits.values() else short
        faults.append(f"{key}={shown}: must be {_allowed(limits)}")
    return faults


def _violated_limits(value: Any, hint: Any) -> Iterator[dict[str, float]]:
    """Yields the limits beside a type that a value breaks, by the names of their comparisons."""
    for mark in marks(hint):
        limits = {name: limit for name in _WORDS if (limit := getattr(mark, name, None)) is not None}
        if not all(getattr(operator, name)(value, limit) for name, limit in limits.items()):
            yield limits


def _allowed(limits: Mapping[str, float]) -> str:
    """Returns what one or two limits allow."""
    if len(limits) == 1:
        return "".join(f"{_WORDS[name]} {limit:g}" for name, limit in limits.items())
    low, high = limits.values()
    return f"in {'[' if 'ge' in limits else '('}{low:g}, {high:g}{']' if 'le' in limits else ')'}"


def field_names(kind: Any) -> list[str]:
    """Returns the names of the fields of a dataclass; none where the type is no dataclass."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return []
    return [field.name for field in dataclasses.fields(kind)]


def union_members(hint: Any) -> list[Any]:
    """Returns the types that a hint allows: one, or those of a union; what stands beside the hint is left out."""
    hint = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return list(typing.get_args(hint))
    return [hint]


def marks(hint: Any) -> list[Any]:
    """Returns what stands beside a type in `Annotated`, and beside the members of a union."""
    return [mark for part in (hint, *union_members(hint)) for mark in getattr(part, "__metadata__", ())]


def is_mapping(hint: Any) -> bool:
    """Returns whether a hint is a mapping."""
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def tuple_kinds(hint: Any, length: int) -> list[Any] | None:
    """Returns the hints of the values of a tuple; None where the hint allows no tuple of that length."""
    for member in union_members(hint):
        kinds = list(typing.get_args(member))
        if typing.get_origin(member) is tuple:
            kinds = kinds[:1] * length if kinds[1:] == [...] else kinds
            return kinds if len(kinds) == length else None
    return None
