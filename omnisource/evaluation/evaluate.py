"""Scores over a split, on all processes, and what follows from them: metrics, result.pkl, tables, pictures."""

from __future__ import annotations

import contextlib
import csv
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from omnisource.data.lists.items import Items
from omnisource.data.loading.loader import evaluation_clips
from omnisource.data.loading.unreadable import LeftOut, UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.distributed import processes
from omnisource.errors import UnreadableMedia, UserError
from omnisource.evaluation.metrics import ClassificationMetrics, classification_metrics, confusion_matrix
from omnisource.files.atomic import atomic_write
from omnisource.models.recognizer import Recognizer
from omnisource.recipe.data import SplitName
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.pictures import draw_confusion
from omnisource.types import Clip


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


def evaluate(
    recognizer: Recognizer,
    recipe: Recipe,
    source_name: str,
    split: SplitName,
    items: Items,
    workers: WorkerPool,
    unreadable: UnreadableLog,
    class_names: Sequence[str] | None = None,
    on_item: Callable[[], None] = lambda: None,
    on_scores: Callable[[Sequence[tuple[int, Clip]], Tensor], None] = lambda group, scores: None,
) -> Evaluation:
    """Returns the evaluation of one split; every process evaluates its share and gets the whole.

    Args:
        recognizer: Put into evaluation mode for the time being.
        recipe: Gives the views, the precision and the number of views at a time.
        source_name: Name of the source.
        split: "validation" or "test": decides the items' views.
        items: The items of that split.
        workers: Loads them.
        unreadable: Takes note of files that cannot be read; those that are permitted have no scores.
        class_names: Names of the classes, for the metrics. None: their indices.
        on_item: Called after each item of this process.
        on_scores: Called with (index, clip) of some items of this process and their scores, [N, classes] float32.

    Raises:
        UserError: If more files are unreadable than the recipe permits.
    """
    source = recipe.sources[source_name]
    views = source.validation_views if split == "validation" else source.test_views
    mine = range(processes.rank(), len(items), processes.world_size())
    left_out = _known_unreadable(items, mine, unreadable)
    unreadables = {one.index for one in left_out}
    for _ in left_out:
        on_item()
    read = [index for index in mine if index not in unreadables] if unreadables else mine
    clips = evaluation_clips(source_name, source, split, items, read, workers, ahead=2 * recipe.num_workers)
    known: list[tuple[int, str, int]] = []  # (index, key, label) of the rows of `rows`
    rows: list[Tensor] = []
    failure = None
    was_training = recognizer.training
    recognizer.eval()
    try:
        for group in _groups(clips, recipe.views_at_a_time, unreadable, left_out, on_item):
            rows.append(_scores([clip for _, clip in group], recognizer, recipe, source.label_space))
            known += [(index, clip.key, clip.label) for index, clip in group]
            on_scores(group, rows[-1])
    except UserError as error:
        failure = error
    finally:
        recognizer.train(was_training)
    processes.raise_on_all_ranks(failure)
    # One tensor a process: of a row alone, pickling would send the whole group that it is a view of.
    parts = processes.gather((known, torch.cat(rows) if rows else None, left_out))
    known = [entry for of_process, _, _ in parts for entry in of_process]
    left_out = sorted((one for _, _, of_process in parts for one in of_process), key=lambda one: one.index)
    if not known:
        first = left_out[0]
        raise UserError(
            f"source {source_name}: none of its {len(items)} {split} items can be read, such as {first.path}: "
            f"{first.reason}\nomnisource check CONFIG says why each of them cannot; fix them, or take the source out."
        )
    in_order = sorted(range(len(known)), key=lambda place: known[place][0])
    scores = torch.cat([part for _, part, _ in parts if part is not None])[in_order]
    labels = torch.tensor([known[place][2] for place in in_order], dtype=torch.int64)
    keys = tuple(known[place][1] for place in in_order)
    metrics = classification_metrics(scores, labels, class_names)
    return Evaluation(source_name, split, keys, scores, labels, views.crop_size, metrics, tuple(left_out))


