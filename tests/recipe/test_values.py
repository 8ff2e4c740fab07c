"""What of the values of a config does not fit the types and bounds that stand beside its fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, Le

from omnisource.recipe.data import TrainingView
from omnisource.recipe.values import bound_faults, type_faults
from tests.support.small_configs import Either, Part, Whole


def test_type_faults_are_listed_all_at_once() -> None:
    wrong: Any = Whole({"x": Part(count="1"), "y": 3}, name=None, one=TrainingView(), pair=(1, 2, 3))  # type: ignore
    assert type_faults(wrong) == [
        "parts.x.count = '1': wants a whole number",
        "parts.y = 3: wants Part(...)",
        "name = None: wants text",
        "pair = [1, 2, 3]: wants 2 values",
        f"one = {TrainingView()!r:.80}: wants Part(...)",
    ]


def test_value_of_no_kind_of_group_names_all_kinds() -> None:
    faults = type_faults(Either(part=3))  # pyright: ignore[reportArgumentType]
    assert faults == ["part = 3: wants Part(...) or Other(...)"]
    assert type_faults(Either(part=None)) == [  # pyright: ignore[reportArgumentType]
        "part = None: wants Part(...) or Other(...)"
    ]


@dataclasses.dataclass(frozen=True)
class Bounded:
    count: Annotated[int, Ge(1)] = 1
    rate: Annotated[float, Gt(0), Le(64)] | None = None
    decay: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    pair: tuple[Annotated[float, Interval(ge=0, le=1)], Annotated[float, Interval(ge=0, le=1)]] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Groups:
    by_name: Mapping[str, Bounded]
    one: Annotated[Bounded | None, "another mark"] = None
    count: Annotated[int, "another mark", Ge(0)] = 0


def test_values_at_their_bounds_are_allowed() -> None:
    assert bound_faults(Bounded(count=1, rate=64.0, decay=0.0, pair=(0.0, 1.0))) == []


def test_values_beyond_their_bounds_are_listed_all_at_once_those_of_groups_last() -> None:
    groups = Groups({"x": Bounded(count=0), "y": Bounded(rate=0.0)}, one=Bounded(rate=64.5, pair=(2.0, -1.0)), count=-1)
    assert bound_faults(groups, "all.") == [
        "all.count=-1: must be at least 0",
        "all.by_name.x.count=0: must be at least 1",
        "all.by_name.y.rate=0.0: must be above 0",
        "all.one.rate=64.5: must be at most 64",
        "all.one.pair=(2.0, -1.0): both must be in [0, 1]",
    ]


def test_value_just_beyond_a_limit_does_not_read_like_the_limit() -> None:
    assert bound_faults(Bounded(decay=1.0)) == ["decay=1.0: must be in [0, 1)"]
    assert bound_faults(Bounded(rate=64.0000001)) == ["rate=64.0000001: must be at most 64"]
    assert bound_faults(Bounded(rate=-2.0)) == ["rate=-2: must be above 0"]


def test_names_of_groups_are_texts() -> None:
    faults = type_faults(Groups({1: Bounded()}))  # pyright: ignore[reportArgumentType]
    assert faults == ["by_name: 1 is no name: wants text"]
