"""Which files are prepared, and the path of each prepared file below the output folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from omnisource.data.lists.media_files import media_by_suffix
from omnisource.errors import UserError
from omnisource.types import Media

PREPARED_SUFFIX = ".mp4"
"""Suffix of prepared videos."""


@dataclass(frozen=True, slots=True)
class FileJob:
    """One file to be prepared.

    Attributes:
        media: "image" or "video".
        path: Absolute path of the original.
        output: Path of the prepared file, below the output folder.
    """

    media: Media
    path: str
    output: str


def path_below(path: str, folder: str) -> str:
    """Returns a path below the folder that its list starts from; one that leads out of it keeps its whole path."""
    relative = os.path.relpath(path, folder)
    return os.path.normpath(path).lstrip("/") if relative.split("/")[0] == ".." else relative


def output_names(files: Iterable[tuple[str, Media]]) -> dict[str, str]:
    """Returns the name of each prepared file: videos get the suffix .mp4, images keep theirs.

    Where that would give two videos one name, as a.avi and a.mp4, the first keeps its suffix too: a.avi.mp4.
    """
    names = {}
    for path, media in files:
        stem, suffix = os.path.splitext(path)
        if media == "image" or suffix.lower() == PREPARED_SUFFIX:
            names[path] = path
        else:
            names[path] = (stem if media_by_suffix(path) == "video" else path) + PREPARED_SUFFIX
    counts = Counter(names.values())
    return {path: path + PREPARED_SUFFIX if name != path and counts[name] > 1 else name for path, name in names.items()}


def distinct_files(files: Sequence[FileJob]) -> list[FileJob]:
    """Returns the files without repetitions.

    Raises:
        UserError: If two different files would get one name.
    """
    of_output: dict[str, FileJob] = {}
    for file in files:
        other = of_output.setdefault(file.output, file)
        if os.path.normpath(other.path) != os.path.normpath(file.path):
            raise UserError(f"{other.path} and {file.path} would both become {file.output}; rename one of them")
    return list(of_output.values())
