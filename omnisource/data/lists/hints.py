"""What a line of a list may have meant whose file is not there, or whose label is none."""

from __future__ import annotations

import os
import re
import unicodedata
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence

from omnisource.data.lists.folders import Listing
from omnisource.data.lists.media_files import media_by_suffix
from omnisource.data.lists.text import is_number

_HEADER = re.compile(r"[A-Za-z][A-Za-z _-]*")
_MAX_NAME_BYTES = 255  # of every file system in use


def missing_file(folder: str, key: str, listing: Listing) -> str:
    """Returns what is wrong with a path that is no file, and which file it may have meant.

    Args:
        folder: Folder that the paths of the list start from.
        key: The path.
        listing: The folder that it lies in.
    """
    path, name = os.path.join(folder, key), key.rpartition("/")[2]
    if name in listing.folders:
        return f'is a folder, not a file: {path} (lists of the form "frames_folder" name folders of frames)'
    if name in listing.broken:
        return f"missing file: {path} ({listing.broken[name]})"
    base, num_surplus = _without_numbers(key)
    if num_surplus:
        what = f"{num_surplus + 2} columns instead of 2 (`path label`), or a missing file: {path}"
        if os.path.isdir(os.path.join(folder, base)):
            return f"{what}; {base} is a folder: {_frames_hint(num_surplus - 1)}"
        if num_surplus == 1 and media_by_suffix(base) == "video" and os.path.isfile(os.path.join(folder, base)):
            return f'{what}; lists of the form "video_frames_label" are `video_id num_frames label`'
        return what
    return f"missing file: {path}{_hint(folder, key, listing)}"


def missing_folder(folder: str, key: str, listing: Listing) -> str:
    """Returns what is wrong with a path that is no folder of frames; the arguments are those of `missing_file`."""
    path, name = os.path.join(folder, key), key.rpartition("/")[2]
    if name in listing.files:
        return f"is a file, not a folder of frames: {path}"
    if name in listing.broken:
        return f"missing folder: {path} ({listing.broken[name]})"
    base, num_surplus = _without_numbers(key)
    if num_surplus and os.path.isdir(os.path.join(folder, base)):
        return f"{num_surplus + 3} columns, or a missing folder: {path}; {base} is one: {_frames_hint(num_surplus)}"
    return f"missing folder: {path}{_hint(folder, key, listing)}"


def missing_video(folder: str, key: str, stems: Mapping[str, Sequence[str]]) -> str:
    """Returns what is wrong with an id that no video has.

    Args:
        folder: Folder that the ids of the list start from.
        key: The id.
        stems: The videos beside it by their names without suffix.
    """
    name = key.rpartition("/")[2]
    what = f"missing video: {os.path.join(folder, key)} with any suffix of videos"
    for other, how in _other_spellings(name):
        if other != name and other in stems:
            return f"{what} (there is {stems[other][0]}, {how})"
    return what


def wrong_label(row: list[str], line: int) -> str:
    """Returns, in parentheses, what a line may be whose last column is no label; "" where that is not seen."""
    columns = [part.strip() for column in row for part in column.split(",")]
    if "youtube_id" in columns:
        return " (a Kinetics CSV file: `omnisource lists kinetics` makes a list of it)"
    if line == 1 and len(columns) > 1 and all(_HEADER.fullmatch(column) for column in columns):
        return ' (a header? Lists with one have format="csv", and path_column and label_column name two of its columns)'
    if row[-1] != (bare := row[-1].strip("\"'")):
        return f' (the quotes belong to it; write {bare} alone, or CSV with a header and format="csv")'
    if is_number(plain := unicodedata.normalize("NFKC", row[-1])):
        return f" (its digits are not those of ASCII; write {plain})"
    if is_number(row[0]) or media_by_suffix(row[-1]):
        return " (the path comes first, and the label last)"
    return ""


def _frames_hint(num_offsets: int) -> str:
    if num_offsets > 0:
        return 'lists of the form "frames_folder" are `folder num_frames label`, without an offset'
    return 'lists of the form "frames_folder" are `folder num_frames label`'


def _without_numbers(key: str) -> tuple[str, int]:
    """Returns a path without the numbers behind it that a surplus column may be, and how many these are."""
    columns = key.replace(",", " ").split()
    count = 0
    while count < len(columns) - 1 and is_number(columns[-1 - count]):
        count += 1
    return " ".join(columns[: len(columns) - count]), count


def _hint(folder: str, key: str, listing: Listing) -> str:
    if "\0" in key:
        return " (no path has a zero byte in it)"
    if any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in key.split("/")):
        return f" (no name has more than {_MAX_NAME_BYTES} bytes)"
    for other, how in _other_spellings(key):
        if other and other != key and os.path.exists(os.path.join(folder, other)):
            return f" (there is {other}, {how})"
    name = key.rpartition("/")[2]
    same = [other for other in listing.files if _plain(other) == _plain(name)]
    if same:
        return f" (there is {same[0]}, with other capital letters)"
    stem = os.path.splitext(name)[0]
    same = sorted(other for other in listing.files if os.path.splitext(other)[0] in (name, stem))
    if not same:
        return ""
    if stem == name and media_by_suffix(same[0]) == "video":
        return f' (there is {same[0]}; lists of names without suffix have format="video_frames_label")'
    return f" (there is {same[0]}, with another suffix)"


def _other_spellings(key: str) -> Iterator[tuple[str, str]]:
    yield key.strip("\"'"), "without the quotes around it"
    yield key.strip(), "without the blanks around it"
    for form in ("NFC", "NFD", "NFKC"):
        yield unicodedata.normalize(form, key), f"in another form of Unicode ({form})"
    yield key.replace("\\", "/"), "with slashes for the backslashes"
    yield urllib.parse.unquote(key), "without the percent signs of a URL"
    yield key.lstrip("/"), "below the folder"
    yield key.partition("/")[2], "since paths start from the folder of the split"


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
