"""Media files on disk: by which suffixes they are known, and which of them a folder holds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnisource.data.lists.text import Problem
from omnisource.errors import UserError

if TYPE_CHECKING:
    from omnisource.types import Media, Progress

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv"),
    *(".ts", ".vob", ".webm", ".wmv"),
)


def suffixes_of(media: Media) -> tuple[str, ...]:
    """Returns the suffixes by which files of this kind are known, in small letters."""
    return IMAGE_SUFFIXES if media == "image" else VIDEO_SUFFIXES


def media_by_suffix(path: str) -> Media | None:
    """Returns what kind of file the suffix of a path names, or None where it is of no kind of media."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None


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
    return sorted(iterate_files_below(folder, problems))


def iterate_files_below(folder: str, problems: list[Problem], progress: Progress | None = None) -> Iterator[str]:
    """Yields what `files_below` returns, not sorted; the folders in `folder` itself are those that progress counts."""
    waiting, seen = [""], set()
    num_begun = num_folders = 0
    while waiting:
        parent = waiting.pop()
        if progress is not None and parent and "/" not in parent:
            num_begun += 1
            progress(num_begun, num_folders)
        real = os.path.realpath(os.path.join(folder, parent))
        if real in seen:  # links may lead back
            continue
        seen.add(real)
        listing = list_folder(os.path.join(folder, parent), problems)
        yield from (os.path.join(parent, name) for name in listing.files if not name.startswith("."))
        folders = sorted(listing.folders, reverse=True)  # sorted: of two links to one folder the first always counts
        waiting += [os.path.join(parent, name) for name in folders if not name.startswith(".")]
        num_folders = num_folders or len(waiting)


def videos_by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    """Returns the paths of videos by their names without suffix; other files are left out."""
    stems: dict[str, list[str]] = {}
    for path in paths:
        if media_by_suffix(path) == "video":
            stems.setdefault(os.path.splitext(os.path.basename(path))[0], []).append(path)
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


def read_class_folders(folder: str, media: Media, progress: Progress | None = None) -> ClassFolders:
    """Returns the media files in each class folder, at any depth.

    Args:
        folder: Holds one folder a class.
        media: "image" or "video": which suffixes count.
        progress: Called after each folder.

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
    keys = [os.path.join(name, path) for path in paths if media_by_suffix(path) == media]
    if not keys:
        what = f"no {media}s in this class folder (known by {', '.join(suffixes_of(media))})"
        problems.append(Problem(os.path.join(folder, name), None, what))
    return keys, len(paths) - len(keys)


def count_files(folder: str, problems: list[Problem]) -> int:
    """Returns how many files lie in a folder itself, but for hidden ones."""
    return sum(not name.startswith(".") for name in list_folder(folder, problems).files)
