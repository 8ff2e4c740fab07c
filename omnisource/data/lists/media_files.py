"""Media files on disk: which files a folder holds, one listing a folder, and whether those of a list are there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from omnisource.data.lists.items import PackedStrings
from omnisource.data.lists.text import MOST_PROBLEMS, Problem, is_number
from omnisource.errors import UserError
from omnisource.files.mapped_table import TableWriter

if TYPE_CHECKING:
    from omnisource.types import Media

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv"),
    *(".ts", ".vob", ".webm", ".wmv"),
)


def suffixes_of(media: Media) -> tuple[str, ...]:
    """Returns the suffixes by which files of this kind are known, in small letters."""
    return IMAGE_SUFFIXES if media == "image" else VIDEO_SUFFIXES


@dataclass(frozen=True)
class Listing:
    """The names in one folder; symbolic links count as what they lead to.

    Attributes:
        files: Names of files.
        folders: Names of folders.
    """

    files: set[str]
    folders: set[str]


def list_folder(folder: str, problems: list[Problem]) -> Listing:
    """Returns the names in a folder, none where it does not exist; notes where it cannot be listed."""
    listing = Listing(set(), set())
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    listing.folders.add(entry.name)
                elif entry.is_file():
                    listing.files.add(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever misses something in it says so
    except OSError as error:
        problems.append(Problem(folder, None, f"cannot be listed: {error.strerror}"))
    except ValueError as error:
        problems.append(Problem(folder, None, f"cannot be listed: {error}"))  # a zero byte in the path
    return listing


def files_below(folder: str, problems: list[Problem]) -> list[str]:
    """Returns the paths of all files at any depth, relative to the folder and sorted, but for hidden ones."""
    return sorted(_files_below(folder, problems))


def _files_below(folder: str, problems: list[Problem]) -> Iterator[str]:
    waiting, seen = [""], set()
    while waiting:
        parent = waiting.pop()
        real = os.path.realpath(os.path.join(folder, parent))
        if real in seen:  # links may lead back
            continue
        seen.add(real)
        listing = list_folder(os.path.join(folder, parent), problems)
        yield from (os.path.join(parent, name) for name in listing.files if not name.startswith("."))
        folders = sorted(listing.folders, reverse=True)  # sorted: of two links to one folder the first always counts
        waiting += [os.path.join(parent, name) for name in folders if not name.startswith(".")]


def videos_by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    """Returns the paths of videos by their names without suffix; other files are left out."""
    stems: dict[str, list[str]] = {}
    for path in paths:
        stem, suffix = os.path.splitext(os.path.basename(path))
        if suffix.lower() in VIDEO_SUFFIXES:
            stems.setdefault(stem, []).append(path)
    return stems


def class_names_of_folders(folder: str) -> tuple[str, ...]:
    """Returns the names of the folders in `folder`, one a class, in alphabetical order (of code points).

    Raises:
        UserError: If the folder is missing, cannot be listed or holds no folder.
    """
    folder = os.path.expanduser(folder) or "."
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: missing folder; it should hold one folder a class")
    problems: list[Problem] = []
    names = sorted(name for name in list_folder(folder, problems).folders if not name.startswith("."))
    if problems:
        raise UserError(str(problems[0]))
    if not names:
        raise UserError(f"{folder}: no folders in it; it should hold one folder a class")
    return tuple(names)


@dataclass(frozen=True)
class ClassFolders:
    """What folders with one folder a class hold.

    Attributes:
        keys: Paths below the folder, sorted, by class; the classes in alphabetical order.
        num_ignored: Files that are no media of the wanted kind; hidden ones are not counted.
        problems: Class folders that hold nothing or cannot be listed.
    """

    keys: dict[str, list[str]]
    num_ignored: int
    problems: list[Problem]


def read_class_folders(folder: str, media: Media, progress: Callable[[int, int], None] | None = None) -> ClassFolders:
    """Returns the media files in each class folder, at any depth.

    Args:
        folder: Holds one folder a class.
        media: "image" or "video": which suffixes count.
        progress: Called after each folder with the number of folders done and of all.

    Raises:
        UserError: If the folder is missing, cannot be listed or holds no folder.
    """
    names = class_names_of_folders(folder)
    problems: list[Problem] = []
    keys: dict[str, list[str]] = {}
    num_ignored = count_files(folder, problems)
    for done, name in enumerate(names, start=1):
        keys[name], num_others = files_of_class(folder, name, media, problems)
        num_ignored += num_others
        if progress is not None:
            progress(done, len(names))
    return ClassFolders(keys, num_ignored, problems)


def files_of_class(folder: str, name: str, media: Media, problems: list[Problem]) -> tuple[list[str], int]:
    """Returns the media files of one class folder, at any depth, and how many other files it holds.

    Args:
        folder: Holds the class folder.
        name: The class folder.
        media: "image" or "video": which suffixes count.
        problems: Takes what is wrong.

    Returns:
        Paths below `folder`, sorted, and a number; hidden files are in neither.
    """
    paths = files_below(os.path.join(folder, name), problems)
    keys = [os.path.join(name, path) for path in paths if path.lower().endswith(suffixes_of(media))]
    if not keys:
        what = f"no {media}s in this class folder (known by {', '.join(suffixes_of(media))})"
        problems.append(Problem(os.path.join(folder, name), None, what))
    return keys, len(paths) - len(keys)


def count_files(folder: str, problems: list[Problem]) -> int:
    """Returns how many files lie in a folder itself, but for hidden ones."""
    return sum(not name.startswith(".") for name in list_folder(folder, problems).files)


class FileFinder:
    """Looks for the files of a list, with one listing for each folder that holds some.

    Args:
        folder: Folder that the paths start from.

    Attributes:
        missing: Index of each path that was not found, and what is wrong.
        problems: Folders that cannot be listed.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.missing: list[tuple[int, str]] = []
        self.problems: list[Problem] = []
        self._tree: _VideoTree | None = None

    def find_files(self, keys: PackedStrings) -> None:
        """Looks for files."""
        for listing, indices in self._listings(keys):
            for index in indices:
                key = keys[index]
                name = key.rpartition("/")[2]
                if name not in listing.files:
                    self.missing.append((index, self._missing_file(key, name in listing.folders)))

    def _missing_file(self, key: str, is_folder: bool) -> str:
        path = os.path.join(self.folder, key)
        if is_folder:
            return f'is a folder, not a file: {path} (lists of the form "frames_folder" name folders of frames)'
        columns = key.replace(",", " ").split()
        if len(columns) == 2 and is_number(columns[1]):
            return f"3 columns instead of 2 (`path label`), or a missing file: {path}"
        return f"missing file: {path}"

    def find_folders(self, keys: PackedStrings) -> None:
        """Looks for folders."""
        for listing, indices in self._listings(keys):
            for index in indices:
                name = keys[index].rpartition("/")[2]
                if name not in listing.folders:
                    path = os.path.join(self.folder, keys[index])
                    what = "is a file, not a folder of frames" if name in listing.files else "missing folder"
                    self.missing.append((index, f"{what}: {path}"))

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
                path = self._the_video(index, keys[index], [parent + slash + file for file in names])
                if path.startswith(keys[index]):
                    found[index] = suffixes.setdefault(path[len(keys[index]) :], len(suffixes))
                else:
                    elsewhere[index] = path
        writer = TableWriter(["paths"], {})
        endings = list(suffixes)
        for index, key in enumerate(keys):
            writer.add(elsewhere.get(index) or key + endings[found[index]])
        return PackedStrings.of(writer.finish(writer.digest()), "paths")

    def _the_video(self, index: int, key: str, found: list[str]) -> str:
        if not found and "/" not in key:
            if self._tree is None:
                self._tree = _VideoTree(self.folder, self.problems)
            found = self._tree.paths_of(key)
        if len(found) > 1:
            self.missing.append((index, f"{len(found)} videos have the id {key!r}: {', '.join(found)}"))
        elif not found:
            self.missing.append((index, f"missing video: {os.path.join(self.folder, key)} with any suffix of videos"))
        return found[0] if found else key

    def _listings(self, keys: PackedStrings) -> Iterator[tuple[Listing, list[int]]]:
        """Yields (listing of a folder, indices of the paths in it), one folder at a time, until too much is missing."""
        for parent, indices in _by_parent(keys):
            if len(self.missing) > MOST_PROBLEMS:
                what = f"not looked through further: over {MOST_PROBLEMS} items are missing"
                self.problems.append(Problem(self.folder, None, what))
                return
            yield list_folder(os.path.join(self.folder, parent), self.problems), indices


