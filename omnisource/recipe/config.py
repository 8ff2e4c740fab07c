"""Configs as frozen dataclasses: loading a config file, plain data and back, keys and their meaning. Knows no field."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import json
import math
import sys
import traceback
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

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
        UserError: If keys are missing or unknown, a value has another type, or the config refuses its values.
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


def type_faults(config: Any, prefix: str = "") -> list[str]:
    """Returns, a line each, which values of a config are not of the types that its fields declare.

    Args:
        config: A dataclass; Python itself checks no types.
        prefix: Goes before the keys.
    """
    hints = typing.get_type_hints(type(config))
    faults: list[str] = []
    for field in dataclasses.fields(config):
        key, value = f"{prefix}{field.name}", getattr(config, field.name)
        option = _option_of(hints[field.name], value)
        try:
            if is_mapping(option) and isinstance(value, Mapping):
                kind = typing.get_args(option)[1]
                for name, group in value.items():
                    faults += _group_faults(group, kind, f"{key}.{name}", kind)
            elif isinstance(option, type) and dataclasses.is_dataclass(option):
                if value is not None or type(None) not in union_members(hints[field.name]):
                    faults += _group_faults(value, option, key, hints[field.name])
            else:
                _built(hints[field.name], to_plain(value), key)
        except _Fault as fault:
            faults.append(str(fault))
    return faults


def _option_of(hint: Any, value: Any) -> Any:
    """Returns the type that a hint allows and a value is of; the first one where it is of none."""
    options = [option for option in union_members(hint) if option is not type(None)]
    return next((option for option in options if type(value) is option), options[0])


def _group_faults(value: Any, expected: type, key: str, hint: Any) -> list[str]:
    if not isinstance(value, expected):
        kinds = [wanted(option) for option in union_members(hint) if option is not type(None)]
        return [f"{key} = {value!r:.80}: wants {' or '.join(kinds)}"]
    return type_faults(value, f"{key}.")


def wanted(hint: Any) -> str:
    """Returns what a field of the hinted type takes, for messages."""
    simple = {int: "a whole number", float: "a finite number", bool: "True or False", str: "text", type(None): "None"}
    texts = []
    for option in union_members(hint):
        arguments = typing.get_args(option)
        if typing.get_origin(option) is typing.Literal:
            texts.append(f"one of {', '.join(map(str, arguments))}")
        elif typing.get_origin(option) is tuple:
            texts.append("several values" if arguments[1:] == (...,) else f"{len(arguments)} values")
        elif is_mapping(option):
            texts.append("a mapping of names")
        else:
            texts.append(simple.get(option) or f"{option.__name__}(...)")
    return " or ".join(texts)


class _Fault(Exception):
    """One value that does not fit."""


def _built(hint: Any, plain: Any, key: str) -> Any:
    """Returns plain data as a value of the hinted type."""
    options = union_members(hint)
    if plain is None and type(None) in options:
        return None
    options = [option for option in options if option is not type(None)]
    option: Any = max(options, key=lambda option: len(set(field_names(option)).intersection(_names(plain))))
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if isinstance(option, type) and dataclasses.is_dataclass(option):
        return _built_group(option, plain, key)
    if is_mapping(option):
        if not isinstance(plain, Mapping):
            raise _Fault(f"{key} must be a group of keys")
        return {name: _built(arguments[1], value, f"{key}.{name}") for name, value in plain.items()}
    if origin is tuple:
        if not isinstance(plain, list) or (arguments[1:] != (...,) and len(plain) != len(arguments)):
            raise _misfit(hint, plain, key)
        kinds = [arguments[0]] * len(plain) if arguments[1:] == (...,) else arguments
        return tuple(_built(kind, value, key) for kind, value in zip(kinds, plain, strict=True))
    if not _fits(option, plain):
        raise _misfit(hint, plain, key)
    return float(cast(float, plain)) if option is float else plain


def _misfit(hint: Any, plain: Any, key: str) -> _Fault:
    return _Fault(f"{key} = {plain!r:.80}: wants {wanted(hint)}")


def _fits(option: Any, plain: Any) -> bool:
    """Returns whether a scalar is of a type, or one of the literals."""
    if typing.get_origin(option) is typing.Literal:
        return any(plain == allowed and type(plain) is type(allowed) for allowed in typing.get_args(option))
    # True is an int to Python, but not to somebody who reads a recipe.
    if isinstance(plain, bool) or option is bool:
        return isinstance(plain, bool) and option is bool
    if option is float:
        return isinstance(plain, int | float) and math.isfinite(plain)
    return isinstance(plain, option)


def _built_group(expected: type, plain: Any, key: str) -> Any:
    """Returns a mapping of plain data as a dataclass."""
    if not isinstance(plain, Mapping):
        raise _Fault(f"{key or 'the config'} must be a group of keys")
    prefix = f"{key}." if key else ""
    hints = typing.get_type_hints(expected)
    needed = {
        field.name
        for field in dataclasses.fields(expected)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    for kind, names in (("unknown", set(map(str, plain)) - set(hints)), ("missing", needed - set(plain))):
        if names:
            raise _Fault(f"{kind} keys {', '.join(prefix + name for name in sorted(names))}")
    values = {name: _built(hints[name], value, prefix + name) for name, value in plain.items()}
    try:
        return expected(**values)
    except ValueError as error:  # the config's own checks
        raise _Fault(str(error)) from None


def _names(plain: Any) -> list[Any]:
    return list(plain) if isinstance(plain, Mapping) else []


def field_names(kind: Any) -> list[str]:
    """Returns the names of the fields of a dataclass; none where the type is no dataclass."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return []
    return [field.name for field in dataclasses.fields(kind)]


def union_members(hint: Any) -> list[Any]:
    """Returns the types that a hint allows: one, or those of a union."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return list(typing.get_args(hint))
    return [hint]


def is_mapping(hint: Any) -> bool:
    """Returns whether a hint is a mapping."""
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)
