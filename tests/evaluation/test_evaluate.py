from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from omnisource import EvaluationViews, Recipe, Recognizer
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.data.lists.items import Items
from omnisource.data.loading.request import request_of
from omnisource.data.loading.sample import load_clip
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UserError
from omnisource.evaluation.evaluate import Evaluation, EvaluationTask, evaluate
from tests.support.media import truncate
from tests.support.tiny_runs import make_data, tiny_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="module")
def recipe(data: Path) -> Recipe:
    """The published recipe on a miniature, tested with 2 clips x 3 crops of 24 pixels."""
    recipe = tiny_recipe(data)
    views = EvaluationViews(num_clips=2, num_crops=3, short_side=32, crop_size=24)
    kinetics = dataclasses.replace(recipe.sources["kinetics400"], test_views=views)
    return dataclasses.replace(recipe, sources={**recipe.sources, "kinetics400": kinetics})


@pytest.fixture
def recognizer(recipe: Recipe) -> Recognizer:
    """A recognizer in training mode whose running statistics are not those it was born with."""
    torch.manual_seed(0)
    model = Recognizer(recipe.model, recipe.label_spaces)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model.train()


def items_of(recipe: Recipe, split: str = "test") -> Items:
    resolved, names = resolve_classes(recipe)
    items = read_split(resolved, names, "kinetics400", split)  # type: ignore[arg-type]
    assert items is not None
    return items


def evaluated(recognizer: Recognizer, recipe: Recipe, permitted: int = 0, split: str = "test") -> Evaluation:
    with WorkerPool(0, 60) as workers:
        task = EvaluationTask(recipe, "kinetics400", split, items_of(recipe, split))  # type: ignore[arg-type]
        return evaluate(recognizer, task, workers, UnreadableLog(permitted))


def test_scores_are_the_mean_of_the_softmax_of_all_views(recognizer: Recognizer, recipe: Recipe) -> None:
    evaluation = evaluated(recognizer, recipe)
    items = items_of(recipe)
    source = recipe.sources["kinetics400"]
    recognizer.eval()
    expected = []
    with torch.no_grad():
        for index in range(len(items)):
            clip = load_clip(request_of("kinetics400", source, "test", items, index))
            assert clip.frames.shape == (6, 3, 2, 24, 24)
            views = [recognizer.video_logits(view[None])[0].softmax(dim=0) for view in clip.frames]
            expected.append(torch.stack(views).mean(dim=0))
    assert evaluation.scores.dtype == torch.float32
    torch.testing.assert_close(evaluation.scores, torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert evaluation.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert evaluation.keys == tuple(items[index].key for index in range(6))
    assert evaluation.crop_size == 24
    assert evaluation.metrics.count == 6


@pytest.mark.parametrize("views_at_a_time", [1, 4, 7, 100])
def test_memory_bound_changes_no_score(recognizer: Recognizer, recipe: Recipe, views_at_a_time: int) -> None:
    wide = evaluated(recognizer, recipe)
    narrow = evaluated(recognizer, dataclasses.replace(recipe, views_at_a_time=views_at_a_time))
    assert narrow.keys == wide.keys
    torch.testing.assert_close(narrow.scores, wide.scores, rtol=1e-5, atol=1e-6)


def test_evaluation_leaves_the_recognizer_as_it_was(recognizer: Recognizer, recipe: Recipe) -> None:
    before = {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}
    evaluated(recognizer, recipe)
    assert recognizer.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in recognizer.state_dict().items())
    recognizer.eval()
    evaluated(recognizer, recipe)
    assert not recognizer.training


def test_validation_and_test_have_their_own_views(recognizer: Recognizer, recipe: Recipe) -> None:
    assert evaluated(recognizer, recipe, split="validation").crop_size == 32
    assert evaluated(recognizer, recipe, split="test").crop_size == 24


def test_unreadable_items_stop_or_are_left_out(recognizer: Recognizer, tmp_path: Path) -> None:
    recipe = tiny_recipe(make_data(tmp_path))
    video = tmp_path / "data/kinetics400/videos_val" / items_of(recipe)[2].key
    truncate(video, 0.1)
    with pytest.raises(UserError, match="1 unreadable, 0 permitted"):
        evaluated(recognizer, recipe)
    assert recognizer.training
    evaluation = evaluated(recognizer, recipe, permitted=1)
    items = items_of(recipe)
    assert evaluation.keys == tuple(items[index].key for index in (0, 1, 3, 4, 5))
    assert evaluation.labels.tolist() == [0, 0, 1, 2, 2]
    assert evaluation.scores.shape == (5, 3)
    for path in video.parents[1].rglob("*.mp4"):
        truncate(path, 0.1)
    none = re.escape(f"none of its 6 test items can be read, such as {items[0].path}: ") + r"\w.*\nomnisource check "
    with pytest.raises(UserError, match=none):
        evaluated(recognizer, recipe, permitted=9)
