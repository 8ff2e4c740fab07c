"""How good scores are: top-k accuracy, mean class accuracy, the confusion matrix.

One rule for ties holds in all of them: a class that has the same score as the label goes before it. A sample whose
scores say nothing (all equal) is so never right by luck, whatever its label; the published code sorts, and there the
order of the classes decides. Scores without ties, as softmax scores in practice are, count the same in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from omnisource.errors import UserError


@dataclass(frozen=True)
class ClassResult:
    """How one class fared.

    Attributes:
        name: Name of the class; its index where the classes have no names.
        count: Samples with this label.
        correct: How many of them were recognized.
        mistaken_for: The class that the others were most often taken for; "" where all were right.
    """

    name: str
    count: int
    correct: int
    mistaken_for: str

    @property
    def accuracy(self) -> float | None:
        """Returns the share of the samples that was recognized, 0 to 1; None where there are none."""
        return self.correct / self.count if self.count else None


@dataclass(frozen=True)
class ClassificationMetrics:
    """The figures of one evaluation; accuracies are shares, 0 to 1.

    Attributes:
        top1: Share of the samples whose label has the highest score.
        top5: Share of the samples whose label is among the five highest scores; always 1 with up to five classes.
        mean_class_accuracy: Mean over the classes that occur among labels or predictions.
        count: Samples.
        classes: The result of every class, in their order.
    """

    top1: float
    top5: float
    mean_class_accuracy: float
    count: int
    classes: tuple[ClassResult, ...]

    def as_dict(self) -> dict[str, float]:
        """Returns the figures of the whole by name, without those of the classes."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "mean_class_accuracy": self.mean_class_accuracy,
            "count": self.count,
        }

    def __str__(self) -> str:
        by_definition = ", by definition with so few classes" if len(self.classes) <= 5 else ""
        return (
            f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%}{by_definition}, "
            f"mean class {self.mean_class_accuracy:.2%} ({self.count} samples, {len(self.classes)} classes)"
        )


def classification_metrics(
    scores: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
) -> ClassificationMetrics:
    """Returns every figure of an evaluation.

    Args:
        scores: [N, K] floating point, higher is better: logits or probabilities.
        labels: [N] int64, 0 to K - 1.
        class_names: K names. None: the classes are called by their indices.

    Raises:
        UserError: Scores that are not finite.
        ValueError: Shapes that do not belong together, labels outside the classes, or no sample at all.
    """
    matrix = confusion_matrix(scores, labels)
    names = [str(index) for index in range(len(matrix))] if class_names is None else list(class_names)
    if len(names) != len(matrix):
        raise ValueError(f"scores have {len(matrix)} classes, but {len(names)} class names were given")
    return ClassificationMetrics(
        top1=top_k_accuracy(scores, labels, k=1),
        top5=top_k_accuracy(scores, labels, k=5),
        mean_class_accuracy=_mean_class_accuracy(matrix),
        count=len(labels),
        classes=_class_results(matrix, names),
    )


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Returns the share of the samples whose label is among the k highest scores, 0 to 1.

    Args:
        scores: [N, K] floating point.
        labels: [N] int64, 0 to K - 1.
        k: At least 1. With k of K or more every sample counts as right.

    Raises:
        UserError: Scores that are not finite.
        ValueError: Shapes that do not belong together, labels outside the classes, no sample, or k below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    _check(scores, labels)
    labels = labels.to(scores.device)
    own = scores.gather(1, labels[:, None])  # [N, 1]
    not_below = (scores >= own).sum(dim=1)  # the label's own score is one of them
    return (not_below <= k).double().mean().item()


def confusion_matrix(scores: Tensor, labels: Tensor) -> Tensor:
    """Returns how many samples of each class (row) were taken for each class (column): [K, K] int64 on the CPU.

    Args:
        scores: [N, K] floating point.
        labels: [N] int64, 0 to K - 1.

    Raises:
        UserError: Scores that are not finite.
        ValueError: Shapes that do not belong together, labels outside the classes, or no sample at all.
    """
    _check(scores, labels)
    num_classes = scores.shape[1]
    labels = labels.to(scores.device)
    # The label loses every tie: it is predicted where its score is above the highest of the others.
    others = scores.scatter(1, labels[:, None], -torch.inf)
    highest, predicted = others.max(dim=1)
    own = scores.gather(1, labels[:, None])[:, 0]
    predicted = torch.where(own > highest, labels, predicted)
    cells = labels * num_classes + predicted  # [N], one number a pair of classes
    return torch.bincount(cells.cpu(), minlength=num_classes**2).view(num_classes, num_classes)


def _mean_class_accuracy(matrix: Tensor) -> float:
    """Returns the mean of the classes' accuracies over the classes that occur; one that is only predicted counts as 0.

    Source: open-mmlab/mmaction2 4d6c9347 `mmaction/evaluation/functional/accuracy.py`.
    """
    counts = matrix.sum(dim=1)
    occurs = (counts + matrix.sum(dim=0)) > 0
    accuracies = matrix.diagonal().double() / counts.clamp(min=1)
    return accuracies[occurs].mean().item()


def _class_results(matrix: Tensor, names: list[str]) -> tuple[ClassResult, ...]:
    mistakes = matrix.clone().fill_diagonal_(0)
    most, taken_for = mistakes.max(dim=1)
    return tuple(
        ClassResult(
            name=name,
            count=int(matrix[index].sum()),
            correct=int(matrix[index, index]),
            mistaken_for=names[int(taken_for[index])] if most[index] else "",
        )
        for index, name in enumerate(names)
    )


def _check(scores: Tensor, labels: Tensor) -> None:
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not scores.is_floating_point():
        raise ValueError(
            f"metrics need floating point scores [N, K] and labels [N], "
            f"got {scores.dtype} {list(scores.shape)} and {list(labels.shape)}"
        )
    if not len(labels):
        raise ValueError("metrics need at least one sample")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(f"labels must be 0 to {scores.shape[1] - 1}, got {int(labels.min())} to {int(labels.max())}")
    nonfinite = ~scores.isfinite().all(dim=1)
    if nonfinite.any():
        raise UserError(
            f"the scores of {int(nonfinite.sum())} of {len(scores)} samples are not finite, "
            f"the first of them number {int(nonfinite.nonzero()[0])}: the training that made these weights diverged, "
            "or the checkpoint is damaged"
        )
