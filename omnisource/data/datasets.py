"""The items of the splits of a recipe, with everything that is wrong with a list said at once.

What is wrong is noted and reading goes on, so that a user fixes a list once and not line by line. The text of lists
is read in `lists.text`, files are looked for in `lists.folders`, and `lists.items` holds what was read.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from omnisource.data.lists.folders import ClassFolders
from omnisource.data.lists.items import Items, PackedStrings, no_items
from omnisource.data.lists.labels import LabelReader
from omnisource.data.lists.media_files import left_out_note, suffixes_of
from omnisource.data.lists.rows import read_list
from omnisource.data.lists.same_files import find_same_files, label_conflicts, link_notes
from omnisource.data.lists.text import NOT_UTF8, TO_UTF8, Problem, in_order, some
from omnisource.data.shards.read import read_shards
from omnisource.errors import UserError, shortened
from omnisource.files.mapped_table import TableWriter
from omnisource.recipe.data import Split, SplitName, TarShards, split_of
from omnisource.recipe.recipe import Recipe
from omnisource.types import Progress

if TYPE_CHECKING:
    from omnisource.types import Media


def read_items(
    root: str,
    split: Split | TarShards,
    media: Media,
    class_names: tuple[str, ...] | None,
    num_classes: int | None,
    source_name: str,
    check_files: bool = True,
    progress: Progress | None = None,
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
        progress: Called with the number of folders, or of shards, that were looked at, and with that of all.

    Raises:
        UserError: Everything that is wrong with the list, at once, cut to one screen.
    """
    items, problems = _read(
        root, split, media, LabelReader(class_names, num_classes), source_name, check_files, progress
    )
    if not problems:
        return items
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    form = "tar shards" if isinstance(split, TarShards) else f'format "{split.format}"'
    lines = shortened([str(problem) for problem in problems])
    remedy = _remedy(split, problems, source_name)
    if any(problem.what.startswith(NOT_UTF8) for problem in problems):
        remedy = f"{TO_UTF8} {remedy}"
    raise UserError(f"source {source_name}: {count} in its items ({form})\n{lines}\n{remedy}")


def _remedy(split: Split | TarShards, problems: list[Problem], source_name: str) -> str:
    if isinstance(split, TarShards):
        return (
            "Pack these shards again, or name others with urls=...; media_suffix, label_suffix and label_field say "
            "which members count (docs/data.md). `omnisource check CONFIG` prints every problem."
        )
    if any(problem.what.startswith(("missing", "is not a folder")) for problem in problems if problem.line is None):
        return f"Set another place with sources.{source_name}.root=FOLDER; the layouts are in docs/data.md."
    if all(problem.line is None for problem in problems):
        return "docs/data.md describes the layouts and the forms; `omnisource check CONFIG` prints every problem."
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
    return _read(root, split, media, LabelReader(class_names, num_classes), source_name, check_files=True)


def _read(
    root: str,
    split: Split | TarShards,
    media: Media,
    labels: LabelReader,
    source_name: str,
    check_files: bool,
    progress: Progress | None = None,
) -> tuple[Items, list[Problem]]:
    if isinstance(split, TarShards):
        problems: list[Problem] = []
        return read_shards(root, split, media, labels, problems, progress), problems
    root = os.path.expanduser(root) or "."
    folder = os.path.join(root, split.folder) if split.folder else root
    list_path = os.path.join(root, split.list)
    problems = _missing_places(root, folder, split, needs_folder=check_files or split.format == "folders")
    if split.format == "folders":
        items = _read_folders(folder, media, labels, problems, progress) if not problems else no_items(folder)
    elif media == "image" and split.format in ("video_frames_label", "frames_folder"):
        problems.append(Problem(list_path, None, f'lists of the form "{split.format}" are for videos, not for images'))
        items = no_items(folder)
    elif split.list and os.path.isfile(list_path):
        items = read_list(list_path, folder, split, labels, check_files, problems, progress)
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


def _read_folders(
    folder: str, media: Media, labels: LabelReader, problems: list[Problem], progress: Progress | None
) -> Items:
    classes = ClassFolders(folder, media, problems)
    names = labels.class_names if labels.class_names is not None else classes.names
    index_of = labels.index_of if labels.class_names is not None else {name: i for i, name in enumerate(names)}.get
    wrong: list[Problem] = []
    writer = TableWriter(["keys"], {"labels": np.int32})
    identities = array("q")
    for name, files in classes.read(progress):
        index = index_of(name)
        label = f"not the name of a class: {some(names)}" if index is None else labels.read(str(index))
        if isinstance(label, str):
            wrong.append(Problem(os.path.join(folder, name), None, label))
            label = 0
        for key, identity in files:
            writer.add(key, label)
            identities.append(identity)
    problems += wrong
    columns = writer.finish(writer.digest())
    left_out = classes.left_out
    if left_out and not len(columns["labels"]):
        what = f"{left_out.total()} files of other kinds; {media}s are known by {', '.join(suffixes_of(media))}"
        problems.append(Problem(folder, None, what))
    keys = PackedStrings.of(columns, "keys")
    links = find_same_files(
        np.frombuffer(identities, dtype=np.int64), lambda index: os.path.join(folder, keys[index])
    ).links
    notes = (left_out_note(folder, left_out, media),) if left_out else ()
    return Items(
        os.path.abspath(folder),
        keys,
        columns["labels"],
        num_ignored=left_out.total(),
        notes=(*notes, *link_notes(links, keys.__getitem__)),
        label_conflicts=label_conflicts(links, columns["labels"], keys.__getitem__),
        has_class_folders=True,
    )


def read_split(
    recipe: Recipe,
    names: Mapping[str, tuple[str, ...]],
    source_name: str,
    split_name: SplitName,
    progress: Progress | None = None,
) -> Items | None:
    """Returns the items of one split of one source, or None where the source has no such split.

    Args:
        recipe: A recipe with its classes resolved.
        names: Class names by label space.
        source_name: Name of the source.
        split_name: "train", "validation" or "test".
        progress: As for `read_items`.

    Raises:
        UserError: Everything that is wrong with the list, at once.
    """
    source = recipe.sources[source_name]
    split = split_of(source, split_name)
    if split is None:
        return None
    num_classes = recipe.label_spaces[source.label_space].num_classes
    class_names = names[source.label_space]
    return read_items(source.root, split, source.media, class_names, num_classes, source_name, progress=progress)


def read_splits(recipe: Recipe, names: Mapping[str, tuple[str, ...]], split_name: SplitName) -> dict[str, Items]:
    """Returns the items of one split by source, of the sources that have it; the arguments are those of `read_split`.

    Raises:
        UserError: Everything that is wrong with the first list that is wrong.
    """
    found = {name: read_split(recipe, names, name, split_name) for name in recipe.sources}
    return {name: items for name, items in found.items() if items is not None}
