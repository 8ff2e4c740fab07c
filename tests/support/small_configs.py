"""Configs of a few fields, with every kind of value that a config can hold."""

from __future__ import annotations

import dataclasses
import typing
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Part:
    count: int = 1
    """How many."""

    share: float = 0.5
    """Which share."""


@dataclasses.dataclass(frozen=True)
class Whole:
    parts: typing.Mapping[str, Part]
    """Parts by name."""

    name: str = ""
    """The name."""

    kind: Literal["a", "b", 3] = "a"
    """The kind."""

    pair: tuple[int, float] = (1, 2.0)
    """A pair."""

    row: tuple[str, ...] = ()
    """A row."""

    is_set: bool = False
    """Whether it is set."""

    limit: float | None = None
    """A limit, or
    none."""

    one: Part | None = None
    """One part."""


@dataclasses.dataclass(frozen=True)
class Other:
    name: str = ""
    """The name."""

    count: int = 1
    """How many."""


@dataclasses.dataclass(frozen=True)
class Either:
    part: Part | Other
    """A part of either kind."""

    maybe: Part | Other | None = None
    """A part of either kind, or none."""
