"""What a run reads before it begins: its classes and its items, once, by the first of its processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.data.lists.items import Items
from omnisource.data.missing import require_data
from omnisource.data.sharing import raise_on_every_process, read_by_first_process
from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.recipe.data import SplitName
from omnisource.recipe.recipe import Recipe
from omnisource.types import Progress

ProgressBar = Callable[[str], AbstractContextManager[Progress]]
"""Makes a bar, given what it says, that appears with the first progress."""

BAR_SECONDS = 2.0
"""A list that is read within this time needs no bar."""


@dataclass(frozen=True)
class RunData:
    """What a run reads before it begins.

    Attributes:
        recipe: The recipe with every number of classes known.
        class_names: Class names by label space.
        items: By split, the items of each source that has the split.
    """

    recipe: Recipe
    class_names: Mapping[str, tuple[str, ...]]
    items: Mapping[SplitName, Mapping[str, Items]]


def read_run_data(
    recipe: Recipe,
    splits: Sequence[SplitName],
    config_name: str = "",
    progress_bar: ProgressBar = lambda what: nullcontext(lambda done, total: None),
) -> RunData:
    """Returns what a run reads before it begins; all processes of a run must call it, and process 0 alone reads.

    Args:
        recipe: The run.
        splits: Those that are read.
        config_name: How errors name the recipe.
        progress_bar: Shows how far the reading of a list is, where that takes long.

    Raises:
        UserError: On every process, if data is missing, or for everything that is wrong with the first list that is
            wrong, or if another process sees other shards under the same paths.
    """

    def read() -> RunData:
        require_data(recipe, tuple(splits), config_name)
        resolved, class_names = resolve_classes(recipe)
        items: dict[SplitName, dict[str, Items]] = {split: {} for split in splits}
        for split in splits:
            for name in resolved.sources:
                with progress_bar(f"reading {split} items of {name}") as update:
                    found = read_split(resolved, class_names, name, split, _after(BAR_SECONDS, update))
                if found is not None:
                    items[split][name] = found
        return RunData(resolved, class_names, items)

    return _with_own_shards(read_by_first_process(read))


def _with_own_shards(data: RunData) -> RunData:
    """Returns the data with the versions of the shards that this process sees: each machine may have its own copies.

    Raises:
        UserError: On every process, if one of them has another shard.
    """
    if not any(items.byte_ranges for of_split in data.items.values() for items in of_split.values()):
        return data
    found: dict[SplitName, dict[str, Items]] = {}
    error: UserError | None = None
    try:
        for split, of_split in data.items.items():
            found[split] = {name: _with_own_copies(items) for name, items in of_split.items()}
    except UserError as raised:
        error = raised
    raise_on_every_process(error)
    return replace(data, items=found)


def _with_own_copies(items: Items) -> Items:
    if items.byte_ranges is None or processes.rank() == 0:  # which has read the index in just these shards
        return items
    return replace(items, byte_ranges=items.byte_ranges.of_own_copies())


def _after(seconds: float, update: Progress) -> Progress:
    """Returns what passes progress on from some time on."""
    started = time.monotonic()

    def passed_on(done: int, total: int) -> None:
        if time.monotonic() - started >= seconds:
            update(done, total)

    return passed_on
