"""Items of list files: each line an item, wherever it may be wrong."""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from omnisource.data.lists.csv_lists import csv_rows
from omnisource.data.lists.file_finder import FileFinder
from omnisource.data.lists.file_kinds import START_BYTES, looks_like_json
from omnisource.data.lists.hints import wrong_label
from omnisource.data.lists.items import Items, PackedStrings, no_items
from omnisource.data.lists.labels import MAX_INT32, LabelReader
from omnisource.data.lists.same_files import (
    equal_pairs,
    find_same_files,
    has_repeated,
    label_conflicts,
    link_notes,
    plain_spelling,
)
from omnisource.data.lists.text import MOST_PROBLEMS, Problem, is_number, open_list, text_rows
from omnisource.files.mapped_table import MappedTable, TableWriter, open_table
from omnisource.recipe.data import Split
from omnisource.types import Progress

_COLUMNS = {
    "path_label": "path label",
    "video_frames_label": "video_id num_frames label",
    "frames_folder": "folder num_frames label",
}


def read_list(
    path: str,
    folder: str,
    split: Split,
    labels: LabelReader,
    check_files: bool,
    problems: list[Problem],
    progress: Progress | None = None,
) -> Items:
    """Returns the items of a list file; notes what is wrong with it.

    Args:
        path: The list.
        folder: Folder that its paths start from.
        split: Its form.
        labels: Reads labels.
        check_files: Whether it is a problem if a file of the list does not exist; such items are then left out.
        problems: Takes what is wrong. An item with a wrong label is among the items, with the label 0.
        progress: Called after each folder in which files are looked for.
    """
    columns = _columns(path, split, labels, problems)
    keys, lines = PackedStrings.of(columns, "keys"), columns["lines"]
    finder = FileFinder(folder, progress)
    paths = None
    if split.format == "video_frames_label":
        paths = finder.find_videos(keys)
        problems += _duplicates(path, paths, columns)
    elif check_files and os.path.isdir(folder):
        (finder.find_folders if split.format == "frames_folder" else finder.find_files)(keys)
    num_frames = columns["num_frames"] if split.format == "frames_folder" else None
    items = Items(os.path.abspath(folder), keys, columns["labels"], num_frames, paths)
    if not check_files:
        return items
    if not os.path.isdir(folder):
        return no_items(folder)  # noted already: one problem, not one a line
    items = _with_same_files(items, path, columns, finder, problems)
    problems += finder.problems
    problems += [Problem(path, int(lines[index]), what) for index, what in finder.missing]
    return items.without({index for index, _ in finder.missing})


def _columns(path: str, split: Split, labels: LabelReader, problems: list[Problem]) -> MappedTable:
    """Returns what a list says, a row an item: `keys`, `labels`, `num_frames` and `lines`.

    A large list that was read before, and had no mistakes then, is not read again, but for its digest.
    """
    key = _digest(path, split, labels)
    found = open_table(key) if key else None
    if found is not None:
        return found
    foreign = _foreign_list(path)
    if foreign:
        problems.append(Problem(path, None, foreign))
        rows = iter(())
    elif split.format == "csv":
        rows = csv_rows(path, (split.path_column, split.label_column), problems)
    else:
        rows = text_rows(path, _COLUMNS[split.format], labels.is_label, problems)
    num_problems = len(problems)
    writer = TableWriter(["keys"], {"labels": np.int32, "num_frames": np.int32, "lines": np.int32})
    hashes = array("q")
    for row in _checked(rows, path, split, labels, problems):
        hashes.append(hash(plain_spelling(row[0])))
        writer.add(*row)
    has_ids = split.format == "video_frames_label"  # two ids may lead to one video: that is seen by the paths
    is_repeated = has_repeated(np.frombuffer(hashes, dtype=np.int64), may_reorder=True)
    is_doubtful = len(problems) > num_problems or (not has_ids and is_repeated)
    if not is_doubtful and key != _digest(path, split, labels):
        problems.append(Problem(path, None, "was changed while it was read"))
        is_doubtful = True
    columns = writer.finish("" if is_doubtful else key)
    if is_doubtful and not has_ids:
        problems += _duplicates(path, PackedStrings.of(columns, "keys"), columns)
    return columns


