"""The lists that the runs of an experiment read: subsets, validation parts, images as folders of one frame."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omnisource.compare.experiment import STILL_CLIPS, Experiment
from omnisource.compare.subsets import Row, split_off, subset
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.data.lists.text import format_rows
from omnisource.errors import UserError
from omnisource.files.atomic import atomic_write
from omnisource.recipe.data import Source, Split
from omnisource.recipe.model import LabelSpace
from omnisource.recipe.recipe import Recipe


def fold_rows(experiment: Experiment, fold_name: str) -> dict[str, list[Row]]:
    """Returns the rows of "train", "validation" and "test" of a fold.

    Raises:
        UserError: A list is wrong, or a class has too few clusters for a validation part.
    """
    fold = experiment.folds[fold_name]
    lists = {"train": fold.train, "test": fold.test, **({"validation": fold.validation} if fold.validation else {})}
    rows = {name: _rows(experiment.recipe, path) for name, path in lists.items()}
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
    recipe: Recipe, experiment: Experiment, rows: dict[str, list[Row]], choice: tuple, folder: Path
) -> Recipe:
    """Returns the recipe with the lists of a fold for its main source, written below `folder`.

    Args:
        recipe: Has the main source.
        experiment: Gives clusters and units.
        rows: Those of the fold.
        choice: The amount, and the seed of the subset.
        folder: Of the comparison.
    """
    name, amount, seed = recipe.main_source, *choice
    train = subset(rows["train"], amount, experiment.amount_unit, experiment.cluster_of, seed)
    source = recipe.sources[name]
    listed_by = source.train
    assert isinstance(listed_by, Split)

    def listed(chosen: Sequence[Row]) -> Split:
        return replace(listed_by, list=_written(folder, chosen))

    lists = {"train": listed(train), "validation": listed(rows["validation"]), "test": listed(rows["test"])}
    return replace(recipe, sources={**recipe.sources, name: replace(source, **lists)})


def with_stills(recipe: Recipe, folder: Path) -> Recipe:
    """Returns the recipe with folders of one frame, links, for the images that are to stand still as clips."""
    sources = {name: _stills(source, folder / "stills" / name, folder) for name, source in recipe.sources.items()}
    return replace(recipe, sources=sources)


def _stills(source: Source, links: Path, folder: Path) -> Source:
    if not (isinstance(source.train, Split) and source.train.frame_template == STILL_CLIPS):
        return source
    as_images = replace(source, media="image", train=replace(source.train, format="path_label", frame_template=""))
    images = Recipe(
        label_spaces=_spaces(as_images),
        sources={"images": replace(as_images, batch_size=1)},
        main_source="images",
        num_epochs=1,
    )
    resolved, names = resolve_classes(images)
    items = read_split(resolved, names, "images", "train")
    assert items is not None
    rows = []
    for index in range(len(items)):
        item, name = items[index], f"{index:07d}"
        link = links / name / STILL_CLIPS.format(1)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(os.path.abspath(item.path))
        rows.append((name, item.label))
    text = "".join(f"{name} 1 {label}\n" for name, label in rows).encode()
    return replace(source, train=replace(source.train, folder=str(links.absolute()), list=_kept(folder, text)))


def _spaces(source: Source) -> dict:
    return {source.label_space: LabelSpace(head="image")}


def _rows(recipe: Recipe, path: str) -> list[Row]:
    source = recipe.sources[recipe.main_source]
    if not isinstance(source.train, Split) or source.train.format != "path_label":
        raise UserError(f"source {recipe.main_source}: a comparison needs lists of the form `path label`")
    listed = replace(source, train=replace(source.train, list=path))
    resolved, names = resolve_classes(replace(recipe, sources={**recipe.sources, recipe.main_source: listed}))
    items = read_split(resolved, names, recipe.main_source, "train")
    assert items is not None
    return [(item.key, item.label) for item in map(items.__getitem__, range(len(items)))]


def _written(folder: Path, rows: Sequence[Row]) -> str:
    return _kept(folder, format_rows(rows))


def _kept(folder: Path, text: bytes) -> str:
    """Writes a list under a name that its content decides, so that another list is another recipe; returns its path."""
    path = (folder / "lists" / f"{hashlib.blake2b(text, digest_size=8).hexdigest()}.txt").absolute()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, sync=False) as file:
            file.write(text)
    return str(path)
