from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from omnisource.compare.experiment import Budget, Experiment, Fold, joint, pretrained
from tests.support.tiny_runs import tiny_recipe

GOOD: dict[str, Any] = {
    "variants": {"joint": joint()},
    "folds": {"one": Fold("train.txt", "test.txt")},
    "budgets": {"compute": Budget("compute", 10, of="joint")},
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variants": {}}, "variants: wants at least one Variant"),
        ({"variants": {"joint": joint}}, "variants 'joint': is <function joint"),
        ({"variants": {"a b": joint()}}, "'a b': a name is letters"),
        ({"variants": {"joint": pretrained(1.0)}}, "pretraining_share=1.0"),
        ({"budgets": {"b": Budget("compute", 10)}}, "of='' is none of the variants joint"),
        ({"budgets": {"b": Budget("steps", 10)}}, "equal='steps': must be"),  # type: ignore[arg-type]
        ({"budgets": {"b": Budget("video_steps", 0)}}, "video_steps=0 is below 1"),
        ({"seeds": 3}, "seeds=3: wants at least one"),
        ({"seeds": (1, 1)}, "seeds: one is there twice"),
        ({"amounts": (0, None)}, "amounts: 0 is below 1"),
        ({"grid": {"optimizer.method": "sgd"}}, "grid optimizer.method='sgd': wants the values to try"),
        ({"validation_share": 1.5}, "validation_share=1.5"),
    ],
)
def test_experiment_that_cannot_be_is_refused_with_what_to_change(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Experiment(recipe=tiny_recipe(Path("data")), **{**GOOD, **values})
