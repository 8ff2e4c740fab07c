"""Configs as plain data and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnisource.errors import UserError
from omnisource.recipe.keys import differences
from omnisource.recipe.loading import load_config
from omnisource.recipe.marks import Formerly
from omnisource.recipe.optimization import Optimizer
from omnisource.recipe.plain import from_plain, to_json, to_plain, with_former_values
from omnisource.recipe.recipe import Recipe
from omnisource.recipe.values import type_faults
from tests.conftest import PROJECT
from tests.support.miniature import PUBLISHED_CONFIG
from tests.support.small_configs import Either, Other, Part, Whole

CONFIGS = sorted((PROJECT / "configs").rglob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_the_project_survives_json(path: Path) -> None:
    recipe = load_config(str(path), Recipe)
    again = from_plain(Recipe, json.loads(to_json(recipe)), "recipe.json")
    assert again == recipe
    assert differences(recipe, again) == []


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        Whole,
        parts=st.dictionaries(
            st.text(min_size=1), st.builds(Part, st.integers(), st.floats(allow_nan=False, allow_infinity=False))
        ),
        name=st.text(),
        kind=st.sampled_from(["a", "b", 3]),
        pair=st.tuples(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
        row=st.lists(st.text()).map(tuple),
        is_set=st.booleans(),
        limit=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        one=st.none() | st.builds(Part),
    )
)
def test_any_config_survives_json(whole: Whole) -> None:
    assert type_faults(whole) == []
    assert from_plain(Whole, json.loads(to_json(whole)), "whole.json") == whole


@pytest.mark.parametrize("either", [Either(Part(2)), Either(Other("x"), Part(3)), Either(Part(), Other(count=4))])
def test_group_of_several_kinds_survives_json(either: Either) -> None:
    assert type_faults(either) == []
    assert from_plain(Either, json.loads(to_json(either)), "either.json") == either


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"parts": {}, "nmae": "x"}, "unknown keys nmae"),
        ({"parts": {"x": {"cuont": 1}}}, "unknown keys parts.x.cuont"),
        ({"name": "x"}, "missing keys parts"),
        ({"parts": {}, "name": 3}, "name = 3: wants text"),
        ({"parts": {}, "kind": "c"}, "kind = 'c': wants one of a, b, 3"),
        ({"parts": {}, "kind": "3"}, "kind = '3': wants one of a, b, 3"),
        ({"parts": {}, "pair": [1]}, r"pair = \[1\]: wants 2 values"),
        ({"parts": {}, "pair": "12"}, "pair = '12': wants 2 values"),
        ({"parts": {}, "pair": ["1", 2]}, "pair = '1': wants a whole number"),
        ({"parts": {}, "row": [1]}, "row = 1: wants text"),
        ({"parts": {}, "is_set": 1}, "is_set = 1: wants True or False"),
        ({"parts": {}, "limit": "x"}, "limit = 'x': wants a finite number or None"),
        ({"parts": {}, "limit": float("inf")}, "limit = inf: wants a finite number"),
        ({"parts": {"x": {"count": True}}}, "parts.x.count = True: wants a whole number"),
        ({"parts": {"x": {"count": 1.5}}}, "parts.x.count = 1.5: wants a whole number"),
        ({"parts": {"x": {"count": None}}}, "parts.x.count = None: wants a whole number"),
        ({"parts": {"x": 3}}, "parts.x must be a group"),
        ({"parts": 3}, "parts must be a group"),
        ([], "the config must be a group"),
    ],
)
def test_plain_data_of_another_shape_is_refused(plain: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^whole.json: {message}"):
        from_plain(Whole, plain, "whole.json")


@pytest.mark.parametrize(
    ("plain", "fault"),
    [
        ({"part": {"name": "x", "shares": 1}}, "unknown keys part.shares"),
        ({"part": {"share": "x"}}, "part.share = 'x': wants a finite number"),
        ({"part": {"name": 1}}, "part.name = 1: wants text"),
        ({"part": None}, "part must be a group of keys"),
        ({"part": {}, "maybe": {"share": True}}, "maybe.share = True: wants a finite number"),
    ],
)
def test_group_that_is_of_no_kind_is_refused_by_the_kind_that_it_is_most_like(plain: Any, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        from_plain(Either, plain, "either.json")


def test_whole_numbers_become_floats_where_floats_are_wanted() -> None:
    optimizer = from_plain(Optimizer, {"learning_rate": 1}, "optimizer.json")
    assert type(optimizer.learning_rate) is float


@dataclass(frozen=True)
class Later:
    """A config that has gained fields."""

    old: int = 1
    new: Annotated[bool, Formerly(False)] = True
    word: Annotated[str, Formerly("never")] = "sometimes"


@dataclass(frozen=True)
class LaterWhole:
    """A config with such a group."""

    group: Later = field(default_factory=Later)
    also: Annotated[int, Formerly(0)] = 5


def test_stored_config_without_a_field_means_what_was_done_before_it() -> None:
    assert from_plain(Later, {"old": 2}, "") == Later(2, new=False, word="never")
    assert from_plain(Later, {"old": 2, "new": True, "word": "never"}, "") == Later(2, new=True, word="never")
    assert from_plain(LaterWhole, {"group": {"old": 2}}, "") == LaterWhole(Later(2, False, "never"), also=0)
    assert Later() == Later(1, new=True, word="sometimes")


def test_run_that_began_before_a_field_goes_on_as_it_began() -> None:
    stored = from_plain(LaterWhole, {"group": {"old": 2, "word": "sometimes"}}, "")
    ours = LaterWhole(Later(3))
    changed, lines = with_former_values(ours, stored)
    assert changed == LaterWhole(Later(3, new=False), also=0)  # what differs otherwise is not for this to settle
    assert lines == [
        "group.new=False, not True: the run goes on as it began",
        "also=0, not 5: the run goes on as it began",
    ]
    again, lines = with_former_values(ours, from_plain(LaterWhole, to_plain(changed), ""))  # written by its next life
    assert again == changed and len(lines) == 2
    chosen = LaterWhole(Later(word="always"), also=7)  # not the default: whoever says so means it
    assert with_former_values(chosen, stored)[0] == replace(chosen, group=Later(new=False, word="always"))


def test_stored_recipe_that_its_own_checks_refuse_is_a_user_error() -> None:
    plain = to_plain(load_config(str(PUBLISHED_CONFIG), Recipe))
    plain["num_epochs"] = 0
    with pytest.raises(UserError, match=r"^recipe\.json: num_epochs=0: must be at least 1$"):
        from_plain(Recipe, plain, "recipe.json")
