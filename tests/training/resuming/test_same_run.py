"""Recipes of checkpoints are compared as recipes: what came later has its default, and marks say what may differ."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from omnisource import Optimizer, Recipe, load_config
from omnisource.checkpoints.file import Checkpoint
from omnisource.errors import UserError
from omnisource.recipe.keys import marked_keys
from omnisource.recipe.marks import MAY_DIFFER
from omnisource.recipe.overrides import apply_overrides
from omnisource.recipe.plain import to_plain
from omnisource.training.resuming.same_run import check_same_run
from tests.support.miniature import OWN_DATA_CONFIG

PATH = Path("step_000000002.pt")
RECIPE = load_config(str(OWN_DATA_CONFIG), Recipe)


@dataclasses.dataclass(frozen=True)
class LaterOptimizer(Optimizer):
    lookahead_steps: int = 0
    """Steps."""


@dataclasses.dataclass(frozen=True)
class LaterRecipe(Recipe):
    """A recipe as a later version has it, with one field more, and one more in a group."""

    optimizer: LaterOptimizer = dataclasses.field(default_factory=LaterOptimizer)
    """How the weights are changed."""

    color_space: str = "RGB"
    """Space of the colors."""


def later(**changes: Any) -> LaterRecipe:
    values = {field.name: getattr(RECIPE, field.name) for field in dataclasses.fields(Recipe)}
    values["optimizer"] = LaterOptimizer(**dataclasses.asdict(RECIPE.optimizer))
    return LaterRecipe(**(values | changes))


def check(recipe: Recipe, plain: dict[str, Any]) -> None:
    check_same_run(Checkpoint(plain, {}, {"digests": {}}, {}), PATH, recipe, {"digests": {}})


def refused(recipe: Recipe, plain: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        check(recipe, plain)
    return str(caught.value)


def test_recipe_that_gained_fields_with_defaults_is_of_the_same_run() -> None:
    check(later(), to_plain(RECIPE))


def test_gained_field_that_is_set_makes_another_run_and_its_default_is_reported() -> None:
    optimizer = dataclasses.replace(later().optimizer, lookahead_steps=5)
    message = refused(later(color_space="YUV", optimizer=optimizer), to_plain(RECIPE))
    assert message.splitlines()[1:-1] == [
        "  optimizer.lookahead_steps: 0 in the checkpoint, 5 now",
        "  color_space: 'RGB' in the checkpoint, 'YUV' now",
    ]


def test_recipe_of_a_newer_version_is_refused_with_its_unknown_keys() -> None:
    assert refused(RECIPE, to_plain(later())).startswith(
        f"{PATH}: unknown keys color_space; if a newer omnisource wrote this file, update yours"
    )


def test_marked_keys_may_differ_and_no_others() -> None:
    plain = to_plain(RECIPE)
    allowed = [
        "accumulation=3",
        "checkpoints.keep_last=1",
        "max_unreadable_share=0.5",
        "model.weights=x.pth",
        "sources.videos.root=/elsewhere",
        "sources.videos.train.folder=x",
        "sources.images.validation_views.num_clips=2",
        "sources.images.test.list=x",
        "sources.images.classes=x",
    ]
    check(apply_overrides(RECIPE, allowed), plain)
    for override in ("model.width=0.5", "sources.videos.train.format=csv", "sources.images.training_view.crop_size=8"):
        key = override.partition("=")[0]
        assert f"{key}: " in refused(
            apply_overrides(RECIPE, [*allowed, "sources.videos.train.list=x", override]), plain
        )


def test_docs_list_the_keys_that_are_marked(project: Path) -> None:
    text = (project / "docs/train_and_test.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"These keys may change.*?\n\n(.*?)\n\n", text, flags=re.DOTALL)
    marked = [key.replace("*", "NAME") for key in marked_keys(Recipe, MAY_DIFFER)]
    assert sorted(re.findall(r"`([^`]+)`", table)) == sorted(marked)
