"""Testing a checkpoint on the test items of a recipe: numbers, tables, pictures, result.pkl."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from omnisource.data.lists.items import Items
from omnisource.data.loading.request import request_of
from omnisource.data.loading.sample import load_clip
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.data.run_data import read_run_data
from omnisource.distributed import processes
from omnisource.errors import UserError, shortened
from omnisource.evaluation.evaluate import Evaluation, evaluate, write_report, write_result
from omnisource.models.backbones.backbone import Backbone
from omnisource.models.backbones.build import build_backbone
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.load import load_all_weights
from omnisource.models.weights.own import OWN_FORMAT
from omnisource.models.weights.read import read_weights_file
from omnisource.recipe.model import Model
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.pictures import contact_sheet
from omnisource.reporting.progress import counted_progress, progress_bar
from omnisource.reporting.tables import print_table

WORST_CLASSES = 10
"""Classes that are named on the screen; per_class.csv has all."""

PICTURES_A_SHEET = 24
"""Items on one page of `--show-dir`."""


def test(
    recipe: Recipe,
    checkpoint: str,
    folder: Path,
    dump: Path | None = None,
    config_name: str = "",
    show_dir: Path | None = None,
    show_interval: int = 1,
    *,
    average: bool = False,
    build_backbone: Callable[[Model], Backbone] = build_backbone,
) -> dict[str, Evaluation]:
    """Returns the evaluation of every source that has test items, having written and printed its report.

    Args:
        recipe: Gives the sources and the views; the model must be the checkpoint's.
        checkpoint: Our own or a published checkpoint.
        folder: Gets one folder a source with metrics.json, per_class.csv and confusion.png.
        dump: Gets the scores of the main source in the published form; those of other sources go beside it.
        config_name: How errors name the recipe.
        show_dir: Gets pictures of items with what was predicted. None: no pictures.
        show_interval: Items from one picture to the next.
        average: Whether to test the moving average of the weights in place of the weights.
        build_backbone: Builds the backbone that the recipe describes.

    Raises:
        UserError: If data is missing or wrong, the checkpoint cannot be read, does not fit or has no average, or files
            are unreadable.
    """
    device = processes.choose_device()
    processes.start(device)
    is_first = processes.rank() == 0
    data = read_run_data(recipe, ("test",), config_name, counted_progress)
    recipe, class_names, items = data.recipe, data.class_names, data.items["test"]
    if not items:
        raise UserError(f"{config_name or 'the recipe'}: no source has test or validation items")

    written = [folder, *([dump.parent] if dump else []), *([show_dir] if show_dir else [])]
    processes.run_on_rank0(lambda: _require_writable(written))
    _check_classes(checkpoint, class_names)
    recognizer = Recognizer(recipe.model, recipe.label_spaces, backbone=build_backbone(recipe.model))
    heads = recipe.only_head("image"), recipe.only_head("video")
    load_all_weights(recognizer, checkpoint, *heads, average=average)
    recognizer.to(device).eval()

    unreadable = UnreadableLog(recipe.permitted_unreadable(sum(map(len, items.values()))), notify=processes.say)
    evaluations = {}
    with WorkerPool(
        recipe.num_workers,
        recipe.item_timeout_seconds,
        processes.say,
        item_processor_seconds=recipe.item_processor_seconds,
    ) as workers:
        for name, of_source in items.items():
            share = len(range(processes.rank(), len(of_source), processes.world_size()))
            with progress_bar(f"testing {name}", share) as advance:
                names = class_names[recipe.sources[name].label_space]
                evaluation = evaluate(recognizer, recipe, name, "test", of_source, workers, unreadable, names, advance)
            evaluations[name] = evaluation
    left_out = {path: reason for part in processes.gather(unreadable.reasons) for path, reason in part.items()}
    if is_first:
        print(f"tested: {'the moving average of the weights in ' if average else ''}{checkpoint}")
        for name, evaluation in evaluations.items():
            names = class_names[recipe.sources[name].label_space]
            write_report(evaluation, folder / name, checkpoint, is_average=average)
            _print(evaluation, folder / name)
            if show_dir is not None:
                draw_predictions(evaluation, recipe, items[name], names, show_dir / name, show_interval)
        if dump is not None:
            _dump(evaluations, recipe.main_source, dump)
        for path, reason in left_out.items():
            print(f"left out, unreadable: {path}: {reason}")
    return evaluations


def draw_predictions(
    evaluation: Evaluation, recipe: Recipe, items: Items, class_names: Sequence[str], folder: Path, interval: int
) -> list[Path]:
    """Draws every `interval`-th item with its label and what was predicted; returns the sheets, 24 items each."""
    source = recipe.sources[evaluation.source]
    pictures, captions, correct = [], [], []
    sheets: list[Path] = []
    columns = 3 if source.media == "video" else 6
    folder.mkdir(parents=True, exist_ok=True)
    by_key = {key: place for place, key in enumerate(evaluation.keys)}
    # Items without scores were unreadable, and are reported as such.
    indices = [index for index in range(0, len(items), interval) if items[index].key in by_key]
    for index in indices:
        place = by_key[items[index].key]
        frames = load_clip(request_of(evaluation.source, source, evaluation.split, items, index)).frames
        middle = frames[len(frames) // 2].permute(1, 2, 3, 0).numpy()  # [3, T, H, W] -> [T, H, W, 3]
        shown = middle[:: max(1, len(middle) // 4)][:4] if source.media == "video" else middle[0]
        pictures.append(shown.copy())  # a view would keep all views of the item in memory
        label, score = int(evaluation.labels[place]), evaluation.scores[place]
        best = int(score.argmax())
        wrong = "" if best == label else f", is {class_names[label]}"
        captions.append(f"{class_names[best]} {score[best]:.0%}{wrong}")
        correct.append(best == label)
        if len(pictures) == PICTURES_A_SHEET or index == indices[-1]:
            path = folder / f"predictions_{len(sheets) + 1:03d}.png"
            sheets.append(contact_sheet(pictures, captions, path, columns, correct))
            pictures, captions, correct = [], [], []
    return sheets


def _require_writable(folders: Sequence[Path]) -> None:
    """Makes the folders of what is going to be written: a test can take hours, and must not fail after them."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: the folder cannot be made: {error.strerror or error}") from error
        if not os.access(folder, os.W_OK):
            raise UserError(f"{folder}: the folder cannot be written to; name another one")


