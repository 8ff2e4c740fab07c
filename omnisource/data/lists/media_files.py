"""Names of files: by which suffixes media are known, and which names no data set means."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnisource.types import Media

# Every suffix that Pillow knows for the formats of `decoding/images.py`. Written down, so that the items of a folder
# depend neither on the build of Pillow nor on importing it; a test compares them. Not .pfm: such gray has no white.
IMAGE_SUFFIXES = (
    *(".apng", ".avif", ".avifs", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf"),
    *(".jpg", ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
# Containers and streams that FFmpeg reads as videos, without those that are usually something else (.ogg, .mod).
VIDEO_SUFFIXES = (
    *(".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".h265", ".hevc"),
    *(".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mov", ".mp4", ".mpe"),
    *(".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".ts", ".vob"),
    *(".webm", ".wmv", ".wtv", ".y4m"),
)

# Names that systems and archives leave in folders, in small letters: those of Windows, macOS, Synology, QNAP, ext4.
_FOREIGN_NAMES = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *("__macosx", "icon\r", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
        *("lost+found", "__pycache__"),
    )
)

_MOST_SUFFIXES = 6  # that are named of files that are left out


def suffixes_of(media: Media) -> tuple[str, ...]:
    """Returns the suffixes by which files of this kind are known, in small letters."""
    return IMAGE_SUFFIXES if media == "image" else VIDEO_SUFFIXES


def media_by_suffix(path: str) -> Media | None:
    """Returns what kind of file the suffix of a path names, or None where it is of no kind of media."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None


def is_foreign(name: str) -> bool:
    """Returns whether a file or folder is hidden (`.DS_Store`, `._1.jpg`) or of those that systems leave everywhere.

    Such names count nowhere: not in class folders, nor in shards, nor where folders are classified or prepared. Only a
    list, or a user who names the file itself, can mean them.
    """
    return name.startswith(".") or name.lower() in _FOREIGN_NAMES


def is_foreign_path(path: str) -> bool:
    """Returns whether any part of a path below a folder, or in an archive, is foreign; "." stands for no part."""
    return any(is_foreign(part) for part in path.split("/") if part not in (".", ".."))


def left_out_note(folder: str, counts: Mapping[str, int], media: Media | None) -> str:
    """Returns, for people, how many files were left out because their suffixes are none of the wanted media.

    Args:
        folder: The folder that they lie in.
        counts: Such files by their suffix, "" where they have none.
        media: What was wanted; None: images and videos.
    """
    kind = "neither images nor videos" if media is None else f"no {media}s"
    return f"files in {folder} that are {kind}, left out: {sum(counts.values())} ({suffix_counts(counts)})"


def suffix_counts(counts: Mapping[str, int]) -> str:
    """Returns numbers of files by their suffixes, for people, the most frequent first."""
    ordered = Counter(counts).most_common()
    shown = [f"{count} {suffix or 'without a suffix'}" for suffix, count in ordered[:_MOST_SUFFIXES]]
    if more := sum(count for _, count in ordered[_MOST_SUFFIXES:]):
        shown.append(f"{more} others")
    return ", ".join(shown)


def videos_by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    """Returns the paths of videos by their names without suffix; other files are left out."""
    stems: dict[str, list[str]] = {}
    for path in paths:
        if media_by_suffix(path) == "video":
            stems.setdefault(os.path.splitext(os.path.basename(path))[0], []).append(path)
    return stems
