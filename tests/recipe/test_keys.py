"""The keys of configs: their meaning, what differs, and which are marked."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated

import pytest

from omnisource.recipe.keys import describe_keys, differences, field_docs, is_among, marked_keys
from omnisource.recipe.recipe import Recipe
from omnisource.recipe.values import is_mapping, union_members
from tests.support.small_configs import Part, Whole


def config_types(config_type: type) -> Iterator[type]:
    """Yields a config dataclass and all that its fields can hold."""
    yield config_type
    for hint in typing.get_type_hints(config_type).values():
        for option in union_members(hint):
            inner = typing.get_args(option)[1] if is_mapping(option) else option
            if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                yield from config_types(inner)


@pytest.mark.parametrize("config_type", list(dict.fromkeys(config_types(Recipe))), ids=lambda kind: kind.__name__)
def test_every_field_of_every_config_type_has_its_docstring(config_type: type) -> None:
    docs = field_docs(config_type)
    assert config_type.__doc__
    for field in dataclasses.fields(config_type):
        doc = docs.get(field.name, "")
        assert len(doc) > 8 and doc[0].isupper() | doc.startswith(("1:", "`")) and doc.endswith("."), (
            f"{config_type.__name__}.{field.name}: {doc!r}"
        )


def test_config_types_are_all_found() -> None:
    names = {kind.__name__ for kind in config_types(Recipe)}
    assert names >= {"Recipe", "Model", "LabelSpace", "Source", "Split", "ClipSampling", "TrainingView", "Validation"}
    assert names >= {"EvaluationViews", "Optimizer", "Schedule", "Checkpoints"}


def test_field_docs_are_one_line_each() -> None:
    docs = field_docs(Whole)
    assert docs["limit"] == "A limit, or none."
    assert set(docs) == {field.name for field in dataclasses.fields(Whole)}


def test_described_keys_are_all_values_with_their_meaning() -> None:
    whole = Whole({"x": Part(count=3)}, one=None)
    described = {key: (value, meaning) for key, value, meaning in describe_keys(whole)}
    assert described["parts.x.count"] == (3, "How many.")
    assert described["one"] == (None, "One part.")
    assert "parts" not in described


def test_differences_name_keys_and_both_values() -> None:
    ours, theirs = Whole({"x": Part(), "y": Part()}), Whole({"x": Part(count=2)}, name="other")
    assert differences(ours, theirs) == [
        ("parts.x.count", 1, 2),
        ("parts.y.count", 1, None),
        ("parts.y.share", 0.5, None),
        ("name", "", "other"),
    ]


@dataclasses.dataclass(frozen=True)
class Marked:
    name: Annotated[str, "mark"] = ""
    part: Annotated[Part | None, "mark", "another"] = None
    other: Annotated[str, "another"] = ""


@dataclasses.dataclass(frozen=True)
class Tree:
    by_name: Mapping[str, Marked]
    one: Marked | Part | None = None
    count: Annotated[int, "mark"] = 0


def test_marked_keys_are_those_of_the_fields_and_groups_that_bear_the_mark() -> None:
    expected = ["by_name.*.name", "by_name.*.part", "one.name", "one.part", "count"]
    assert marked_keys(Tree, "mark") == expected
    assert marked_keys(Tree, "no mark") == []
    for key in ("by_name.x.name", "by_name.x.part", "by_name.x.part.share", "one.part.count", "count"):
        assert is_among(key, expected), key
    for key in ("by_name.x.other", "by_name", "by_name.x", "one.other", "counts", "name"):
        assert not is_among(key, expected), key
