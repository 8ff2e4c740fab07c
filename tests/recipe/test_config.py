"""Config files, configs as plain data and back, and the meaning of every key."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnisource.errors import UserError
from omnisource.recipe.data import TrainingView
from omnisource.recipe.keys import describe_keys, differences, field_docs
from omnisource.recipe.loading import load_config
from omnisource.recipe.optimization import Optimizer
from omnisource.recipe.plain import from_plain, to_json, to_plain
from omnisource.recipe.recipe import Recipe
from omnisource.recipe.values import is_mapping, type_faults, union_members
from tests.conftest import PROJECT
from tests.support.miniature import PUBLISHED_CONFIG

CONFIGS = sorted((PROJECT / "configs").rglob("*.py"))


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


def config_types(config_type: type) -> Iterator[type]:
    """Yields a config dataclass and all that its fields can hold."""
    yield config_type
    for hint in typing.get_type_hints(config_type).values():
        for option in union_members(hint):
            inner = typing.get_args(option)[1] if is_mapping(option) else option
            if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                yield from config_types(inner)


def written(folder: Path, text: str, name: str = "some_config.py") -> str:
    (folder / name).write_text(text)
    return name


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # so that configs are named by relative paths, as users do


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_the_project_survives_json(path: Path) -> None:
    recipe = load_config(str(path), Recipe)
    again = from_plain(Recipe, json.loads(to_json(recipe)), "recipe.json")
    assert again == recipe
    assert differences(recipe, again) == []


def test_published_config_lies_under_its_published_name() -> None:
    name = "slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb.py"
    assert PROJECT / "configs/recognition/omnisource" / name in CONFIGS


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


# What a stored config may not be.


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


def test_whole_numbers_become_floats_where_floats_are_wanted() -> None:
    optimizer = from_plain(Optimizer, {"learning_rate": 1}, "optimizer.json")
    assert type(optimizer.learning_rate) is float


def test_stored_recipe_that_its_own_checks_refuse_is_a_user_error() -> None:
    plain = to_plain(load_config(str(PUBLISHED_CONFIG), Recipe))
    plain["num_epochs"] = 0
    with pytest.raises(UserError, match=r"^recipe\.json: num_epochs=0: must be at least 1$"):
        from_plain(Recipe, plain, "recipe.json")


def test_type_faults_are_listed_all_at_once() -> None:
    wrong: Any = Whole({"x": Part(count="1"), "y": 3}, name=None, one=TrainingView(), pair=(1, 2, 3))  # type: ignore
    assert type_faults(wrong) == [
        "parts.x.count = '1': wants a whole number",
        "parts.y = 3: wants Part(...)",
        "name = None: wants text",
        "pair = [1, 2, 3]: wants 2 values",
        f"one = {TrainingView()!r:.80}: wants Part(...)",
    ]


# Config files.


def test_missing_config_suggests_the_name_that_is_near() -> None:
    Path("folder.py").mkdir()
    written(Path(), "recipe = 1\n", "kinetics.py")
    with pytest.raises(UserError, match=r"^kinetisc\.py: no such config file\. Did you mean kinetics\.py\?"):
        load_config("kinetisc.py", Recipe)
    with pytest.raises(UserError, match=r"^nowhere/x\.py: no such config file\.$"):
        load_config("nowhere/x.py", Recipe)
    with pytest.raises(UserError, match=r"^folder\.py: no such config file\.$"):
        load_config("folder.py", Recipe)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = (\n", r"some_config\.py:2: not valid Python: "),
        ("x = 1\n\nraise RuntimeError('no')\n", r"some_config\.py:3: the config failed: RuntimeError: no"),
        ("\nimport nothing_of_this_name\n", r"some_config\.py:2: the config failed: ModuleNotFoundError: "),
        ("def f():\n    int('x')\n\nf()\n", r"some_config\.py:2: invalid literal for int"),
        ("import json\njson.loads('[')\n", r"some_config\.py:2: the config failed: JSONDecodeError: "),
        ("import sys\nsys.exit(3)\n", r"some_config\.py:2: the config failed: SystemExit: 3"),
        ("x = '\0'\n", r"some_config\.py: .*null bytes"),
        ("x = 1\n", r"some_config\.py: a config must build `recipe = Recipe\(\.\.\.\)`; it has nothing of that name"),
        ("recipe = 3\n", r"some_config\.py: a config must build .*; it has recipe = 3"),
        (
            "from omnisource import Recipe as recipe\n",
            r"some_config\.py: a config must build .*; it has recipe = <class",
        ),
    ],
)
def test_config_that_gives_no_recipe_is_a_user_error_with_its_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        load_config(written(Path(), text), Recipe)


def test_user_error_of_a_config_that_loads_another_names_the_other() -> None:
    path = written(
        Path(),
        "from omnisource import Recipe, load_config\nload_config('b.py', Recipe)\n",
    )
    with pytest.raises(UserError, match=r"^b\.py: no such config file"):
        load_config(path, Recipe)


def test_fault_of_a_recipe_names_file_and_line_of_the_recipe() -> None:
    text = (
        PUBLISHED_CONFIG.read_text().replace("num_epochs=256", "num_epochs=0").replace("batch_size=16", "batch_size=0")
    )
    line = next(number for number, row in enumerate(text.splitlines(), 1) if row.startswith("recipe = "))
    with pytest.raises(UserError) as caught:
        load_config(written(Path(), text), Recipe)
    message = str(caught.value)
    assert message.startswith(f"some_config.py:{line}: num_epochs=0: must be at least 1; ")
    assert "sources.kinetics400.batch_size=0: must be at least 1" in message


def test_wrong_type_in_a_config_file_names_key_and_wanted_type() -> None:
    text = PUBLISHED_CONFIG.read_text().replace("depth=50", "depth=51").replace("num_epochs=256", "num_epochs='256'")
    with pytest.raises(UserError) as caught:
        load_config(written(Path(), text), Recipe)
    assert "num_epochs = '256': wants a whole number" in str(caught.value)
    assert "model.depth = 51: wants one of 18, 34, 50, 101, 152" in str(caught.value)


def test_config_needs_no_suffix_and_leaves_nothing_behind() -> None:
    path = written(Path(), PUBLISHED_CONFIG.read_text(), "published.config")
    assert load_config(path, Recipe) == load_config(str(PUBLISHED_CONFIG), Recipe)
    assert [file.name for file in Path().iterdir()] == ["published.config"]


def test_edit_of_the_same_second_and_length_is_seen() -> None:
    values = []
    for number in (1, 2):
        values.append(load_config(written(Path(), f"recipe = {number}\n"), int))
    assert values == [1, 2]


def test_config_may_define_its_own_dataclass() -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass(frozen=True)\nclass Mine:\n    x: int = 3\nrecipe = Mine().x\n"
    )
    assert load_config(written(Path(), text), int) == 3


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


@pytest.mark.parametrize("either", [Either(Part(2)), Either(Other("x"), Part(3)), Either(Part(), Other(count=4))])
def test_group_of_several_kinds_survives_json(either: Either) -> None:
    assert type_faults(either) == []
    assert from_plain(Either, json.loads(to_json(either)), "either.json") == either


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


def test_value_of_no_kind_of_group_names_all_kinds() -> None:
    faults = type_faults(Either(part=3))  # pyright: ignore[reportArgumentType]
    assert faults == ["part = 3: wants Part(...) or Other(...)"]
    assert type_faults(Either(part=None)) == [  # pyright: ignore[reportArgumentType]
        "part = None: wants Part(...) or Other(...)"
    ]