def _known_unreadable(items: Items, indices: Sequence[int], unreadable: UnreadableLog) -> list[LeftOut]:
    """Returns those of some items whose files could not be read before: they are not read again."""
    if not unreadable.reasons:
        return []
    paths = ((index, items[index].path) for index in indices)
    return [LeftOut(index, path, unreadable.reasons[path]) for index, path in paths if path in unreadable.reasons]


def _groups(
    clips: Iterator[tuple[int, Clip | UnreadableMedia]],
    views_at_a_time: int,
    unreadable: UnreadableLog,
    left_out: list[LeftOut],
    on_item: Callable[[], None],
) -> Iterator[list[tuple[int, Clip]]]:
    """Yields lists of clips that together have about `views_at_a_time` views, at least one clip.

    Items that cannot be read are added to `left_out` instead.
    """
    group: list[tuple[int, Clip]] = []
    for index, clip in clips:
        on_item()
        if not isinstance(clip, Clip):
            unreadable.add(clip, "left out of the scores")
            left_out.append(LeftOut(index, clip.path, clip.reason))
            continue
        if group and (len(group) + 1) * len(clip.frames) > views_at_a_time:
            yield group
            group = []
        group.append((index, clip))
    if group:
        yield group


@torch.inference_mode()
def _scores(clips: Sequence[Clip], recognizer: Recognizer, recipe: Recipe, head: str) -> Tensor:
    """Returns the scores of clips that have the same number of views: [N, classes] float32 on the CPU."""
    device = next(recognizer.parameters()).device
    views = torch.cat([clip.frames for clip in clips])  # N x [V, 3, T, H, W] -> [N * V, 3, T, H, W]
    parts = []
    for chunk in views.split(recipe.views_at_a_time):
        with autocast(device, recipe.precision):
            logits = recognizer.logits(chunk.to(device, non_blocking=True), clips[0].media, head)
        parts.append(logits.float().softmax(dim=1))
    return torch.cat(parts).unflatten(0, (len(clips), -1)).mean(dim=1).cpu()  # [N * V, K] -> [N, K]


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Returns the context in which the forward pass has the recipe's precision."""
    if precision in ("float32", "float64"):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def write_result(evaluation: Evaluation, path: Path) -> None:
    """Writes the scores in the published form: a pickled list of one dict an item, in the order of the list.

    Each has `pred_score` float32 [classes], `pred_label` int64 [1], `gt_label` int64 [1], `num_classes`, `img_shape`
    (height, width), and besides these `key`.

    Source: the form that open-mmlab/mmengine's DumpResults writes for mmaction2's ActionDataSample.
    """
    num_classes = evaluation.scores.shape[1]
    results = [
        {
            "pred_score": score.clone(),
            "pred_label": score.argmax().reshape(1),
            "gt_label": label.clone().reshape(1),
            "num_classes": num_classes,
            "img_shape": (evaluation.crop_size, evaluation.crop_size),
            "key": key,
        }
        for score, label, key in zip(evaluation.scores, evaluation.labels, evaluation.keys, strict=True)
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            pickle.dump(results, file)
    except OSError as error:
        raise UserError(f"{path}: the scores cannot be written: {error.strerror or error}") from error


def write_report(evaluation: Evaluation, folder: Path, checkpoint: str, *, is_average: bool) -> None:
    """Writes metrics.json, per_class.csv and confusion.png of an evaluation into `folder`.

    Args:
        evaluation: The evaluation.
        folder: Made if missing.
        checkpoint: The file that was evaluated.
        is_average: Whether it was the moving average of the weights in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_of = {"checkpoint": checkpoint, "ema": is_average}
    summary = {"source": evaluation.source, "split": evaluation.split, **made_of, **evaluation.metrics.as_dict()}
    (folder / "metrics.json").write_text(json.dumps(summary, indent=2) + "\n")
    with open(folder / "per_class.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "items", "correct", "accuracy", "mostly taken for"])
        for result in evaluation.metrics.classes:
            accuracy = "" if result.accuracy is None else f"{result.accuracy:.4f}"
            writer.writerow([result.name, result.count, result.correct, accuracy, result.mistaken_for])
    class_names = [result.name for result in evaluation.metrics.classes]
    draw_confusion(confusion_matrix(evaluation.scores, evaluation.labels), class_names, folder / "confusion.png")
