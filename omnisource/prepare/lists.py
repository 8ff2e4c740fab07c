"""Lists of prepared files: the lines of the originals, with other paths, without what could not be prepared."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from omnisource.data.lists.media_files import media_by_suffix
from omnisource.prepare.jobs import SplitJob


def kept_items(split: SplitJob, finished: Collection[str]) -> list[int]:
    """Returns the indices of the items all of whose files were prepared.

    Args:
        split: A split.
        finished: Prepared files, below the output folder.
    """
    return [
        index
        for index, outputs in enumerate(split.outputs)
        if all(os.path.join(split.folder, output) in finished for output in outputs)
    ]


def prepared_key(split: SplitJob, index: int) -> str:
    """Returns what a list of the same form calls an item when its file is prepared.

    Ids without suffix and folders of raw frames keep their names; paths become the path of the prepared file.
    """
    key = split.items.keys[index]
    if split.split.format == "frames_folder":
        return key
    if split.split.format == "video_frames_label" and media_by_suffix(key) != "video":
        return key
    return split.outputs[index][0]


def prepared_list(split: SplitJob, kept: Sequence[int]) -> bytes:
    """Returns the text of a split's list for the prepared files.

    Everything but the paths stays as it is, also unused columns. An unchanged list is returned byte for byte.

    Args:
        split: A split that has a list.
        kept: Indices of the items that stay in it, ascending.
    """
    original = Path(split.original).read_bytes()
    keys = {index: prepared_key(split, index) for index in kept}
    if len(kept) == len(split.items) and all(split.items.keys[index] == key for index, key in keys.items()):
        return original
    text = original.removeprefix(codecs.BOM_UTF8).decode()
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as `raw_lines` reads it
    if split.split.format == "csv":
        return _csv_text(text, split.split.path_column, keys).encode()
    lines = (_with_key(line, split.items.keys[index], keys[index]) for index, line in _lines(text) if index in keys)
    return "".join(lines).encode()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yields (index of the item, line with its end): a list that was read without a problem has an item on each."""
    return enumerate(io.StringIO(text, newline="\n"))


def _with_key(line: str, key: str, new_key: str) -> str:
    start = line.index(key)  # it is the first column
    return line[:start] + new_key + line[start + len(key) :]


def _csv_text(text: str, path_column: str, keys: dict[int, str]) -> str:
    header = text.split("\n", 1)[0]
    delimiter = next(
        mark for mark in ",\t;" if path_column in (name.strip() for name in next(csv.reader([header], delimiter=mark)))
    )
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    column = [name.strip() for name in rows[0]].index(path_column)
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, lineterminator="\n")
    writer.writerow(rows[0])
    for index, key in keys.items():
        row = rows[index + 1]
        writer.writerow([*row[:column], key, *row[column + 1 :]])
    return written.getvalue()
