"""Reads every list and every file of a recipe, and says all that is wrong with them."""

from __future__ import annotations

import os

from omnisource.data.annotations import find_problems
from omnisource.data.loader import results_in_order
from omnisource.data.pipeline import SampleRequest, read_whole
from omnisource.data.source import SplitName, request_of, split_of
from omnisource.data.workers import WorkerPool
from omnisource.errors import UnreadableMedia, UserError
from omnisource.plan import require_data, resolve_classes
from omnisource.progress import progress_bar
from omnisource.recipe import Recipe


def check(recipe: Recipe, config_path: str) -> list[str]:
    """Returns what is wrong with the lists and the files of a recipe, a line each; prints what it reads.

    Every frame of every file is decoded, in `num_workers` processes.

    Args:
        recipe: The recipe.
        config_path: How errors name it.

    Raises:
        UserError: If no folder of any source is there, or a class map is missing or wrong, so that no list can be
            understood.
    """
    splits: tuple[SplitName, ...] = ("train", "validation", "test")
    problems: list[str] = []
    try:
        require_data(recipe, splits, config_path)
    except UserError as error:
        if not any(os.path.isdir(os.path.expanduser(source.root)) for source in recipe.sources.values()):
            raise
        problems.append(str(error))  # the lists that are there are read all the same
    recipe, names = resolve_classes(recipe)
    requests: dict[str, SampleRequest] = {}
    for source_name, source in recipe.sources.items():
        checked = []
        for split_name in splits:
            split = split_of(source, split_name)
            if split is None or split in checked:
                continue
            checked.append(split)
            class_names = names[source.label_space]
            items, faults = find_problems(source.root, split, source.media, class_names, len(class_names), source_name)
            problems += [line for fault in faults if (line := str(fault)) not in problems]
            empty = sum(count == 0 for count in items.class_counts(len(class_names)))
            print(
                f"source {source_name}, {split_name}: {len(items)} items of {len(class_names) - empty} of "
                f"{len(class_names)} classes, {len(faults)} problems in the list"
            )
            for index in range(len(items)):
                request = request_of(source_name, source, split_name, items, index)
                requests.setdefault(os.path.realpath(request.path), request)
    with (
        WorkerPool(recipe.num_workers, recipe.item_timeout_seconds, load=read_whole) as workers,
        progress_bar("reading files", len(requests)) as advance,
    ):
        for _, result in results_in_order(requests.values(), workers, ahead=4 * recipe.num_workers):
            advance()
            if isinstance(result, UnreadableMedia):
                problems.append(str(result))
    print(f"{len(requests)} files read")
    return problems
