"""What is written of an evaluation: result.pkl, metrics.json, per_class.csv, the confusion matrix, tables, pictures."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnisource.data.lists.items import Items
from omnisource.data.loading.request import request_of
from omnisource.data.loading.sample import load_clip
from omnisource.errors import UserError
from omnisource.evaluation.evaluate import Evaluation
from omnisource.evaluation.metrics import confusion_matrix
from omnisource.files.atomic import atomic_write
from omnisource.printing import show
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.drawing.names import drawn_names
from omnisource.reporting.pictures import contact_sheet, draw_confusion
from omnisource.reporting.tables import print_table

WORST_CLASSES = 10
"""Classes that are named on the screen; per_class.csv has all."""

PICTURES_A_SHEET = 24
"""Items on one page of `--show-dir`."""


@dataclass(frozen=True)
class ReportFiles:
    """Where the results of a test go.

    Attributes:
        folder: Gets one folder a source with metrics.json, per_class.csv and confusion.png.
        dump: Gets the scores of the main source in the published form; those of other sources go beside it.
        show_dir: Gets pictures of items with what was predicted. None: no pictures.
        show_interval: Items from one picture to the next.
    """

    folder: Path
    dump: Path | None = None
    show_dir: Path | None = None
    show_interval: int = 1

    def require_writable(self) -> None:
        """Makes the folders of what is going to be written: a test can take hours, and must not fail after them.

        Raises:
            UserError: If a folder cannot be made, or cannot be written to.
        """
        for folder in filter(None, (self.folder, self.dump.parent if self.dump else None, self.show_dir)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"{folder}: the folder cannot be made: {error.strerror or error}") from error
            if not os.access(folder, os.W_OK):
                raise UserError(f"{folder}: the folder cannot be written to; name another one")


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
    with atomic_write(folder / "metrics.json") as file:
        file.write((json.dumps(summary, indent=2) + "\n").encode())
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["class", "items", "correct", "accuracy", "mostly taken for"])
    for result in evaluation.metrics.classes:
        accuracy = "" if result.accuracy is None else f"{result.accuracy:.4f}"
        writer.writerow([result.name, result.count, result.correct, accuracy, result.mistaken_for])
    with atomic_write(folder / "per_class.csv") as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))
    class_names = [result.name for result in evaluation.metrics.classes]
    draw_confusion(confusion_matrix(evaluation.scores, evaluation.labels), class_names, folder / "confusion.png")


def print_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Prints the metrics, the worst classes, and where in `folder` the rest is."""
    metrics = evaluation.metrics
    shares = (metrics.top1, metrics.top5, metrics.mean_class_accuracy)
    row = [evaluation.source, str(metrics.count), *(f"{share:.2%}" for share in shares)]
    print_table(
        f"{evaluation.split} of {evaluation.source}", ["source", "items", "top-1", "top-5", "mean class"], [row]
    )
    seen = [result for result in metrics.classes if result.accuracy is not None]
    worst = sorted(seen, key=lambda result: result.accuracy or 0.0)[:WORST_CLASSES]
    rows = [[r.name, str(r.count), str(r.correct), f"{r.accuracy:.2%}", r.mistaken_for or "-"] for r in worst]
    title = "classes" if len(worst) == len(seen) else f"the {len(worst)} worst of {len(seen)} classes"
    print_table(title, ["class", "items", "correct", "accuracy", "mostly taken for"], rows)
    show(f"all classes: {folder / 'per_class.csv'}; confusion: {folder / 'confusion.png'}")


def write_results(evaluations: Mapping[str, Evaluation], main_source: str, dump: Path) -> dict[str, Path]:
    """Writes the scores of all sources: those of the main source to `dump`, the others beside it; returns where."""
    main = main_source if main_source in evaluations else next(iter(evaluations))
    paths = {name: dump if name == main else dump.with_name(f"{dump.stem}.{name}{dump.suffix}") for name in evaluations}
    for name, path in paths.items():
        write_result(evaluations[name], path)
    return paths


def write_result(evaluation: Evaluation, path: Path) -> None:
    """Writes the scores in the published form: a pickled list of one dict an item, in the order of the list.

    Each has `pred_score` float32 [classes], `pred_label` int64 [1], `gt_label` int64 [1], `num_classes`, `img_shape`
    (height, width), and besides these `key`.

    Raises:
        UserError: If it cannot be written.

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


def draw_predictions(evaluation: Evaluation, recipe: Recipe, items: Items, folder: Path, interval: int) -> list[Path]:
    """Draws every `interval`-th item with its label and what was predicted; returns the sheets, 24 items each."""
    class_names = drawn_names([result.name for result in evaluation.metrics.classes])
    source = recipe.sources[evaluation.source]
    pictures, captions, correct = [], [], []
    sheets: list[Path] = []
    columns = 3 if source.media == "video" else 6
    folder.mkdir(parents=True, exist_ok=True)
    position_of = {key: position for position, key in enumerate(evaluation.keys)}
    # Items without scores were unreadable, and are reported as such.
    indices = [index for index in range(0, len(items), interval) if items[index].key in position_of]
    for index in indices:
        position = position_of[items[index].key]
        frames = load_clip(request_of(evaluation.source, source, evaluation.split, items, index)).frames
        middle = frames[len(frames) // 2].permute(1, 2, 3, 0).numpy()  # [3, T, H, W] -> [T, H, W, 3]
        shown = middle[:: max(1, len(middle) // 4)][:4] if source.media == "video" else middle[0]
        pictures.append(shown.copy())  # a view would keep all views of the item in memory
        label, score = int(evaluation.labels[position]), evaluation.scores[position]
        best = int(score.argmax())
        wrong = "" if best == label else f", is {class_names[label]}"
        captions.append(f"{class_names[best]} {score[best]:.0%}{wrong}")
        correct.append(best == label)
        if len(pictures) == PICTURES_A_SHEET or index == indices[-1]:
            path = folder / f"predictions_{len(sheets) + 1:03d}.png"
            sheets.append(contact_sheet(pictures, captions, path, columns, correct))
            pictures, captions, correct = [], [], []
    return sheets
