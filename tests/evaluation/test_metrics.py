from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omnisource.errors import UserError
from omnisource.evaluation.metrics import (
    ClassificationMetrics,
    classification_metrics,
    confusion_matrix,
    top_k_accuracy,
)

# Six samples of four classes. Ranks of the labels: 1, 2, 1, 4, 3, 1.
SCORES = torch.tensor(
    [
        [0.7, 0.1, 0.1, 0.1],
        [0.5, 0.4, 0.1, 0.0],
        [0.1, 0.6, 0.2, 0.1],
        [0.4, 0.3, 0.2, 0.1],
        [0.1, 0.2, 0.3, 0.4],
        [0.2, 0.1, 0.6, 0.1],
    ]
)
LABELS = torch.tensor([0, 1, 1, 3, 1, 2])


def test_top_k_counts_the_labels_among_the_k_highest_scores() -> None:
    accuracies = [top_k_accuracy(SCORES, LABELS, k) for k in (1, 2, 3, 4)]
    assert accuracies == pytest.approx([3 / 6, 4 / 6, 5 / 6, 1])


def test_confusion_matrix_has_labels_as_rows_and_predictions_as_columns() -> None:
    expected = [[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0]]
    assert confusion_matrix(SCORES, LABELS).tolist() == expected


def test_class_accuracy_is_none_for_classes_without_samples() -> None:
    kept = LABELS != 2
    accuracies = [one.accuracy for one in classification_metrics(SCORES[kept], LABELS[kept]).classes]
    assert accuracies == [1, pytest.approx(1 / 3), None, 0]


def test_mean_class_accuracy_is_over_classes_among_labels_or_predictions() -> None:
    assert classification_metrics(SCORES, LABELS).mean_class_accuracy == pytest.approx((1 + 1 / 3 + 1 + 0) / 4)
    # Labels 0 and 1, predictions 0, 0 and 3: class 2 does not occur, class 3 is predicted only and counts with 0.
    few = torch.tensor([0, 1, 4])
    assert classification_metrics(SCORES[few], LABELS[few]).mean_class_accuracy == pytest.approx((1 + 0 + 0) / 3)


@pytest.mark.parametrize("label", [0, 1, 2, 3])
def test_constant_scores_are_wrong_whatever_the_label(label: int) -> None:
    scores, labels = torch.full((1, 4), 0.25), torch.tensor([label])
    assert [top_k_accuracy(scores, labels, k) for k in (1, 2, 3, 4)] == [0, 0, 0, 1]
    assert confusion_matrix(scores, labels).diagonal().sum() == 0
    assert classification_metrics(scores, labels).mean_class_accuracy == 0


def test_label_that_ties_with_the_highest_of_five_is_second() -> None:
    scores, labels = torch.tensor([[0.4, 0.4, 0.2, 0.0, 0.0]]), torch.tensor([0])
    assert (top_k_accuracy(scores, labels, 1), top_k_accuracy(scores, labels, 2)) == (0, 1)
    assert confusion_matrix(scores, labels)[0].tolist() == [0, 1, 0, 0, 0]


def test_top5_of_few_classes_is_one_and_said_to_be_so_by_definition() -> None:
    metrics = classification_metrics(SCORES, LABELS)
    assert metrics.top5 == 1
    assert "top-5 100.00%, by definition" in str(metrics)
    wide = classification_metrics(torch.eye(6), torch.arange(6))
    assert "by definition" not in str(wide)


def test_metrics_name_the_classes_and_what_they_were_mistaken_for() -> None:
    metrics = classification_metrics(SCORES, LABELS, ["run", "jump", "throw", "swim"])
    assert [(one.name, one.count, one.correct, one.mistaken_for) for one in metrics.classes] == [
        ("run", 1, 1, ""),
        ("jump", 3, 1, "run"),
        ("throw", 1, 1, ""),
        ("swim", 1, 0, "run"),
    ]
    assert metrics.classes[1].accuracy == pytest.approx(1 / 3)
    assert metrics.as_dict() == {"top1": 0.5, "top5": 1, "mean_class_accuracy": pytest.approx(7 / 12), "count": 6}


def test_class_without_samples_has_no_accuracy() -> None:
    metrics = classification_metrics(torch.eye(3)[:2], torch.tensor([0, 1]))
    assert [one.accuracy for one in metrics.classes] == [1, 1, None]


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**31))
def test_top1_is_the_share_on_the_diagonal_of_the_confusion_matrix(classes: int, samples: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (samples, classes), generator=generator).float()  # many ties
    labels = torch.randint(0, classes, (samples,), generator=generator)
    matrix = confusion_matrix(scores, labels)
    assert matrix.sum() == samples
    assert torch.equal(matrix.sum(dim=1), torch.bincount(labels, minlength=classes))
    assert top_k_accuracy(scores, labels, 1) == pytest.approx(matrix.diagonal().sum().item() / samples)


@given(st.integers(2, 12), st.integers(1, 40), st.integers(0, 2**31))
def test_scores_without_ties_count_as_the_published_sorting_counts_them(classes: int, samples: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.stack([torch.randperm(classes, generator=generator).float() for _ in range(samples)])
    labels = torch.randint(0, classes, (samples,), generator=generator)
    for k in (1, 2, 5):
        highest = scores.argsort(dim=1)[:, -k:]
        assert top_k_accuracy(scores, labels, k) == pytest.approx((highest == labels[:, None]).any(1).double().mean())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused_with_their_number(value: float) -> None:
    scores = SCORES.clone()
    scores[4, 2] = value
    for figure in (classification_metrics, confusion_matrix):
        with pytest.raises(UserError, match=r"scores of 1 of 6 samples are not finite.*number 4"):
            figure(scores, LABELS)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (SCORES, LABELS[:5], r"scores \[N, K\] and labels \[N\]"),
        (SCORES[0], LABELS, r"scores \[N, K\]"),
        (SCORES.long(), LABELS, "floating point"),
        (SCORES, LABELS + 1, "labels must be 0 to 3, got 1 to 4"),
        (SCORES[:0], LABELS[:0], "at least one sample"),
    ],
)
def test_inputs_that_do_not_belong_together_are_refused(scores: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification_metrics(scores, labels)


def test_wrong_number_of_class_names_and_k_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="4 classes, but 3 class names"):
        classification_metrics(SCORES, LABELS, ["a", "b", "c"])
    with pytest.raises(ValueError, match="k must be at least 1"):
        top_k_accuracy(SCORES, LABELS, 0)


def test_half_precision_scores_give_the_same_figures() -> None:
    assert classification_metrics(SCORES.half(), LABELS) == classification_metrics(SCORES, LABELS)


def test_metrics_cannot_be_changed() -> None:
    metrics = classification_metrics(SCORES, LABELS)
    assert isinstance(metrics, ClassificationMetrics)
    with pytest.raises(dataclasses.FrozenInstanceError):
        metrics.top1 = 1.0  # pyright: ignore
