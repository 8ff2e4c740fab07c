"""Lists of items: reading them, and saying everything that is wrong with them at once.

What is wrong is noted and reading goes on, so that a user mends a list once and not line by line. The text of lists
is read in `list_text`, files are looked for in `media_files`, and `items` holds what was read.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from omnisource.data.items import Item, Items, Texts
from omnisource.data.list_text import Problem, csv_rows, in_order, is_number, read_class_names, some, text_rows
from omnisource.data.media_files import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    FileFinder,
    class_names_of_folders,
    read_class_folders,
    suffixes_of,
)
from omnisource.errors import UserError, shortened

if TYPE_CHECKING:
    from omnisource.types import Media  # would import torch, which reading lists does not need

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Item",
    "Items",
    "ListFormat",
    "Problem",
    "Split",
    "class_names_of_folders",
    "find_problems",
    "read_class_names",
    "read_items",
]

ListFormat = Literal["path_label", "video_frames_label", "frames_folder", "csv", "folders"]

_COLUMNS = {
    "path_label": "path label",
    "video_frames_label": "video_id num_frames label",
    "frames_folder": "folder num_frames label",
}
_LARGEST = 2**31 - 1  # labels and frame counts are kept as int32


@dataclass(frozen=True)
class Split:
    """One list of a source: the items it is trained, validated or tested on."""

    folder: str = ""
    """Folder that the paths of the list start from, below the source's root."""

    list: str = ""
    """List file, below the source's root; not read where the format is "folders"."""

    format: ListFormat = "path_label"
    """Form of the list: "path_label" (`path label`), "video_frames_label" (`video_id frames label`, the id without
    suffix and the count ignored), "frames_folder" (`folder num_frames label`), "csv" (with a header) or "folders"
    (no list: one folder a class)."""

    path_column: str = "path"
    """Column of a CSV list that holds the path."""

    label_column: str = "label"
    """Column of a CSV list that holds the label: a class index or, where the classes have names, a name."""

    frame_template: str = "img_{:05d}.jpg"
    """File name of a raw frame, given its number; the first is 1."""


