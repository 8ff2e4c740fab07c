"""Lists from a folder that holds one folder a class, and the items that are held out of them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from omnisource.data.lists.class_maps import format_class_names
from omnisource.data.lists.folders import ClassFolders
from omnisource.data.lists.media_files import left_out_note
from omnisource.data.lists.same_files import find_same_files, label_conflicts, link_notes
from omnisource.data.lists.text import Problem, format_rows, some
from omnisource.data.notes import classes_without_items, conflict_note
from omnisource.errors import UserError, shortened
from omnisource.make_lists.writing import ListReport, check_outputs, class_names, write_all
from omnisource.randomness import derived_seed
from omnisource.types import Media, Progress


def make_folder_lists(
    folder: str,
    list_path: str,
    media: Media,
    classes_path: str | None = None,
    *,
    validation_path: str | None = None,
    validation_share: float = 0.0,
    seed: int = 0,
    group_pattern: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ListReport:
    r"""Writes the list (`path label`) of the files in a folder that holds one folder a class.

    Args:
        folder: The folder; the paths of the list start from it. Class folders are read at any depth.
        list_path: The list to write.
        media: "image" or "video": which suffixes count.
        classes_path: Class map. If it is there, the labels are numbered by it; otherwise it is written. None: the
            class folders in alphabetical order.
        validation_path: A second list, of items that are held out of the first.
        validation_share: Share of each class that is held out: more than 0 and less than 1. A class of two files or
            more has at least one in each list.
        seed: Which items are held out: the same seed holds out the same.
        group_pattern: Regular expression that is searched in the paths; items with the same match (of its first
            group, if it has one) stay in the same list. For example `seq\d+` keeps each sequence together.
        overwrite: Whether existing lists are replaced. An existing class map never is.
        progress: Called with the numbers of folders listed and of all.

    Raises:
        UserError: If a file exists already, a class folder is empty or not in the class map, a name cannot be written
            in a list, or the share cannot be held out. Nothing is written then.
    """
    if (validation_path is None) != (validation_share == 0) or not 0 <= validation_share < 1:
        raise UserError(
            f"validation share {validation_share} with validation list {validation_path}: to hold items out, give a "
            "share of more than 0 and less than 1 and a list; to hold out none, give neither."
        )
    outputs = [list_path] if validation_path is None else [list_path, validation_path]
    check_outputs(outputs, [classes_path], overwrite)
    problems: list[Problem] = []
    classes = ClassFolders(folder, media, problems)
    files_by_class = dict(classes.read(progress))
    keys_by_class = {name: [key for key, _ in files] for name, files in files_by_class.items()}
    if problems:
        lines = shortened([str(problem) for problem in problems])
        remedy = "\nRemove class folders that are not wanted, or fill them." if classes.names else ""
        raise UserError(f"{lines}{remedy}")
    names, classes_read = class_names(keys_by_class, classes_path, folder)
    held_out: set[str] = set()
    if validation_share > 0:
        held_out = _held_out(keys_by_class, validation_share, seed, group_pattern)
    index_of = {name: index for index, name in enumerate(names)}
    rows = [(key, index_of[name]) for name, keys in keys_by_class.items() for key in keys]
    lists = {list_path: [row for row in rows if row[0] not in held_out]}
    notes = []
    if validation_path is not None:
        lists[validation_path] = [row for row in rows if row[0] in held_out]
        held = Counter(names[label] for _, label in lists[validation_path])
        if lacking := classes_without_items(list(keys_by_class), [held[name] for name in keys_by_class]):
            notes.append(f"{validation_path}: {lacking}")
    if classes.left_out:
        notes.append(left_out_note(folder, classes.left_out, media))
    identities = np.array([identity for files in files_by_class.values() for _, identity in files], dtype=np.int64)
    links = find_same_files(identities, lambda index: os.path.join(folder, rows[index][0])).links
    notes += link_notes(links, lambda index: rows[index][0])
    if conflicts := label_conflicts(links, [label for _, label in rows], lambda index: rows[index][0]):
        notes.append(conflict_note(conflicts))
    texts = {path: format_rows(part) for path, part in lists.items()}
    if classes_path and not classes_read:
        texts[classes_path] = format_class_names(names)
    write_all(texts)
    counts = {path: len(part) for path, part in lists.items()}
    return ListReport(counts, len(names), classes_path or "", classes_read, notes=tuple(notes))


def _held_out(keys_by_class: Mapping[str, Sequence[str]], share: float, seed: int, pattern: str | None) -> set[str]:
    """Returns the keys that are held out: of each class the groups that come first in an order made from the seed."""
    groups = _groups([key for keys in keys_by_class.values() for key in keys], pattern)
    members: dict[str, list[tuple[str, str]]] = {}
    for name, keys in keys_by_class.items():
        for key in keys:
            members.setdefault(groups[key], []).append((name, key))
    order = sorted(members, key=lambda group: (derived_seed(seed, "held out", group), group))
    by_class: dict[str, list[str]] = {name: [] for name in keys_by_class}
    for group in order:
        for name in dict.fromkeys(name for name, _ in members[group]):
            by_class[name].append(group)

    chosen: set[str] = set()
    held: Counter[str] = Counter()
    for name, keys in keys_by_class.items():
        wanted = max(1, int(share * len(keys) + 0.5))
        for group in by_class[name]:
            if held[name] >= wanted:
                break
            counts = Counter(name for name, _ in members[group])
            # A group may span classes; none may lose its last item for training.
            if group in chosen or any(held[other] + n >= len(keys_by_class[other]) for other, n in counts.items()):
                continue
            chosen.add(group)
            held.update(counts)
    if not chosen:
        raise UserError("nothing can be held out: each class has only one item or one group of items")
    return {key for group in chosen for _, key in members[group]}


def _groups(keys: Sequence[str], pattern: str | None) -> dict[str, str]:
    """Returns the group of each key: what the pattern matches, or the key itself where there is none."""
    if pattern is None:
        return {key: key for key in keys}
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"group pattern {pattern!r} is not a regular expression: {error}") from error
    matches = {key: compiled.search(key) for key in keys}
    without = [key for key, match in matches.items() if match is None]
    if without:
        raise UserError(f"group pattern {pattern!r} matches nothing in {some(without)}")
    group = 1 if compiled.groups else 0
    return {key: match[group] or "" for key, match in matches.items() if match is not None}