def _check_classes(path: str, class_names: Mapping[str, Sequence[str]]) -> None:
    """Checks that the classes have the names and the order that one of our checkpoints was trained with."""
    content = read_weights_file(path)
    if content.get("format") != OWN_FORMAT:
        return
    for space, names in class_names.items():
        trained = content["class_names"].get(space, [])
        numbers = [str(index) for index in range(len(names))]
        if len(trained) != len(names) or numbers in (list(names), list(trained)):
            continue  # another number of classes does not fit the weights, and numbers say nothing of the classes
        differing = [
            f"  class {index} is {theirs!r} in the checkpoint, {ours!r} here"
            for index, (theirs, ours) in enumerate(zip(trained, names, strict=True))
            if theirs != ours
        ]
        if differing:
            raise UserError(
                f"{path}: was trained on other classes of {space}, or on another order of them:\n"
                f"{shortened(differing)}\nGive the sources the class map of the training."
            )


def _dump(evaluations: Mapping[str, Evaluation], main_source: str, dump: Path) -> None:
    main = main_source if main_source in evaluations else next(iter(evaluations))
    for name, evaluation in evaluations.items():
        path = dump if name == main else dump.with_name(f"{dump.stem}.{name}{dump.suffix}")
        write_result(evaluation, path)
        print(f"scores of {name}: {path}")


def _print(evaluation: Evaluation, folder: Path) -> None:
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
    print(f"all classes: {folder / 'per_class.csv'}; confusion: {folder / 'confusion.png'}")