def read_items(
    root: str,
    split: Split,
    media: Media,
    class_names: tuple[str, ...] | None,
    num_classes: int | None,
    source_name: str,
    check_files: bool = True,
) -> Items:
    """Returns the items of a list.

    Args:
        root: Folder of the dataset.
        split: The list below it.
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
    if any(problem.line is None for problem in problems):
        remedy = f"Set another place with sources.{source_name}.root=FOLDER; the layouts are in docs/data.md."
    else:
        remedy = (
            "Correct these lines or remove them. docs/data.md describes the forms; `omnisource lists` makes lists of "
            "the files that are there; `omnisource check CONFIG` prints every problem."
        )
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = shortened([str(problem) for problem in problems])
    raise UserError(f'source {source_name}: {count} in its items (format "{split.format}")\n{lines}\n{remedy}')


def find_problems(
    root: str,
    split: Split,
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
    split: Split,
    media: Media,
    class_names: tuple[str, ...] | None,
    num_classes: int | None,
    source_name: str,
    check_files: bool,
) -> tuple[Items, list[Problem]]:
    root = os.path.expanduser(root) or "."
    folder = os.path.join(root, split.folder) if split.folder else root
    list_path = os.path.join(root, split.list)
    problems = _missing_places(root, folder, split, needs_folder=check_files or split.format == "folders")
    labels = _Labels(class_names, num_classes)
    if split.format == "folders":
        items = _read_folders(folder, media, labels, problems) if not problems else _no_items(folder)
    elif media == "image" and split.format in ("video_frames_label", "frames_folder"):
        problems.append(Problem(list_path, None, f'lists of the form "{split.format}" are for videos, not for images'))
        items = _no_items(folder)
    elif split.list and os.path.isfile(list_path):
        items = _read_list(list_path, folder, split, labels, check_files, problems)
    else:
        items = _no_items(folder)
    if not len(items) and not problems:
        problems.append(Problem(list_path, None, f"the list is empty: source {source_name} has no items"))
    return items, in_order(problems)


def _no_items(folder: str) -> Items:
    return Items(os.path.abspath(folder), Texts(), np.zeros(0, np.int32))


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


class _Labels:
    """Reads labels: class indices or, where the classes have names, names. A number is always an index."""

    def __init__(self, class_names: tuple[str, ...] | None, num_classes: int | None) -> None:
        self.class_names = class_names
        self._names = {name: index for index, name in enumerate(class_names or ())}
        self._limit = num_classes if num_classes is not None else len(self._names) or _LARGEST
        self._known: dict[str, int] = {}
        named = any(not is_number(name) for name in self._names)  # classes without names are named by their indices
        self._allowed = "0 upwards" if self._limit == _LARGEST else f"0 to {self._limit - 1}"
        self._allowed += " or the name of a class" if named else ""

    def is_label(self, text: str) -> bool:
        """Returns whether the text looks like a label, be it one of these classes or not."""
        return is_number(text) or text in self._names

    def read(self, text: str) -> int | str:
        """Returns the label, or what is wrong with it."""
        label = self._known.get(text)
        if label is not None:
            return label
        if is_number(text):
            label = int(text) if len(text) <= 10 else _LARGEST
        elif text in self._names:
            label = self._names[text]
        else:
            kind = "not the name of a class" if self._names else "not a number"
            return f"label {text!r} is {kind} (allowed: {self._allowed})"
        if not 0 <= label < self._limit:
            return f"label {text} is outside the classes (allowed: {self._allowed})"
        self._known[text] = label
        return label


def _read_folders(folder: str, media: Media, labels: _Labels, problems: list[Problem]) -> Items:
    try:
        found = read_class_folders(folder, media)
    except UserError as error:
        message = str(error)
        problems.append(Problem(folder, None, message.removeprefix(f"{folder}: ")))
        return _no_items(folder)
    problems += found.problems
    names = labels.class_names if labels.class_names is not None else tuple(found.keys)
    index_of = {name: index for index, name in enumerate(names)}
    counts: list[tuple[int, int]] = []
    for name, keys in found.keys.items():
        label = labels.read(str(index_of[name])) if name in index_of else f"not the name of a class: {some(names)}"
        if isinstance(label, str):
            problems.append(Problem(os.path.join(folder, name), None, label))
            label = 0
        counts.append((label, len(keys)))
    if found.num_ignored and not any(count for _, count in counts):
        what = f"{found.num_ignored} files of other kinds; {media}s are known by {', '.join(suffixes_of(media))}"
        problems.append(Problem(folder, None, what))
    values = np.repeat(np.array(counts, dtype=np.int32)[:, 0], [count for _, count in counts])
    keys = Texts(key for keys in found.keys.values() for key in keys)
    return Items(os.path.abspath(folder), keys, values, num_ignored=found.num_ignored)


def _read_list(
    path: str, folder: str, split: Split, labels: _Labels, check_files: bool, problems: list[Problem]
) -> Items:
    if split.format == "csv":
        rows = csv_rows(path, (split.path_column, split.label_column), problems)
    else:
        rows = text_rows(path, _COLUMNS[split.format], labels.is_label, problems)
    numbers = array("i")
    keys = Texts(_checked(rows, path, split, labels, numbers, problems))
    columns = np.array(numbers, dtype=np.int32).reshape(-1, 3)
    lines = columns[:, 2]

    finder = FileFinder(folder)
    paths = None
    if split.format == "video_frames_label":
        paths = Texts(finder.find_videos(keys))
    elif check_files and os.path.isdir(folder):
        (finder.find_folders if split.format == "frames_folder" else finder.find_files)(keys)
    problems += _duplicates(path, keys if paths is None else paths, lines)
    num_frames = columns[:, 1].copy() if split.format == "frames_folder" else None
    items = Items(os.path.abspath(folder), keys, columns[:, 0].copy(), num_frames, paths)
    if not check_files:
        return items
    if not os.path.isdir(folder):
        return _no_items(folder)  # noted already: one problem, not one a line
    problems += finder.problems
    problems += [Problem(path, int(lines[index]), what) for index, what in finder.missing]
    return items.without({index for index, _ in finder.missing})


def _checked(
    rows: Iterable[tuple[int, list[str]]],
    path: str,
    split: Split,
    labels: _Labels,
    numbers: array[int],
    problems: list[Problem],
) -> Iterator[str]:
    """Yields the keys of rows; appends label, frames and line of each to `numbers`."""
    for line, row in rows:
        key, label, num_frames = row[0], labels.read(row[-1].strip()), 0
        if isinstance(label, str):
            problems.append(Problem(path, line, label))
            label = 0  # the item is kept, so that its file is looked for as well
        if split.format == "frames_folder":
            key = key.rstrip("/") or key
            if is_number(row[1]) and len(row[1]) <= 10 and 0 < int(row[1]) <= _LARGEST:
                num_frames = int(row[1])
            else:
                problems.append(Problem(path, line, f"num_frames {row[1]!r} is not a whole number of at least 1"))
        numbers.extend((label, num_frames, line))
        yield key


def _duplicates(path: str, keys: Texts, lines: np.ndarray) -> list[Problem]:
    # Hashes first: a dictionary of ten million paths would need more memory than everything else here.
    hashes = np.fromiter((hash(key) for key in keys), dtype=np.int64, count=len(keys))
    ordered = np.sort(hashes)
    repeated = np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]])
    problems = []
    first_line: dict[str, int] = {}
    for index in np.flatnonzero(repeated).tolist():
        key, line = keys[index], int(lines[index])
        if first_line.setdefault(key, line) != line:
            problems.append(Problem(path, line, f"the same item as in line {first_line[key]}: {key}"))
    return problems
