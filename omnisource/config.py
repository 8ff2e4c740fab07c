"""Configs as frozen dataclasses: loading a config file, plain data and back, keys and their meaning. Knows no field."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib.util
import inspect
import json
import sys
import traceback
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from omnisource.errors import UserError

T = TypeVar("T")


def load_config(path: str, expected: type[T], name: str = "recipe") -> T:
    """Returns the value called `name` that the Python file `path` builds.

    Raises:
        UserError: If the file is missing, fails, or has no such value of type `expected`.
    """
    file = Path(path)
    if not file.is_file():
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob("*.py")], n=1)
        hint = f" Did you mean {file.parent / near[0]}?" if near else ""
        raise UserError(f"{path}: no such config file.{hint}")
    # The published name has hyphens and dots, which no import statement can say: load it by its path.
    spec = importlib.util.spec_from_file_location("omnisource_config_" + str(abs(hash(file.resolve()))), file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses defined in a config look their module up here
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"{error.filename or path}:{error.lineno}: not valid Python: {error.msg}") from error
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
        line = f":{frames[-1].lineno}" if frames else ""
        raise UserError(f"{path}{line}: the config failed: {type(error).__name__}: {error}") from error
    value = getattr(module, name, None)
    if not isinstance(value, expected):
        found = "nothing of that name" if value is None else f"a {type(value).__name__}"
        raise UserError(f"{path}: a config must build `{name} = {expected.__name__}(...)`; it has {found}.")
    return value


def to_plain(config: Any) -> Any:
    """Returns a config as dicts, lists and scalars, ready for JSON."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: to_plain(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_plain(value) for value in config]
    return config


def from_plain(expected: type[T], plain: Any, where: str) -> T:
    """Returns the config of type `expected` that `to_plain` turned into `plain`.

    Args:
        expected: A dataclass.
        plain: Dicts, lists and scalars.
        where: Names the file in errors.

    Raises:
        UserError: If keys are missing or unknown, or a value has another type.
    """
    try:
        return _built(expected, plain, "")
    except _Fault as fault:
        raise UserError(f"{where}: {fault}") from None


def to_json(config: Any) -> str:
    """Returns a config as indented JSON."""
    return json.dumps(to_plain(config), indent=2)


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


class _Fault(Exception):
    """One stored value that does not fit."""


def _built(hint: Any, plain: Any, key: str) -> Any:
    """Returns plain data as a value of the hinted type."""
    options = union_members(hint)
    if plain is None and type(None) in options:
        return None
    option: Any = next(option for option in options if option is not type(None))
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if isinstance(option, type) and dataclasses.is_dataclass(option):
        if not isinstance(plain, Mapping):
            raise _Fault(f"{key or 'the config'} must be a group of keys")
        hints = typing.get_type_hints(option)
        unknown = set(map(str, plain)) - set(hints)
        if unknown:
            raise _Fault(f"unknown keys {', '.join(f'{key}.{name}'.lstrip('.') for name in sorted(unknown))}")
        try:
            return option(**{n: _built(hints[n], value, f"{key}.{n}".lstrip(".")) for n, value in plain.items()})
        except TypeError as error:
            raise _Fault(f"{key or 'the config'}: {error}") from None
    if is_mapping(option):
        if not isinstance(plain, Mapping):
            raise _Fault(f"{key} must be a group of keys")
        return {name: _built(arguments[1], value, f"{key}.{name}") for name, value in plain.items()}
    if origin is tuple:
        if not isinstance(plain, list) or (arguments[1:] != (...,) and len(plain) != len(arguments)):
            raise _Fault(f"{key}: {plain!r} does not fit {option}")
        kinds = [arguments[0]] * len(plain) if arguments[1:] == (...,) else arguments
        return tuple(_built(kind, value, key) for kind, value in zip(kinds, plain, strict=True))
    allowed = arguments if origin is typing.Literal else None
    fits = plain in allowed if allowed else isinstance(plain, (int, float) if option is float else option)
    if not fits or (isinstance(plain, bool) and option is not bool and not allowed):
        raise _Fault(f"{key}: {plain!r} does not fit {allowed or option.__name__}")
    return float(plain) if option is float and isinstance(plain, int) else plain


def union_members(hint: Any) -> list[Any]:
    """Returns the types that a hint allows: one, or those of a union."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return list(typing.get_args(hint))
    return [hint]


def is_mapping(hint: Any) -> bool:
    """Returns whether a hint is a mapping."""
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)
