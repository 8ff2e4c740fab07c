"""The lists that the runs of an experiment read: subsets, validation parts, images as folders of one frame.

They are planned first, since their names are in the recipes, and written when a run needs them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omnisource.compare.experiment import STILL_CLIPS, Experiment
from omnisource.compare.subsets import Row, split_off, subset
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.data.lists.items import Items
from omnisource.data.lists.text import format_rows
from omnisource.errors import UserError
from omnisource.files.atomic import atomic_write
from omnisource.recipe.data import Split
from omnisource.recipe.recipe import Recipe


class PlannedFiles:
    """Lists and links that runs will read, below the folder of a comparison.

    Args:
        folder: Of the comparison.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._lists: dict[Path, bytes] = {}
        self._links: dict[Path, str] = {}

    def list(self, text: bytes) -> str:
        """Returns the path of a list; its content decides its name, so that another list is another recipe."""
        path = self._folder / "lists" / f"{hashlib.blake2b(text, digest_size=8).hexdigest()}.txt"
        self._lists[path] = text
        return str(path)

    def still(self, source: str, name: str, image: str) -> Path:
        """Returns the folder of a source's stills; one of them, `name`, has a link to an image as its only frame."""
        folder = self._folder / "stills" / source
        self._links[folder / name / STILL_CLIPS.format(1)] = os.path.abspath(image)
        return folder

    def write(self) -> None:
        """Writes what was planned and is not there yet."""
        for path, text in self._lists.items():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path, sync=False) as file:
                    file.write(text)
        for link, image in self._links.items():
            link.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # of a run before, or of another part of the comparison just now
                link.symlink_to(image)
        self._lists.clear()
        self._links.clear()


def fold_rows(experiment: Experiment, fold_name: str) -> dict[str, list[Row]]:
    """Returns the rows of "train", "validation" and "test" of a fold.

    Raises:
        UserError: A list is wrong, or a class has too few clusters for a validation part.
    """
    fold = experiment.folds[fold_name]
    lists = {"train": fold.train, "test": fold.test, **({"validation": fold.validation} if fold.validation else {})}
    rows = {name: _rows(experiment.recipe, path, f"fold {fold_name}, {name}") for name, path in lists.items()}
    if not fold.validation:
        try:
            rows["train"], rows["validation"] = split_off(
                rows["train"], experiment.validation_share, experiment.cluster_of, fold_name
            )
        except ValueError as error:
            raise UserError(str(error)) from None
    shared = {experiment.cluster_of(path) for path, _ in rows["test"]} & {
        experiment.cluster_of(path) for name in ("train", "validation") for path, _ in rows[name]
    }
    if shared:
        some = ", ".join(sorted(shared)[:5])
        raise UserError(f"fold {fold_name}: clusters of its test clips are trained or validated on: {some}")
    return rows


def with_fold(
    recipe: Recipe, experiment: Experiment, rows: dict[str, list[Row]], choice: tuple, files: PlannedFiles
) -> tuple[Recipe, int]:
    """Returns the recipe with the lists of a fold for its main source, and how many clips it trains on.

    Args:
        recipe: Has the main source.
        experiment: Gives clusters and units.
        rows: Those of the fold.
        choice: The amount, and the seed of the subset.
        files: Gets the lists.
    """
    name, amount, seed = recipe.main_source, *choice
    train = subset(rows["train"], amount, experiment.amount_unit, experiment.cluster_of, seed)
    source = recipe.sources[name]
    listed_by = source.train
    assert isinstance(listed_by, Split)

    def listed(chosen: Sequence[Row]) -> Split:
        return replace(listed_by, list=files.list(format_rows(chosen)))

    lists = {"train": listed(train), "validation": listed(rows["validation"]), "test": listed(rows["test"])}
    return replace(recipe, sources={**recipe.sources, name: replace(source, **lists)}), len(train)


def with_stills(recipe: Recipe, files: PlannedFiles) -> tuple[Recipe, dict[str, int]]:
    """Returns the recipe with folders of one frame, links, for the images that stand still, and their numbers."""
    sources, counts = dict(recipe.sources), {}
    for name, source in recipe.sources.items():
        if isinstance(source.train, Split) and source.train.frame_template == STILL_CLIPS:
            items = _images(recipe, name)
            folder = Path()
            for index in range(len(items)):
                folder = files.still(name, f"{index:07d}", items[index].path)
            text = "".join(f"{index:07d} 1 {items[index].label}\n" for index in range(len(items))).encode()
            train = replace(source.train, folder=str(folder), list=files.list(text))
            sources[name], counts[name] = replace(source, train=train), len(items)
    return replace(recipe, sources=sources), counts


def _images(recipe: Recipe, name: str) -> Items:
    """Returns the images that a source of still clips had as a source of images."""
    source = recipe.sources[name]
    assert isinstance(source.train, Split)
    train = replace(source.train, format="path_label", frame_template="")
    alone = Recipe(
        label_spaces={source.label_space: replace(recipe.label_spaces[source.label_space], head="image")},
        sources={name: replace(source, media="image", train=train, ratio_to="", ends_with="", batch_size=1)},
        main_source=name,
        num_epochs=1,
    )
    resolved, names = resolve_classes(alone)
    items = read_split(resolved, names, name, "train")
    assert items is not None
    return items


def _rows(recipe: Recipe, path: str, where: str) -> list[Row]:
    source = recipe.sources[recipe.main_source]
    if not isinstance(source.train, Split) or source.train.format != "path_label":
        raise UserError(
            f"source {recipe.main_source}: a comparison needs lists of the form `path label`; `omnisource lists` makes "
            "them of folders and of other lists"
        )
    listed = replace(source, train=replace(source.train, list=path))
    try:
        resolved, names = resolve_classes(replace(recipe, sources={**recipe.sources, recipe.main_source: listed}))
        items = read_split(resolved, names, recipe.main_source, "train")
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    assert items is not None
    return [(item.key, item.label) for item in map(items.__getitem__, range(len(items)))]
