"""Lists of items: reading them, and saying everything that is wrong with them at once.

What is wrong is noted and reading goes on, so that a user fixes a list once and not line by line. The text of lists
is read in `list_text`, files are looked for in `media_files`, and `items` holds what was read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omnisource.data.lists.items import Item, Items, PackedStrings, no_items
from omnisource.data.lists.labels import LabelReader
from omnisource.data.lists.media_files import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    class_names_of_folders,
    count_files,
    files_of_class,
    suffixes_of,
)
from omnisource.data.lists.rows import read_list
from omnisource.data.lists.text import (
    Problem,
    in_order,
    read_class_names,
    some,
)
from omnisource.data.shards.read import read_shards, shard_places
from omnisource.errors import UserError, shortened
from omnisource.files.byte_ranges import is_url
from omnisource.files.mapped_table import TableWriter
from omnisource.recipe.data import ListFormat, Source, Split, SplitName, TarShards, split_of
from omnisource.recipe.recipe import Recipe

if TYPE_CHECKING:
    from omnisource.types import Media

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Item",
    "Items",
    "ListFormat",
    "Problem",
    "Split",
    "TarShards",
    "class_names_of_folders",
    "find_problems",
    "read_class_names",
    "read_items",
]


def read_items(
    root: str,
    split: Split | TarShards,
    media: Media,
    class_names: tuple[str, ...] | None,
    num_classes: int | None,
    source_name: str,
    check_files: bool = True,
) -> Items:
    """Returns the items of a list.

    Args:
        root: Folder of the dataset.
        split: The list below it, or the shards.
        media: "image" or "video".
        class_names: Names that may stand for labels, in the order of their indices, or None where there are none.
            Class folders are numbered by these names, and alphabetically where there are none.
        num_classes: Number of classes of the label space; None: as many as there are names, or any number.
        source_name: Name of the source, for messages.
        check_files: Whether it is an error if a file of the list does not exist.

    Raises:
        UserError: Everything that is wrong with the list, at once, cut to one screen.
    """
    items, problems = _read(root, split, media, class_names, num_classes, source_name, check_files)
    if not problems:
        return items
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    form = "tar shards" if isinstance(split, TarShards) else f'format "{split.format}"'
    lines = shortened([str(problem) for problem in problems])
    remedy = _remedy(split, problems, source_name)
    raise UserError(f"source {source_name}: {count} in its items ({form})\n{lines}\n{remedy}")


def _remedy(split: Split | TarShards, problems: list[Problem], source_name: str) -> str:
    if isinstance(split, TarShards):
        return (
            "Pack these shards again, or name others with urls=...; media_suffix, label_suffix and label_field say "
            "which members count (docs/data.md). `omnisource check CONFIG` prints every problem."
        )
    if any(problem.line is None for problem in problems):
        return f"Set another place with sources.{source_name}.root=FOLDER; the layouts are in docs/data.md."
    return (
        "Correct these lines or remove them. docs/data.md describes the forms; `omnisource lists` makes lists of "
        "the files that are there; `omnisource check CONFIG` prints every problem."
    )


def find_problems(
    root: str,
    split: Split | TarShards,
    media: Media,
    class_names: tuple[str, ...] | None,
    num_classes: int | None,
    source_name: str,
) -> tuple[Items, list[Problem]]:
    """Returns the items that are there, and everything that is wrong with the list.

    The arguments are those of `read_items`. The problems of folders and whole files come first, then those of lines in
    their order. The items are for opening their files: one with a wrong label is among them, with the label 0.
    """
    return _read(root, split, media, class_names, num_classes, source_name, check_files=True)


def _read(
    root: str,
    split: Split | TarShards,
    media: Media,
    class_names: tuple[str, ...] | None,
    num_classes: int | None,
    source_name: str,
    check_files: bool,
) -> tuple[Items, list[Problem]]:
    labels = LabelReader(class_names, num_classes)
    if isinstance(split, TarShards):
        problems: list[Problem] = []
        return read_shards(root, split, media, labels, problems), problems
    root = os.path.expanduser(root) or "."
    folder = os.path.join(root, split.folder) if split.folder else root
    list_path = os.path.join(root, split.list)
    problems = _missing_places(root, folder, split, needs_folder=check_files or split.format == "folders")
    if split.format == "folders":
        items = _read_folders(folder, media, labels, problems) if not problems else no_items(folder)
    elif media == "image" and split.format in ("video_frames_label", "frames_folder"):
        problems.append(Problem(list_path, None, f'lists of the form "{split.format}" are for videos, not for images'))
        items = no_items(folder)
    elif split.list and os.path.isfile(list_path):
        items = read_list(list_path, folder, split, labels, check_files, problems)
    else:
        items = no_items(folder)
    if not len(items) and not problems:
        problems.append(Problem(list_path, None, f"the list is empty: source {source_name} has no items"))
    return items, in_order(problems)


def _missing_places(root: str, folder: str, split: Split, needs_folder: bool) -> list[Problem]:
    """Returns what is wrong with the root, the list and the folder themselves."""
    problems = []
    if split.format != "folders":
        list_path = os.path.join(root, split.list)
        if not split.list:
            problems.append(Problem(root, None, f'the split names no list, and its format "{split.format}" needs one'))
        elif os.path.isdir(list_path):
            problems.append(Problem(list_path, None, "is a folder, not a list"))
        elif not os.path.isfile(list_path):
            problems.append(Problem(list_path, None, "missing list"))
    if needs_folder and not os.path.isdir(folder):
        problems.append(Problem(folder, None, "is not a folder" if os.path.exists(folder) else "missing folder"))
    if problems and root != folder and not os.path.isdir(root):
        problems.insert(0, Problem(root, None, "missing root folder"))
    return problems


def _read_folders(folder: str, media: Media, labels: LabelReader, problems: list[Problem]) -> Items:
    try:
        found = class_names_of_folders(folder)
    except UserError as error:
        problems.append(Problem(folder, None, str(error).removeprefix(f"{folder}: ")))
        return no_items(folder)
    names = labels.class_names if labels.class_names is not None else found
    index_of = {name: index for index, name in enumerate(names)}
    wrong: list[Problem] = []
    writer = TableWriter(["keys"], {"labels": np.int32})
    num_ignored = count_files(folder, problems)
    for name in found:
        label = labels.read(str(index_of[name])) if name in index_of else f"not the name of a class: {some(names)}"
        if isinstance(label, str):
            wrong.append(Problem(os.path.join(folder, name), None, label))
            label = 0
        keys, num_others = files_of_class(folder, name, media, problems)
        num_ignored += num_others
        for key in keys:
            writer.add(key, label)
    problems += wrong
    columns = writer.finish(writer.digest())
    if num_ignored and not len(columns["labels"]):
        what = f"{num_ignored} files of other kinds; {media}s are known by {', '.join(suffixes_of(media))}"
        problems.append(Problem(folder, None, what))
    return Items(os.path.abspath(folder), PackedStrings.of(columns, "keys"), columns["labels"], num_ignored=num_ignored)


def class_names_of(source: Source) -> tuple[str, ...] | None:
    """Returns the names of a source's classes in the order of their indices, or None where it has none.

    Raises:
        UserError: If the class map or the folder is missing or wrong.
    """
    if source.classes:
        return read_class_names(os.path.join(source.root, source.classes))
    if isinstance(source.train, Split) and source.train.format == "folders":
        return class_names_of_folders(os.path.join(source.root, source.train.folder))
    return None


def resolve_classes(recipe: Recipe) -> tuple[Recipe, dict[str, tuple[str, ...]]]:
    """Returns the recipe with every number of classes known, and the class names of each label space.

    Where no class map gives names, the names are the indices.

    Raises:
        UserError: If a class map is missing or wrong, or sources that share a label space disagree.
    """
    spaces, names = {}, {}
    for space_name, space in recipe.label_spaces.items():
        found: dict[str, tuple[str, ...]] = {}
        for source_name, source in recipe.sources.items():
            if source.label_space != space_name:
                continue
            source_names = class_names_of(replace(source, root=os.path.expanduser(source.root)))
            if source_names is not None:
                found[source_name] = source_names
        if len(set(found.values())) > 1:
            raise UserError(
                f"sources {', '.join(found)} share the label space {space_name} but their class names or the order of "
                "these differ; give them one class map (classes=...)."
            )
        known = next(iter(found.values()), None)
        if known is None and space.num_classes is None:
            raise UserError(
                f"label_spaces.{space_name}: the number of classes is not known. Set label_spaces.{space_name}"
                ".num_classes=N, or give one of its sources a class map (sources.NAME.classes=FILE)."
            )
        if known is not None and space.num_classes not in (None, len(known)):
            raise UserError(
                f"label_spaces.{space_name}.num_classes={space.num_classes}, but the class names of source "
                f"{next(iter(found))} are {len(known)}."
            )
        num_classes = len(known) if known is not None else space.num_classes
        assert num_classes is not None
        spaces[space_name] = replace(space, num_classes=num_classes)
        names[space_name] = known or tuple(str(index) for index in range(num_classes))
    return replace(recipe, label_spaces=spaces), names


def require_data(recipe: Recipe, splits: tuple[SplitName, ...], config_path: str = "") -> None:
    """Checks that every folder and list that the recipe names is there.

    Raises:
        UserError: Naming all that is missing, on one screen, and the page that tells how to make it.
    """
    missing: list[str] = []
    for name, source in recipe.sources.items():
        if all(split_of(source, split_name) is None for split_name in splits):
            continue
        root = os.path.expanduser(source.root) or "."
        wanted = {root: ("folder", f"sources.{name}.root")}
        if source.classes:
            wanted.setdefault(os.path.join(root, source.classes), ("class map", f"sources.{name}.classes"))
        for split_name in splits:
            split = split_of(source, split_name)
            if split is None:
                continue
            # Without test items of its own, a source is tested on those of validation: that is the key to change.
            key = f"sources.{name}.{'validation' if split == source.validation else split_name}"
            if isinstance(split, TarShards):
                # Servers are asked when the shards are read.
                local = [place for place in shard_places(root, split) if not is_url(place)]
                wanted |= {place: ("shard", f"{key}.urls") for place in local}
                continue
            wanted.setdefault(os.path.join(root, split.folder) if split.folder else root, ("folder", f"{key}.folder"))
            if split.format != "folders":
                wanted.setdefault(os.path.join(root, split.list), ("list", f"{key}.list"))
        for path, (kind, key) in wanted.items():
            exists = Path(path).is_dir() if kind == "folder" else Path(path).is_file()
            if not exists:
                missing.append(f"  {path:<60} {kind}, {key}=")
    if missing:
        raise UserError(
            f"{config_path or 'the recipe'}: the data is not here. Missing:\n"
            + shortened(missing)
            + "\nHow to lay out and list the data: docs/data.md. Another place: sources.NAME.root=FOLDER."
        )


def read_split(
    recipe: Recipe, names: Mapping[str, tuple[str, ...]], source_name: str, split_name: SplitName
) -> Items | None:
    """Returns the items of one split of one source, or None where the source has no such split.

    Args:
        recipe: A recipe with its classes resolved.
        names: Class names by label space.
        source_name: Name of the source.
        split_name: "train", "validation" or "test".

    Raises:
        UserError: Everything that is wrong with the list, at once.
    """
    source = recipe.sources[source_name]
    split = split_of(source, split_name)
    if split is None:
        return None
    num_classes = recipe.label_spaces[source.label_space].num_classes
    return read_items(source.root, split, source.media, names[source.label_space], num_classes, source_name)


def read_splits(recipe: Recipe, names: Mapping[str, tuple[str, ...]], split_name: SplitName) -> dict[str, Items]:
    """Returns the items of one split by source, of the sources that have it; the arguments are those of `read_split`.

    Raises:
        UserError: Everything that is wrong with the first list that is wrong.
    """
    found = {name: read_split(recipe, names, name, split_name) for name in recipe.sources}
    return {name: items for name, items in found.items() if items is not None}
