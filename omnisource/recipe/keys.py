"""The dotted keys of a config: their values, what differs, what they mean, and how they are marked. Knows no field."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omnisource.recipe.plain import to_plain
from omnisource.recipe.values import field_names, is_mapping, marks, union_members


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) for every value of a config that an override can set."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        for field in dataclasses.fields(config):
            yield from leaves(getattr(config, field.name), f"{prefix}{field.name}.")
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from leaves(value, f"{prefix}{key}.")
    else:
        yield prefix.removesuffix("."), config


def differences(ours: Any, theirs: Any) -> list[tuple[str, Any, Any]]:
    """Returns (key, our value, their value) wherever two configs differ; a key that one lacks counts as None."""
    our_leaves, their_leaves = dict(leaves(ours)), dict(leaves(theirs))
    keys = list(dict.fromkeys([*our_leaves, *their_leaves]))
    return [
        (key, our_leaves.get(key), their_leaves.get(key))
        for key in keys
        if to_plain(our_leaves.get(key)) != to_plain(their_leaves.get(key))
    ]


def describe_keys(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yields (dotted key, value, docstring of the field) for every value of a config, for help texts."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from describe_keys(value, f"{prefix}{key}.")
    elif dataclasses.is_dataclass(config) and not isinstance(config, type):
        docs = field_docs(type(config))
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if dataclasses.is_dataclass(value) or (isinstance(value, Mapping) and value):
                yield from describe_keys(value, f"{prefix}{field.name}.")
            else:
                yield f"{prefix}{field.name}", value, docs.get(field.name, "")


def field_docs(config_type: type) -> dict[str, str]:
    """Returns the docstring that stands below each field of a dataclass, by field name."""
    docs: dict[str, str] = {}
    definition = ast.parse(inspect.cleandoc("\n" + inspect.getsource(config_type))).body[0]
    assert isinstance(definition, ast.ClassDef)
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            docs[statement.target.id] = " ".join(following.value.value.split())
    return docs


def marked_keys(config_type: type, mark: Any, prefix: str = "") -> list[str]:
    """Returns the keys of the fields that bear a mark; a group that bears it stands for all of its keys.

    Args:
        config_type: A dataclass.
        mark: What stands beside the type of these fields, in `Annotated`.
        prefix: Goes before the keys.

    Returns:
        Keys such as `num_workers` and `sources.*.root`, where * stands for any name.
    """
    keys: list[str] = []
    for name, hint in typing.get_type_hints(config_type, include_extras=True).items():
        if mark in marks(hint):
            keys.append(f"{prefix}{name}")
            continue
        for member in union_members(hint):
            inside = f"{prefix}{name}.*." if is_mapping(member) else f"{prefix}{name}."
            group = typing.get_args(member)[1] if is_mapping(member) else member
            if field_names(group):
                keys += marked_keys(group, mark, inside)
    return keys


def is_among(key: str, patterns: Iterable[str]) -> bool:
    """Returns whether a dotted key is one of these, or in a group that is; * stands for any name."""
    parts = key.split(".")
    for pattern in patterns:
        wanted = pattern.split(".")
        if len(wanted) <= len(parts) and all(name in ("*", part) for name, part in zip(wanted, parts, strict=False)):
            return True
    return False
