from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from omnisource.data.lists.items import Items, PackedStrings
from omnisource.data.loading.unreadable import LeftOut
from omnisource.errors import UserError
from omnisource.evaluation.evaluate import Evaluation
from omnisource.evaluation.metrics import classification_metrics, confusion_matrix
from omnisource.evaluation.results.predictions import (
    chosen_examples,
    predictions_of,
    read_predictions,
    write_predictions,
)


def evaluation(scores: torch.Tensor, labels: torch.Tensor, left_out: tuple[LeftOut, ...] = ()) -> Evaluation:
    names = [f"class \udcff{k}" for k in range(scores.shape[1])]
    metrics = classification_metrics(scores, labels, names)
    return Evaluation("clips", "test", tuple(map(str, range(len(labels)))), scores, labels, 8, metrics, left_out)


def items(count: int) -> Items:
    return Items("/data", PackedStrings(f"clip{k}\udcff.mp4" for k in range(count)), np.zeros(count, np.int32))


@pytest.mark.parametrize("num_classes", [1, 2, 7])
def test_predictions_give_the_metrics_with_ties_too_and_survive_the_file(tmp_path: Path, num_classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (200, num_classes), generator=generator).float() / 4  # many ties
    labels = torch.randint(0, num_classes, (200,), generator=generator)
    found = evaluation(scores, labels, (LeftOut(3, "/data/clip3.mp4", "cut off"),))
    rows = predictions_of(found, items(201))

    assert [row.index for row in rows[:4]] == [0, 1, 2, 4] and rows[3].path == "/data/clip4\udcff.mp4"
    assert sum(row.is_right for row in rows) / 200 == pytest.approx(found.metrics.top1)
    assert sum(row.label_rank <= 5 for row in rows) / 200 == pytest.approx(found.metrics.top5)
    matrix = np.zeros((num_classes, num_classes), int)
    for row in rows:
        matrix[row.label, row.top[0][0]] += 1
        assert row.is_right == (row.top[0][0] == row.label) and len({label for label, _ in row.top}) == len(row.top)
    assert np.array_equal(matrix, confusion_matrix(scores, labels).numpy())

    write_predictions(rows, found, tmp_path / "predictions.jsonl", {"media": "video"})
    read = read_predictions(tmp_path / "predictions.jsonl")
    assert read.rows == rows and read.left_out == (("/data/clip3.mp4", "cut off"),)
    assert read.classes[0] == "class \udcff0" and read.about["media"] == "video"


def test_file_of_a_newer_version_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(path)
    path.write_text('{"form": 2, "classes": [], "left_out": []}\n')
    with pytest.raises(UserError, match="newer omnisource"):
        read_predictions(path)


def test_examples_are_spread_over_the_list_and_the_most_certain_come_first() -> None:
    scores = torch.rand(100, 3, generator=torch.Generator().manual_seed(1))
    rows = predictions_of(evaluation(scores, torch.zeros(100, dtype=torch.int64)), items(100))
    chosen = chosen_examples(rows, 8)
    assert all(row.is_right for row in chosen["right"]) and len(chosen["right"]) == 8
    wrong = [row for row in rows if not row.is_right]
    assert chosen["certain"][0].top[0][1] == max(row.top[0][1] for row in wrong)
    assert chosen["wrong"][0] == wrong[0] and chosen["wrong"][-1] == wrong[-1]
