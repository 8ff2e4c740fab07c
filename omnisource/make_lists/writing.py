"""What both makers of lists share: class names and their order, files that replace no others, the report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnisource.data.lists.class_maps import read_class_names
from omnisource.data.lists.text import some
from omnisource.errors import UserError
from omnisource.files.atomic import atomic_write


@dataclass(frozen=True)
class ListReport:
    """What was made; `str` gives it as lines for the user.

    Attributes:
        lists: Each list that was written, with its number of items.
        num_classes: Classes that the labels are numbered by.
        classes_path: The class map that was read or written; "" where there was none.
        classes_read: Whether the class map was there before and gave the numbers.
        missing: File names of clips that are not in the folder, in the order of the CSV file.
        missing_path: The file with these names; "" where nothing is missing.
        notes: What else the user should know, one sentence each.
    """

    lists: Mapping[str, int]
    num_classes: int
    classes_path: str = ""
    classes_read: bool = False
    missing: tuple[str, ...] = ()
    missing_path: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{path}: {count} items of {self.num_classes} classes" for path, count in self.lists.items()]
        if self.classes_path:
            how = "read: the labels follow it" if self.classes_read else "written, in alphabetical order"
            lines.append(f"{self.classes_path}: {self.num_classes} classes ({how})")
        if self.missing:
            total = len(self.missing) + sum(self.lists.values())
            lines.append(f"{self.missing_path}: {len(self.missing)} of {total} clips are missing, by name")
        return "\n".join([*lines, *self.notes])


def class_names(found: Iterable[str], classes_path: str | None, origin: str) -> tuple[tuple[str, ...], bool]:
    """Returns the class names in the order of their indices, and whether they come from a class map that is there.

    Args:
        found: Names of the classes that have items.
        classes_path: The class map; None: the names in alphabetical order.
        origin: Where the names were found, for the error.

    Raises:
        UserError: If the class map cannot be read, or lacks a class.
    """
    if not classes_path or not os.path.exists(classes_path):
        return tuple(sorted(found)), False
    names = read_class_names(classes_path)
    unknown = sorted(set(found).difference(names))
    if unknown:
        raise UserError(
            f"{classes_path}: the class map lacks classes of {origin}: {some(unknown)}. Training, "
            "validation and test lists need one class map; to have a new one written, name a file that is not there."
        )
    return names, True


def check_outputs(outputs: Sequence[str], inputs: Sequence[str | None], overwrite: bool) -> None:
    """Refuses outputs that exist, and outputs that are each other or an input, whatever `overwrite` says.

    Raises:
        UserError: Naming the file.
    """
    paths = [os.path.realpath(path) for path in (*outputs, *(path for path in inputs if path))]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]}: the same file is named twice; every list and the class map need their own")
    folders = [path for path in outputs if os.path.isdir(path)]
    if folders:
        raise UserError(f"{folders[0]}: is a folder; name the file to write")
    existing = [path for path in outputs if os.path.lexists(path)]
    if existing and not overwrite:
        raise UserError(f"{', '.join(existing)}: exists already. Name another file, or replace it with --overwrite.")


def write_all(contents: Mapping[str, bytes]) -> None:
    """Writes files, each completely or not at all.

    Raises:
        UserError: If one cannot be written; those before it are there.
    """
    for path, content in contents.items():
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with atomic_write(Path(path)) as file:
                file.write(content)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