def _foreign_list(path: str) -> str:
    """Returns what a text file is that is no list of items, and what to do; "" where nothing speaks against it."""
    with open_list(path, []) as file:
        if looks_like_json(file.read(START_BYTES)):
            return 'is JSON, and no list: write a line for each item, `path label`, or CSV with a header (format="csv")'
    if re.search(r"_test_split\d\.txt$", path):
        return (
            "is a split of HMDB51 by its name: its numbers say what is trained on (1) and tested on (2), and are no "
            "labels; write a list of `path label`, or rename it if it is one"
        )
    return ""


def _digest(path: str, split: Split, labels: LabelReader) -> str:
    """Returns a digest of a list and all that decides what it is read as; "" where it cannot be read."""
    options = ("list 2", split.format, split.path_column, split.label_column, labels.options())
    digest = hashlib.blake2b(repr(options).encode(), digest_size=16)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def _checked(
    rows: Iterable[tuple[int, list[str]]], path: str, split: Split, labels: LabelReader, problems: list[Problem]
) -> Iterator[tuple[str, int, int, int]]:
    """Yields (key, label, frames, line) of rows."""
    num_outside = 0  # items of the label that the last class has where the first has 1
    has_zero = has_one = False
    for line, row in rows:
        text = row[-1].strip()
        key, label, num_frames = row[0], labels.read(text), 0
        has_zero, has_one = has_zero or label == 0, has_one or label == 1
        if isinstance(label, str):
            num_outside += text == str(labels.num_classes)
            hint = "" if is_number(text) else wrong_label(row, line)
            problems.append(Problem(path, line, label + hint))
            label = 0  # the item is kept, so that its file is looked for as well
        if split.format == "frames_folder":
            key = key.rstrip("/") or key
            if is_number(row[1]) and len(row[1]) <= 10 and 0 < int(row[1]) <= MAX_INT32:
                num_frames = int(row[1])
            else:
                problems.append(Problem(path, line, f"num_frames {row[1]!r} is not a whole number of at least 1"))
        yield key, label, num_frames, line
    if num_outside and has_one and not has_zero:
        what = "the labels seem to begin with 1, and classes are numbered from 0: subtract 1 from each"
        problems.append(Problem(path, None, what))


def _duplicates(path: str, keys: PackedStrings, columns: MappedTable) -> list[Problem]:
    """Returns the items whose keys are those of earlier ones, but for parts that mean nothing."""
    # By hashes: a dictionary of ten million paths would need more memory than everything else here.
    hashes = np.fromiter((hash(plain_spelling(key)) for key in keys), dtype=np.int64, count=len(keys))
    pairs = equal_pairs(hashes)
    problems = [
        _same_item(path, keys, columns, later, first)
        for later, first in pairs[:MOST_PROBLEMS]
        if plain_spelling(keys[later]) == plain_spelling(keys[first])
    ]
    if len(pairs) > MOST_PROBLEMS:
        problems.append(Problem(path, None, f"{len(pairs) - MOST_PROBLEMS} more items are in the list twice"))
    return problems


def _same_item(path: str, keys: PackedStrings, columns: MappedTable, later: int, first: int) -> Problem:
    labels, lines = columns["labels"], columns["lines"]
    what = f"the same item as in line {lines[first]}: {keys[later]}"
    if keys[later] != keys[first]:
        what += f", which is {keys[first]} there"
    if labels[later] != labels[first]:
        what += f", with the label {labels[later]} here and {labels[first]} there"
    return Problem(path, int(lines[later]), what)


def _with_same_files(
    items: Items, path: str, columns: MappedTable, finder: FileFinder, problems: list[Problem]
) -> Items:
    """Returns the items with notes of those that are one file; notes those whose paths are spellings of one path."""
    paths = items.keys if items.paths is None else items.paths
    same = find_same_files(finder.identities, lambda index: os.path.join(items.folder, paths[index]))
    problems += [
        _same_item(path, items.keys, columns, later, first)
        for later, first in same.spellings
        if plain_spelling(paths[later]) != plain_spelling(paths[first])  # which was noted without the files
    ]

    def name_of(index: int) -> str:
        return f"line {columns['lines'][index]} ({items.keys[index]})"

    return replace(
        items,
        notes=(*items.notes, *link_notes(same.links, name_of)),
        label_conflicts=label_conflicts(same.links, items.labels, name_of),
    )
