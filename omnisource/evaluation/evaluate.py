"""The evaluation of one split of a source, over all processes: its scores, and what they amount to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from omnisource.data.lists.items import Items
from omnisource.data.loading.request import request_of
from omnisource.data.loading.unreadable import LeftOut, UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.evaluation.classifier import Classifier, Scored
from omnisource.evaluation.exported.description import ExportedRecognizer
from omnisource.evaluation.metrics import ClassificationMetrics, classification_metrics
from omnisource.evaluation.protocol import protocol_of_split
from omnisource.models.recognizer import Recognizer
from omnisource.recipe.data import Source, SplitName
from omnisource.recipe.recipe import Recipe


@dataclass(frozen=True)
class EvaluationTask:
    """What is evaluated: the items of one split of one source.

    Attributes:
        recipe: Gives the views, the precision and the number of views at a time.
        source_name: Name of the source.
        split: "validation" or "test": decides the views.
        items: The items of that split.
        class_names: Names of the classes, for the metrics. None: their indices.
    """

    recipe: Recipe
    source_name: str
    split: SplitName
    items: Items
    class_names: Sequence[str] | None = None

    @property
    def source(self) -> Source:
        """The source."""
        return self.recipe.sources[self.source_name]

    @property
    def local_indices(self) -> range:
        """The items that this process evaluates."""
        return range(processes.rank(), len(self.items), processes.world_size())


@dataclass(frozen=True)
class Evaluation:
    """The scores of one source's validation or test items, in the order of their list.

    Attributes:
        source: Name of the source.
        split: "validation" or "test".
        keys: N keys.
        scores: [N, classes] float32: the softmax of each view's logits, averaged over the views of an item.
        labels: [N] int64.
        crop_size: Height and width of the views, in pixels.
        metrics: What the scores amount to.
        left_out: Items of the list that cannot be read, and so have no scores.
    """

    source: str
    split: SplitName
    keys: tuple[str, ...]
    scores: Tensor
    labels: Tensor
    crop_size: int
    metrics: ClassificationMetrics
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class _Part:
    """What one process contributes: indices, keys and labels of its N items, their scores, and its left-out items."""

    indices: tuple[int, ...]
    keys: tuple[str, ...]
    labels: tuple[int, ...]
    scores: Tensor | None  # [N, classes]; None where N is 0
    left_out: tuple[LeftOut, ...]


def evaluate(
    recognizer: Recognizer | ExportedRecognizer,
    task: EvaluationTask,
    workers: WorkerPool,
    unreadable: UnreadableLog,
    on_item: Callable[[int, Scored | None], None] = lambda index, scored: None,
) -> Evaluation:
    """Returns the evaluation of one split; every process evaluates its share and gets the whole.

    Args:
        recognizer: In the precision of the recipe; in evaluation mode for the time being.
        task: What is evaluated.
        workers: Loads the items.
        unreadable: Takes note of files that cannot be read; those that are permitted have no scores.
        on_item: Called after each item of this process, with its index and its scores; None: it is left out.

    Raises:
        UserError: If more files are unreadable than the recipe permits, or no item can be read.
    """
    part, failure = None, None
    try:
        part = _evaluate_share(recognizer, task, workers, unreadable, on_item)
    except UserError as error:
        failure = error
    processes.raise_on_all_ranks(failure)
    return _joined(task, processes.gather(part))


def _evaluate_share(
    recognizer: Recognizer | ExportedRecognizer,
    task: EvaluationTask,
    workers: WorkerPool,
    unreadable: UnreadableLog,
    on_item: Callable[[int, Scored | None], None],
) -> _Part:
    """Returns the part of this process; the arguments are those of `evaluate`."""
    left_out = _known_unreadable(task, unreadable)
    known = {one.index for one in left_out}
    for index in known:
        on_item(index, None)
    wanted = (index for index in task.local_indices if index not in known)
    requests = (request_of(task.source_name, task.source, task.split, task.items, index) for index in wanted)
    protocol = protocol_of_split(task.recipe, task.source_name, task.split)
    classifier = Classifier(recognizer, protocol, precision=task.recipe.precision)
    indices: list[int] = []
    keys: list[str] = []
    labels: list[int] = []
    rows: list[Tensor] = []
    # Closed at once when an item ends the evaluation: the workers then do not go on with what nobody wants.
    with contextlib.closing(classifier.classify(requests, workers)) as results:
        for request, result in results:
            if isinstance(result, Scored):
                indices.append(request.index)
                keys.append(request.key)
                labels.append(request.label)
                rows.append(result.scores[task.source.label_space])
                on_item(request.index, result)
            else:
                on_item(request.index, None)
                unreadable.add(result, "left out of the scores")
                left_out.append(LeftOut(request.index, result.path, result.reason))
    # One tensor a process: of a row alone, pickling would send the whole group that it is a view of.
    scores = torch.stack(rows) if rows else None
    return _Part(tuple(indices), tuple(keys), tuple(labels), scores, tuple(left_out))


def _known_unreadable(task: EvaluationTask, unreadable: UnreadableLog) -> list[LeftOut]:
    """Returns those items of this process whose files could not be read before: they are not read again."""
    if not unreadable.reasons:
        return []
    paths = ((index, task.items[index].path) for index in task.local_indices)
    return [LeftOut(index, path, unreadable.reasons[path]) for index, path in paths if path in unreadable.reasons]


def _joined(task: EvaluationTask, parts: Sequence[_Part]) -> Evaluation:
    """Returns the evaluation that the parts of all processes make up, in the order of the list."""
    left_out = sorted((one for part in parts for one in part.left_out), key=lambda one: one.index)
    found = [part.scores for part in parts if part.scores is not None]
    if not found:
        first = left_out[0]
        raise UserError(
            f"source {task.source_name}: none of its {len(task.items)} {task.split} items can be read, such as "
            f"{first.path}: {first.reason}\n"
            "omnisource check CONFIG says why each of them cannot; fix them, or take the source out."
        )
    indices = [index for part in parts for index in part.indices]
    in_order = sorted(range(len(indices)), key=indices.__getitem__)
    keys = [key for part in parts for key in part.keys]
    labels = torch.tensor([label for part in parts for label in part.labels], dtype=torch.int64)[in_order]
    scores = torch.cat(found)[in_order]
    views = task.source.validation_views if task.split == "validation" else task.source.test_views
    return Evaluation(
        source=task.source_name,
        split=task.split,
        keys=tuple(keys[position] for position in in_order),
        scores=scores,
        labels=labels,
        crop_size=views.crop_size,
        metrics=classification_metrics(scores, labels, task.class_names),
        left_out=tuple(left_out),
    )
