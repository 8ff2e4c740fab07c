"""Looking for the files of a list, with one listing for each folder that holds some."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from omnisource.data.lists.folders import Listing, iterate_files_below, list_folder
from omnisource.data.lists.hints import missing_file, missing_folder, missing_video
from omnisource.data.lists.items import PackedStrings
from omnisource.data.lists.media_files import media_by_suffix, videos_by_stem
from omnisource.data.lists.text import MOST_PROBLEMS, Problem
from omnisource.files.mapped_table import TableWriter
from omnisource.types import Progress

_MOST_EXPLAINED = 20  # missing files for which others are looked for that may have been meant, which takes its time


class FileFinder:
    """Looks for the files of a list, with one listing for each folder that holds some.

    Args:
        folder: Folder that the paths start from.
        progress: Called after each folder.

    Attributes:
        missing: Index of each path that was not found, and what is wrong.
        identities: [N] int64, which file or folder each path stands for, as in `Listing`; 0 where it was not found.
        problems: Folders that cannot be listed.
    """

    def __init__(self, folder: str, progress: Progress | None = None) -> None:
        self.folder = folder
        self._progress = progress
        self.missing: list[tuple[int, str]] = []
        self.problems: list[Problem] = []
        self.identities = np.zeros(0, dtype=np.int64)
        self._tree: _VideoTree | None = None

    def find_files(self, keys: PackedStrings) -> None:
        """Looks for files."""
        for listing, indices in self._listings(keys):
            for index in indices:
                key = keys[index]
                name = key.rpartition("/")[2]
                if name in listing.files:
                    self.identities[index] = listing.files[name]
                else:
                    plain = f"missing file: {os.path.join(self.folder, key)}"
                    self._note_missing(index, plain, partial(missing_file, self.folder, key, listing))

    def find_folders(self, keys: PackedStrings) -> None:
        """Looks for folders."""
        for listing, indices in self._listings(keys):
            for index in indices:
                key = keys[index]
                name = key.rpartition("/")[2]
                if name in listing.folders:
                    self.identities[index] = listing.folders[name]
                else:
                    plain = f"missing folder: {os.path.join(self.folder, key)}"
                    self._note_missing(index, plain, partial(missing_folder, self.folder, key, listing))

    def _note_missing(self, index: int, what: str, explain: Callable[[], str]) -> None:
        self.missing.append((index, explain() if len(self.missing) < _MOST_EXPLAINED else what))

    def find_videos(self, keys: PackedStrings) -> PackedStrings:
        """Looks for videos by their names without suffix: at their place, or else anywhere below the folder.

        Returns:
            The paths below the folder; the keys of those that were not found.
        """
        suffixes = {"": 0}  # what a path has after its key, by the number that stands for it in `found`
        found = np.zeros(len(keys), dtype=np.int32)
        elsewhere: dict[int, str] = {}
        for listing, indices in self._listings(keys):
            stems = videos_by_stem(sorted(listing.files))
            for index in indices:
                parent, slash, name = keys[index].rpartition("/")
                names = [name] if name in listing.files else stems.get(name, [])
                path = self._the_video(index, keys[index], [parent + slash + file for file in names], stems)
                self.identities[index] = listing.files.get(path[len(parent + slash) :], 0)
                if path.startswith(keys[index]):
                    found[index] = suffixes.setdefault(path[len(keys[index]) :], len(suffixes))
                else:
                    elsewhere[index] = path
        writer = TableWriter(["paths"], {})
        endings = list(suffixes)
        for index, key in enumerate(keys):
            writer.add(elsewhere.get(index) or key + endings[found[index]])
        return PackedStrings.of(writer.finish(writer.digest()), "paths")

    def _the_video(self, index: int, key: str, found: list[str], stems: dict[str, list[str]]) -> str:
        if not found and "/" not in key:
            if self._tree is None:
                self._tree = _VideoTree(self.folder, self.problems, self._progress)
            found = self._tree.paths_of(key)
        if len(found) > 1:
            self.missing.append((index, f"{len(found)} videos have the id {key!r}: {', '.join(found)}"))
        elif not found:
            self.missing.append((index, missing_video(self.folder, key, stems)))
        return found[0] if found else key

    def _listings(self, keys: PackedStrings) -> Iterator[tuple[Listing, list[int]]]:
        """Yields (listing of a folder, indices of the paths in it), one folder at a time, until too much is missing."""
        self.identities = np.zeros(len(keys), dtype=np.int64)
        num_folders, folders = _by_parent(keys)
        for done, (parent, indices) in enumerate(folders, start=1):
            if len(self.missing) > MOST_PROBLEMS:
                what = f"not looked through further: over {MOST_PROBLEMS} items are missing"
                self.problems.append(Problem(self.folder, None, what))
                return
            yield list_folder(os.path.join(self.folder, parent), self.problems), indices
            if self._progress is not None:
                self._progress(done, num_folders)


class _VideoTree:
    """The videos at any depth below a folder, by their names without suffix; as hashes, in little memory."""

    def __init__(self, folder: str, problems: list[Problem], progress: Progress | None) -> None:
        writer = TableWriter(["paths"], {"hashes": np.int64})
        for path, _ in iterate_files_below(folder, problems, progress):
            if media_by_suffix(path) == "video":
                writer.add(path, hash(os.path.splitext(os.path.basename(path))[0]))
        columns = writer.finish()
        self._paths = PackedStrings.of(columns, "paths")
        self._order = np.argsort(columns["hashes"])
        self._hashes = columns["hashes"][self._order]

    def paths_of(self, stem: str) -> list[str]:
        """Returns the paths of the videos of that name, sorted."""
        first, end = (int(np.searchsorted(self._hashes, hash(stem), side)) for side in ("left", "right"))
        paths = [self._paths[int(position)] for position in self._order[first:end]]
        return sorted(path for path in paths if os.path.splitext(os.path.basename(path))[0] == stem)


def _by_parent(keys: PackedStrings) -> tuple[int, Iterator[tuple[str, list[int]]]]:
    """Returns how many folders the paths lie in, and an iterator over (folder, indices of the paths in it)."""
    numbers: dict[str, int] = {}
    parents = np.empty(len(keys), dtype=np.int32)
    for index, key in enumerate(keys):
        parent, slash, _ = key.rpartition("/")
        parents[index] = numbers.setdefault(parent or slash, len(numbers))  # the parent of "/name" is "/"
    order = np.argsort(parents, kind="stable")
    ends = np.cumsum(np.bincount(parents, minlength=len(numbers)))
    bounds = zip(numbers, [0, *ends], ends, strict=False)
    return len(numbers), ((parent, order[start:end].tolist()) for parent, start, end in bounds)
