"""Testing a checkpoint on the test items of a recipe, on all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omnisource.data.lists.items import Items
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.data.run_data import read_run_data
from omnisource.distributed import processes
from omnisource.errors import UserError, shortened
from omnisource.evaluation.evaluate import Evaluation, EvaluationTask, evaluate
from omnisource.evaluation.load import build_recognizer
from omnisource.evaluation.report import (
    ReportFiles,
    draw_predictions,
    print_evaluation,
    write_report,
    write_results,
)
from omnisource.evaluation.results.predictions import (
    PREDICTIONS,
    THUMBNAILS,
    chosen_examples,
    predictions_of,
    write_predictions,
)
from omnisource.evaluation.results.thumbnails import write_thumbnails
from omnisource.files.formats import CHECKPOINT_FORMAT
from omnisource.models.backbones.backbone import Backbone
from omnisource.models.backbones.build import build_backbone
from omnisource.models.load_weights import load_all_in
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.folder import read_weights
from omnisource.models.weights.formats import HeadNames
from omnisource.printing import printable_name, show
from omnisource.recipe.model import Model
from omnisource.recipe.plain import to_plain
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.progress import counted_progress, progress_bar
from omnisource.reporting.provenance.machine import describe_process
from omnisource.reporting.provenance.usage import Usage

EXAMPLES = 24
"""Items of each kind, recognized or not, whose pictures are kept."""


def test(
    recipe: Recipe,
    checkpoint: str,
    files: ReportFiles,
    *,
    config_name: str = "",
    average: bool = False,
    build_backbone: Callable[[Model], Backbone] = build_backbone,
) -> dict[str, Evaluation]:
    """Returns the evaluation of every source that has test items, having written and printed its report.

    Args:
        recipe: Gives the sources, the views and the precision; the model must be the checkpoint's.
        checkpoint: Our own or a published checkpoint, or with a ViT one of another project.
        files: Where the report goes.
        config_name: How errors name the recipe.
        average: Whether to test the moving average of the weights in place of the weights.
        build_backbone: Builds the backbone that the recipe describes.

    Raises:
        UserError: If data is missing or wrong, the checkpoint cannot be read, does not fit or has no average, or files
            are unreadable.
    """
    usage = Usage()
    device = processes.choose_device()
    processes.start(device)
    data = read_run_data(recipe, ("test",), config_name, counted_progress)
    recipe, class_names, items = data.recipe, data.class_names, data.items["test"]
    if not items:
        raise UserError(f"{config_name or 'the recipe'}: no source has test or validation items")

    processes.run_on_rank0(files.require_writable)
    content = read_weights(checkpoint)  # once, since all processes do
    _check_classes(checkpoint, content, class_names)
    recognizer = build_recognizer(recipe.model, recipe.label_spaces, recipe.precision, build_backbone)
    heads = HeadNames(recipe.only_head("image"), recipe.only_head("video"))
    loaded = load_all_in(recognizer, content, checkpoint, heads, average=average)
    if loaded.notes and processes.rank() == 0:
        show(*(f"{checkpoint}: {note}" for note in loaded.notes))
    del content  # the test is long, and the file may be mapped
    recognizer.to(device).eval()

    unreadable = UnreadableLog(recipe.permitted_unreadable(sum(map(len, items.values()))), notify=processes.say)
    evaluations = _evaluate_all(recognizer, recipe, items, class_names, unreadable)
    left_out = {path: reason for part in processes.gather(unreadable.reasons) for path, reason in part.items()}
    if processes.rank() == 0:
        # All is written before anything is printed, and first what took longest: nobody may be there to read.
        results = write_results(evaluations, recipe.main_source, files.dump) if files.dump is not None else {}
        for name, evaluation in evaluations.items():
            write_report(evaluation, files.folder / name, checkpoint, is_average=average)
        about = {"checkpoint": checkpoint, "ema": average, "recipe": to_plain(recipe), "usage": usage.so_far()}
        about |= {"processes": processes.world_size(), **describe_process()}
        for name, evaluation in evaluations.items():
            _write_predictions(evaluation, recipe, items[name], files.folder / name, about)
        for name, evaluation in evaluations.items():
            if files.show_dir is not None:
                draw_predictions(evaluation, recipe, items[name], files.show_dir / name, files.show_interval)
        show(f"tested: {'the moving average of the weights in ' if average else ''}{checkpoint}")
        for name, evaluation in evaluations.items():
            print_evaluation(evaluation, files.folder / name)
        show(*(f"scores of {name}: {path}" for name, path in results.items()))
        show(*(f"left out, unreadable: {printable_name(path)}: {reason}" for path, reason in left_out.items()))
    return evaluations


def _write_predictions(
    evaluation: Evaluation, recipe: Recipe, items: Items, folder: Path, about: Mapping[str, Any]
) -> None:
    """Writes what was predicted of every item, and pictures of some."""
    source = recipe.sources[evaluation.source]
    rows = predictions_of(evaluation, items)
    write_predictions(rows, evaluation, folder / PREDICTIONS, {"media": source.media, **about})
    shown = sorted({row.index for chosen in chosen_examples(rows, EXAMPLES).values() for row in chosen})
    write_thumbnails(evaluation.source, source, evaluation.split, items, shown, folder / THUMBNAILS)


def _evaluate_all(
    recognizer: Recognizer,
    recipe: Recipe,
    items: Mapping[str, Items],
    class_names: Mapping[str, Sequence[str]],
    unreadable: UnreadableLog,
) -> dict[str, Evaluation]:
    """Returns the evaluation of the test items of each source, with a progress bar for each."""
    evaluations = {}
    with WorkerPool(
        recipe.num_workers,
        recipe.item_timeout_seconds,
        processes.say,
        item_processor_seconds=recipe.item_processor_seconds,
    ) as workers:
        for name, of_source in items.items():
            task = EvaluationTask(recipe, name, "test", of_source, class_names[recipe.sources[name].label_space])
            with progress_bar(f"testing {name}", len(task.local_indices)) as advance:
                evaluations[name] = evaluate(
                    recognizer, task, workers, unreadable, on_item=lambda index, scored: advance()
                )
    return evaluations


def _check_classes(path: str, content: Mapping[str, Any], class_names: Mapping[str, Sequence[str]]) -> None:
    """Checks that the classes have the names and the order that one of our checkpoints was trained with."""
    if content.get("format") != CHECKPOINT_FORMAT:
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
