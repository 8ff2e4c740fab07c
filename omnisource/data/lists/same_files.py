"""Items that are one file under several names: other spellings of a path, links, roots that lead to one place.

Which file a name stands for comes with the listing of its folder (`Listing`), so that nothing more is asked of the
system for the items of a list. What seems to be the same by that is compared by `stat`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from omnisource.data.lists.text import MOST_PROBLEMS

_MOST_COMPARED = 20_000  # pairs that are compared by `stat`; of more, the others are believed to be the same


@dataclass(frozen=True)
class SameFiles:
    """Pairs of items that are one file under two names.

    Attributes:
        spellings: (later item, first item) whose paths are spellings of one path.
        links: The same where they are different paths: links, or through linked folders.
    """

    spellings: tuple[tuple[int, int], ...] = ()
    links: tuple[tuple[int, int], ...] = ()


def equal_pairs(values: np.ndarray) -> list[tuple[int, int]]:
    """Returns (later position, first position) of values that are there more than once, in their order.

    Args:
        values: [N] int64.
    """
    if not has_repeated(values):
        return []
    order = np.argsort(values, kind="stable")  # of equal ones the earliest is first
    is_repeated = np.append(False, values[order[1:]] == values[order[:-1]])
    first_positions = np.maximum.accumulate(np.where(is_repeated, 0, np.arange(len(order))))
    return sorted(zip(order[is_repeated].tolist(), order[first_positions[is_repeated]].tolist(), strict=True))


def has_repeated(values: np.ndarray, *, may_reorder: bool = False) -> bool:
    """Returns whether a value but 0 is there more than once.

    Args:
        values: [N] int64.
        may_reorder: Whether they may be put into another order, which saves a copy.
    """
    ordered = values if may_reorder else values.copy()
    ordered.sort()
    return bool(np.any((ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)))


def find_same_files(identities: np.ndarray, path_of: Callable[[int], str]) -> SameFiles:
    """Returns which items are one file under two names.

    Args:
        identities: [N] int64, which file each item is, as in `Listing`; 0 where that is not known.
        path_of: Returns the path of an item, as it was put together of folder and key.
    """
    if not has_repeated(identities):
        return SameFiles()
    known = np.flatnonzero(identities)
    pairs = [(int(known[later]), int(known[first])) for later, first in equal_pairs(identities[known])]
    spellings, links = [], []
    for number, (later, first) in enumerate(pairs):
        paths = path_of(later), path_of(first)
        if number < _MOST_COMPARED and not _is_same(*paths):
            continue
        (spellings if _folded(paths[0]) == _folded(paths[1]) else links).append((later, first))
    return SameFiles(tuple(spellings[:MOST_PROBLEMS]), tuple(links[:MOST_PROBLEMS]))


def plain_spelling(path: str) -> str:
    """Returns a path without the parts that mean nothing: `./`, and slashes that follow one another."""
    if "./" not in path and "//" not in path:
        return path
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def _folded(path: str) -> str:
    """Returns the same for all spellings of a path that some file system takes for one."""
    return unicodedata.normalize("NFC", os.path.normpath(path)).casefold()


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def link_notes(links: Sequence[tuple[int, int]], name_of: Callable[[int], str]) -> tuple[str, ...]:
    """Returns what is worth knowing of items that are the file of another item.

    Args:
        links: As in `SameFiles`.
        name_of: Returns how an item is called, with its line where it has one.
    """
    if not links:
        return ()
    later, first = links[0]
    return (
        f"items that are the file of another item under another name: {len(links)}, such as {name_of(later)}, "
        f"which is {name_of(first)}",
    )


def label_conflicts(
    links: Sequence[tuple[int, int]], labels: Sequence[int] | np.ndarray, name_of: Callable[[int], str]
) -> tuple[str, ...]:
    """Returns which items give one file two labels, a sentence each.

    Args:
        links: As in `SameFiles`.
        labels: [N] class indices.
        name_of: As for `link_notes`.
    """
    return tuple(
        f"{name_of(later)} has the label {labels[later]}, and {name_of(first)}, which is the same file, {labels[first]}"
        for later, first in links
        if labels[later] != labels[first]
    )