class _VideoTree:
    """The videos at any depth below a folder, by their names without suffix; as hashes, in little memory."""

    def __init__(self, folder: str, problems: list[Problem]) -> None:
        writer = TableWriter(["paths"], {"hashes": np.int64})
        for path in _files_below(folder, problems):
            stem, suffix = os.path.splitext(os.path.basename(path))
            if suffix.lower() in VIDEO_SUFFIXES:
                writer.add(path, hash(stem))
        columns = writer.finish()
        self._paths = PackedStrings.of(columns, "paths")
        self._order = np.argsort(columns["hashes"])
        self._hashes = columns["hashes"][self._order]

    def paths_of(self, stem: str) -> list[str]:
        """Returns the paths of the videos of that name, sorted."""
        first, end = (int(np.searchsorted(self._hashes, hash(stem), side)) for side in ("left", "right"))
        paths = [self._paths[int(place)] for place in self._order[first:end]]
        return sorted(path for path in paths if os.path.splitext(os.path.basename(path))[0] == stem)


def _by_parent(keys: PackedStrings) -> Iterator[tuple[str, list[int]]]:
    """Yields (folder, indices of the paths in it)."""
    numbers: dict[str, int] = {}
    parents = np.empty(len(keys), dtype=np.int32)
    for index, key in enumerate(keys):
        parent, slash, _ = key.rpartition("/")
        parents[index] = numbers.setdefault(parent or slash, len(numbers))  # the parent of "/name" is "/"
    order = np.argsort(parents, kind="stable")
    ends = np.cumsum(np.bincount(parents, minlength=len(numbers)))
    for parent, start, end in zip(numbers, [0, *ends], ends, strict=False):
        yield parent, order[start:end].tolist()
