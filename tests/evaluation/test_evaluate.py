from __future__ import annotations

import csv
import dataclasses
import json
import pickle
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
from omnisource.evaluation.evaluate import Evaluation, evaluate, write_report, write_result
from omnisource.evaluation.metrics import classification_metrics
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
        items = items_of(recipe, split)
        log = UnreadableLog(permitted)
        return evaluate(recognizer, recipe, "kinetics400", split, items, workers, log)  # type: ignore[arg-type]


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


def an_evaluation() -> Evaluation:
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.1, 0.8, 0.1]])
    labels = torch.tensor([0, 1, 1])
    metrics = classification_metrics(scores, labels, ["run", "sit, down", "wave"])
    return Evaluation("clips", "test", ("a.mp4", "b.mp4", "c.mp4"), scores, labels, 256, metrics)


def test_result_file_has_the_published_form(tmp_path: Path) -> None:
    write_result(an_evaluation(), tmp_path / "new/result.pkl")
    results = pickle.loads((tmp_path / "new/result.pkl").read_bytes())
    assert [list(entry) for entry in results] == [
        ["pred_score", "pred_label", "gt_label", "num_classes", "img_shape", "key"]
    ] * 3
    second = results[1]
    assert torch.equal(second["pred_score"], torch.tensor([0.3, 0.3, 0.4]))
    assert torch.equal(second["pred_label"], torch.tensor([2]))
    assert torch.equal(second["gt_label"], torch.tensor([1]))
    assert (second["num_classes"], second["img_shape"], second["key"]) == (3, (256, 256), "b.mp4")
    assert all(entry["pred_score"].untyped_storage().nbytes() == 12 for entry in results)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["result.pkl"]


def test_result_file_that_cannot_be_written_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "result.pkl").mkdir()
    for path in (tmp_path / "file/result.pkl", tmp_path / "result.pkl"):
        with pytest.raises(UserError, match=r"result\.pkl: the scores cannot be written"):
            write_result(an_evaluation(), path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "result.pkl"]


def test_report_has_numbers_table_and_picture(tmp_path: Path) -> None:
    write_report(an_evaluation(), tmp_path / "clips", "best.pt", is_average=True)
    metrics = json.loads((tmp_path / "clips/metrics.json").read_text())
    assert (metrics["source"], metrics["checkpoint"], metrics["ema"]) == ("clips", "best.pt", True)
    assert metrics["top1"] == pytest.approx(2 / 3)
    assert metrics["count"] == 3
    with open(tmp_path / "clips/per_class.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["class", "items", "correct", "accuracy", "mostly taken for"],
        ["run", "1", "1", "1.0000", ""],
        ["sit, down", "2", "1", "0.5000", "wave"],
        ["wave", "0", "0", "", ""],
    ]
    assert (tmp_path / "clips/confusion.png").read_bytes().startswith(b"\x89PNG")
