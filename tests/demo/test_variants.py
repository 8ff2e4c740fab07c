"""The demo's ways of training: what each trains on, and that they cost the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnisource.demo.media import CLIP_CLASSES, DIGITS
from omnisource.demo.variants import demo_variants
from omnisource.training.plan import SHORT_RUN


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the demo's lists, with empty files as its media."""
    folder = tmp_path_factory.mktemp("demo")
    for kind, names, count in (("clips", CLIP_CLASSES, 6), ("images", DIGITS, 135)):
        (folder / kind).mkdir()
        (folder / kind / "classes.txt").write_text("".join(f"{name}\n" for name in names))
        lines = []
        for label, name in enumerate(names):
            for number in range(count):
                (folder / kind / f"{name}_{number}").touch()
                lines.append(f"{name}_{number} {label}\n")
        (folder / kind / "train.txt").write_text("".join(lines))
    return folder


def test_variants_cost_the_same_to_a_few_percent(media: Path) -> None:
    variants = demo_variants(media)
    joint = variants["joint"].multiply_adds
    assert 200e9 < joint < 300e9
    assert all(abs(variant.multiply_adds / joint - 1) < 0.03 for variant in variants.values())


def test_variants_train_on_what_they_say_and_are_tested_alike(media: Path) -> None:
    variants = demo_variants(media, seed=4)
    trained_on = {name: [set(stage.recipe.sources) for stage in one.stages] for name, one in variants.items()}
    assert trained_on == {
        "scratch": [{"clips"}],
        "pre-trained": [{"images"}, {"clips"}],
        "joint": [{"clips", "images"}],
    }
    last = [variant.stages[-1].recipe for variant in variants.values()]
    assert len({recipe.sources["clips"].test_views for recipe in last}) == 1
    assert {recipe.seed for recipe in last} == {4}
    assert all(recipe.validation.interval_epochs == 0 for recipe in last)  # nothing is chosen on held-out clips
    for recipe in last:  # short: BatchNorm's statistics are computed again at the end
        steps = recipe.num_epochs * (120 // 16)
        assert steps * recipe.model.batch_norm_momentum < SHORT_RUN and recipe.recompute_batch_norm == "if_short"
