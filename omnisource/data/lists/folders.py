"""The one walk of folders: which files lie in them, what cannot be followed, and which classes they make."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omnisource.data.lists.media_files import is_foreign, media_by_suffix, suffix_counts
from omnisource.data.lists.text import Problem
from omnisource.errors import UserError, shortened

if TYPE_CHECKING:
    from omnisource.types import Media, Progress

_UNKNOWN_INODES = (0, 0xFFFFFFFF)  # what file systems in user space tell of every file


@dataclass(frozen=True)
class Listing:
    """The names in one folder; symbolic links count as what they lead to.

    Attributes:
        files: Which file each name of a file stands for, as a hash of device and inode: the same for two names of one
            file, and perhaps by chance for others. 0 where it is not known.
        folders: The same of names of folders.
        broken: What is wrong with names that lead to neither.
    """

    files: dict[str, int] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


def list_folder(folder: str, problems: list[Problem]) -> Listing:
    """Returns the names in a folder, none where it does not exist; notes where it cannot be listed."""
    listing = Listing()
    try:
        device = os.stat(folder).st_dev
        with os.scandir(folder) as entries:
            for entry in entries:
                _add(entry, device, listing)
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever misses something in it says so
    except OSError as error:
        problems.append(Problem(folder, None, f"cannot be listed: {error.strerror}"))
    except ValueError as error:
        problems.append(Problem(folder, None, f"cannot be listed: {error}"))  # a zero byte in the path
    return listing


def _add(entry: os.DirEntry[str], device: int, listing: Listing) -> None:
    try:
        if entry.is_dir() or entry.is_file():
            # Of a link the system was just asked; of others the folder itself tells the inode.
            found = entry.stat() if entry.is_symlink() else None
            device, inode = (found.st_dev, found.st_ino) if found else (device, entry.inode())
            names = listing.folders if entry.is_dir() else listing.files
            names[entry.name] = 0 if inode in _UNKNOWN_INODES else hash((device, inode))
        elif entry.is_symlink():
            listing.broken[entry.name] = f"is a link that leads nowhere, to {os.readlink(entry.path)}"
        else:
            listing.broken[entry.name] = "is neither a file nor a folder"
    except OSError as error:  # links in a circle, or into a folder that may not be looked into
        listing.broken[entry.name] = f"is a link that cannot be followed: {error.strerror}"


def broken_problems(
    folder: str, listing: Listing, remedy: str = "restore what it leads to, or remove it"
) -> list[Problem]:
    """Returns what is wrong with the names in a folder that lead nowhere, but for foreign ones."""
    return [
        Problem(os.path.join(folder, name), None, f"{what}; {remedy}")
        for name, what in sorted(listing.broken.items())
        if not is_foreign(name)
    ]


def files_below(folder: str, problems: list[Problem]) -> list[str]:
    """Returns the paths of all files at any depth, relative to the folder and sorted, but for foreign ones.

    Linked folders are followed, each folder once. What cannot be listed or followed is noted.
    """
    return [path for path, _ in sorted(iterate_files_below(folder, problems, notes_broken=True))]


def iterate_files_below(
    folder: str, problems: list[Problem], progress: Progress | None = None, *, notes_broken: bool = False
) -> Iterator[tuple[str, int]]:
    """Yields (path, which file it is as in `Listing`) of what `files_below` returns, not sorted.

    Args:
        folder: The folder.
        problems: Takes the folders that cannot be listed.
        progress: Called for each folder in `folder` itself, with the number begun and that of all.
        notes_broken: Whether names that lead nowhere are problems, too.
    """
    waiting, seen, start = [""], set(), os.path.realpath(folder)
    num_begun = num_folders = 0
    while waiting:
        parent = waiting.pop()
        if progress is not None and parent and "/" not in parent:
            num_begun += 1
            progress(num_begun, num_folders)
        place = os.path.join(folder, parent) if parent else folder
        real = os.path.realpath(place)
        if real in seen or start.startswith(os.path.join(real, "")):  # links may lead back, also out of the folder
            continue
        seen.add(real)
        listing = list_folder(place, problems)
        if notes_broken:
            problems += broken_problems(place, listing)
        for name, identity in listing.files.items():
            if not is_foreign(name):
                yield os.path.join(parent, name), identity
        folders = sorted(listing.folders, reverse=True)  # sorted: of two links to one folder the first always counts
        waiting += [os.path.join(parent, name) for name in folders if not is_foreign(name)]
        num_folders = num_folders or len(waiting)


def class_names_of_folders(folder: str) -> tuple[str, ...]:
    """Returns the names of the folders in `folder`, one a class, in alphabetical order (of code points).

    Raises:
        UserError: If the folder is missing, cannot be listed or holds no folder, or something in it leads nowhere: that
            may be a class, and those behind it would get other numbers.
    """
    problems: list[Problem] = []
    names = _class_names(os.path.expanduser(folder) or ".", problems)
    if problems:
        raise UserError(shortened([str(problem) for problem in problems]))
    return names


def _class_names(folder: str, problems: list[Problem]) -> tuple[str, ...]:
    if not os.path.isdir(folder):
        problems.append(Problem(folder, None, "missing folder; it should hold one folder a class"))
        return ()
    num_problems = len(problems)
    listing = list_folder(folder, problems)
    remedy = "without this class, those behind it would get other numbers: restore what it leads to, or remove it"
    problems += broken_problems(folder, listing, remedy)
    names = tuple(sorted(name for name in listing.folders if not is_foreign(name)))
    if not names and len(problems) == num_problems:
        problems.append(Problem(folder, None, "no folders in it; it should hold one folder a class"))
    return names


class ClassFolders:
    """Folders with one folder a class.

    Args:
        folder: Holds the class folders.
        media: "image" or "video": which suffixes count.
        problems: Takes what is wrong with `folder`, as `class_names_of_folders` raises it; class folders that hold
            nothing, cannot be listed or are the same; and links that lead nowhere.

    Attributes:
        names: The classes, in alphabetical order.
        left_out: Files that are no such media, by their suffixes, "" for none; foreign ones are not counted. Complete
            when all classes were read.
    """

    def __init__(self, folder: str, media: Media, problems: list[Problem]) -> None:
        self.names = _class_names(folder, problems)
        self._folder, self._media, self._problems = folder, media, problems
        in_itself = list_folder(folder, []).files
        self.left_out = Counter(_suffix(name) for name in in_itself if not is_foreign(name))

    def read(self, progress: Progress | None = None) -> Iterator[tuple[str, list[tuple[str, int]]]]:
        """Yields (class, its media files at any depth, sorted), each file as (path, which it is as in `Listing`).

        Args:
            progress: Called after each class, with the number of classes read and of all.
        """
        first_names: dict[str, str] = {}
        for done, name in enumerate(self.names, start=1):
            place = os.path.join(self._folder, name)
            first = first_names.setdefault(os.path.realpath(place), name)
            if first != name:
                what = f"is the same folder as that of the class {first}; remove one of them"
                self._problems.append(Problem(place, None, what))
            yield name, self._files(name, place)
            if progress is not None:
                progress(done, len(self.names))

    def _files(self, name: str, place: str) -> list[tuple[str, int]]:
        files: list[tuple[str, int]] = []
        others: Counter[str] = Counter()
        num_problems = len(self._problems)
        for path, identity in sorted(iterate_files_below(place, self._problems, notes_broken=True)):
            if media_by_suffix(path) == self._media:
                files.append((os.path.join(name, path), identity))
            else:
                others[_suffix(path)] += 1
        if not files and len(self._problems) == num_problems:
            there = f" (other files: {suffix_counts(others)})" if others else ""
            self._problems.append(Problem(place, None, f"no {self._media}s in this class folder{there}"))
        self.left_out.update(others)
        return files


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
