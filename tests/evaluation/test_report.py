"""What is written of an evaluation: the published form of the scores, the numbers, the table, the picture."""

from __future__ import annotations

import csv
import json
import pickle
import resource
from pathlib import Path

import pytest
import torch

from omnisource.errors import UserError
from omnisource.evaluation.evaluate import Evaluation
from omnisource.evaluation.metrics import classification_metrics
from omnisource.evaluation.report import write_report, write_result


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


def test_report_that_cannot_be_written_whole_leaves_the_former_one(tmp_path: Path) -> None:
    write_report(an_evaluation(), tmp_path, "best.pt", is_average=True)
    before = {name: (tmp_path / name).read_bytes() for name in ("metrics.json", "per_class.csv")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))  # as a disk that is full after so many bytes
    try:
        with pytest.raises(OSError):
            write_report(an_evaluation(), tmp_path, "other.pt", is_average=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not list(tmp_path.glob("*.tmp"))
