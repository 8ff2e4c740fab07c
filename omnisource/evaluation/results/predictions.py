"""predictions.jsonl: what was predicted of every item of an evaluation; a JSON line each, below one that describes it.

Python reads and writes the lines without torch, so that a report of an evaluation can be made anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omnisource.errors import UserError
from omnisource.files.atomic import atomic_write
from omnisource.files.jsonl import json_line

if TYPE_CHECKING:
    from omnisource.data.lists.items import Items
    from omnisource.evaluation.evaluate import Evaluation

PREDICTIONS = "predictions.jsonl"
THUMBNAILS = "thumbnails.zip"
"""Small pictures of some of the items: `INDEX.jpg` each."""

FORM = 1
"""Version of the file; a later one may mean something else."""

TOP = 5
"""Classes that are kept of an item."""


@dataclass(frozen=True)
class Prediction:
    """What was predicted of one item.

    Attributes:
        index: Its position in the list, 0-based.
        path: Its file.
        label: Its class.
        label_score: Score of that class, 0 to 1.
        label_rank: 1 where the item was recognized; a class with the same score goes before the label.
        top: At most five classes with their scores, highest first; the first one was predicted.
    """

    index: int
    path: str
    label: int
    label_score: float
    label_rank: int
    top: tuple[tuple[int, float], ...]

    @property
    def is_right(self) -> bool:
        """Returns whether the item was recognized."""
        return self.label_rank == 1


@dataclass(frozen=True)
class Predictions:
    """What predictions.jsonl holds.

    Attributes:
        about: What describes the evaluation: source, split, media, and what its writer added.
        classes: Names of the classes.
        left_out: Path and reason of each item that could not be read.
        rows: One an item, in the order of the list.
    """

    about: dict[str, Any]
    classes: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    rows: tuple[Prediction, ...]


def predictions_of(evaluation: Evaluation, items: Items) -> tuple[Prediction, ...]:
    """Returns the prediction of each item that has scores, in the order of the list; ties as in the metrics."""
    left_out = {one.index for one in evaluation.left_out}
    indices = [index for index in range(len(items)) if index not in left_out]
    scores, labels = evaluation.scores.double().numpy(), evaluation.labels.numpy()
    return tuple(
        _prediction(index, items[index].path, row, int(label))
        for index, row, label in zip(indices, scores, labels, strict=True)
    )


def write_predictions(rows: Sequence[Prediction], evaluation: Evaluation, path: Path, about: Mapping[str, Any]) -> None:
    """Writes predictions with the names of their classes.

    Args:
        rows: What was predicted.
        evaluation: What it was predicted in.
        path: The file.
        about: What else is to be known of the evaluation, ready for JSON.

    Raises:
        OSError: If the file cannot be written; it names it.
    """
    head = {
        "form": FORM,
        "source": evaluation.source,
        "split": evaluation.split,
        **about,
        "classes": [result.name for result in evaluation.metrics.classes],
        "left_out": [[one.path, one.reason] for one in evaluation.left_out],
    }
    with atomic_write(path) as file:
        file.write(json_line(head))
        file.writelines(json_line(asdict(row)) for row in rows)


def read_predictions(path: Path) -> Predictions:
    """Returns what a file of predictions holds.

    Raises:
        UserError: The file is missing, damaged, or of a newer omnisource.
    """
    try:
        lines = path.read_bytes().splitlines()
        head, *rows = (json.loads(line) for line in lines)
        if head["form"] > FORM:
            raise UserError(f"{path}: was written by a newer omnisource (form {head['form']}): update yours")
        predictions = tuple(
            Prediction(**{**row, "top": tuple((int(label), float(score)) for label, score in row["top"])})
            for row in rows
        )
        classes = tuple(map(str, head.pop("classes")))
        left_out = tuple((str(name), str(reason)) for name, reason in head.pop("left_out"))
        highest = max((max(row.label, *(label for label, _ in row.top)) for row in predictions), default=-1)
        if highest >= len(classes):
            raise ValueError(f"class {highest} of {len(classes)}")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); `omnisource test` writes it") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: is damaged ({error}); test again to have it written") from error
    return Predictions(head, classes, left_out, predictions)


def chosen_examples(rows: Sequence[Prediction], count: int) -> dict[str, list[Prediction]]:
    """Returns at most `count` items each that were recognized, that were not, and the most certain of the latter.

    The first two are spread evenly over the list, so that the same list gives the same items.
    """
    right = [row for row in rows if row.is_right]
    wrong = [row for row in rows if not row.is_right]
    certain = sorted(wrong, key=lambda row: -row.top[0][1])
    return {"certain": certain[:count], "wrong": _spread(wrong, count), "right": _spread(right, count)}


def _spread(rows: Sequence[Prediction], count: int) -> list[Prediction]:
    if len(rows) <= count:
        return list(rows)
    return [rows[position] for position in np.linspace(0, len(rows) - 1, count).round().astype(int)]


def _prediction(index: int, path: str, scores: np.ndarray, label: int) -> Prediction:
    """Returns the prediction that the scores of one item make, [K] float64."""
    own = float(scores[label])
    rank = int((scores >= own).sum())  # its own score is one of them
    others = scores.copy()
    others[label] = -np.inf
    best = np.argsort(-others, kind="stable")[: min(TOP, len(scores) - 1)].tolist()
    best.insert(rank - 1, label)
    top = tuple((position, round(float(scores[position]), 6)) for position in best[:TOP])
    return Prediction(index, path, label, round(own, 6), rank, top)
