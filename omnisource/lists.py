"""Making lists of items: from the Kinetics CSV files and a folder of videos, or from one folder a class."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnisource.data.list_text import (
    Problem,
    csv_rows,
    format_class_names,
    format_rows,
    in_order,
    read_class_names,
    some,
)
from omnisource.data.media_files import list_folder, read_class_folders, videos_by_stem
from omnisource.errors import UserError, shortened
from omnisource.randomness import derived_seed
from omnisource.types import Media
from omnisource.whole_files import written_whole

Progress = Callable[[int, int], None]
"""Is called with the number of folders that were listed and the number of all."""

_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


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
        notes: What else the user should know, a sentence each.
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


def make_kinetics_list(
    csv_path: str,
    videos_folder: str,
    list_path: str,
    classes_path: str | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ListReport:
    """Writes the list (`path label`) of the clips of a Kinetics CSV file that are in a folder.

    A clip is `{youtube_id}_{time_start:06d}_{time_end:06d}` with any suffix of videos, in the folder itself or in a
    folder of it that is named after the class, with blanks or underscores. The names of clips that are missing are
    written to `{list_path without suffix}.missing.txt`.

    Args:
        csv_path: CSV file with the columns label, youtube_id, time_start, time_end.
        videos_folder: The folder; the paths of the list start from it.
        list_path: The list to write.
        classes_path: Class map. If it is there, the labels are numbered by it, so that training, validation and test
            lists agree; otherwise it is written. None: the classes of the CSV file in alphabetical order.
        overwrite: Whether an existing list is replaced. An existing class map never is.
        progress: See `Progress`.

    Raises:
        UserError: If a file exists already, the CSV file is wrong, it has classes that the map lacks, a clip is there
            twice, or none is there. Nothing is written then.
    """
    missing_path = os.path.splitext(list_path)[0] + ".missing.txt"
    _check_outputs([list_path, missing_path], [csv_path, classes_path], overwrite)
    clips, notes = _read_kinetics(csv_path)
    names, classes_read = _class_names({label for _, label in clips.values()}, classes_path, csv_path)
    index_of = {name: index for index, name in enumerate(names)}

    found, missing = _match(clips, _KineticsVideos(videos_folder, progress), index_of, csv_path)
    labels = {label for _, label in found}
    empty = [name for index, name in enumerate(names) if index not in labels]
    if empty:
        notes.append(f"classes without a clip: {len(empty)} ({some(empty)})")
    texts = {list_path: format_rows(found)}
    if missing:
        texts[missing_path] = "".join(f"{name}\n" for name in missing).encode()
    if classes_path and not classes_read:
        texts[classes_path] = format_class_names(names)
    _write_all(texts)
    if not missing and os.path.exists(missing_path):
        os.remove(missing_path)  # of an earlier list, which was just replaced
    return ListReport(
        {list_path: len(found)},
        len(names),
        classes_path or "",
        classes_read,
        tuple(missing),
        missing_path if missing else "",
        tuple(notes),
    )


def make_folder_lists(
    folder: str,
    list_path: str,
    media: Media,
    classes_path: str | None = None,
    *,
    validation_path: str | None = None,
    validation_share: float = 0.0,
    seed: int = 0,
    group_pattern: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ListReport:
    r"""Writes the list (`path label`) of the files in a folder that holds one folder a class.

    Args:
        folder: The folder; the paths of the list start from it. Class folders are read at any depth.
        list_path: The list to write.
        media: "image" or "video": which suffixes count.
        classes_path: Class map. If it is there, the labels are numbered by it; otherwise it is written. None: the
            class folders in alphabetical order.
        validation_path: A second list, of items that are held out of the first.
        validation_share: Share of each class that is held out: more than 0 and less than 1. A class of two files or
            more has at least one in each list.
        seed: Which items are held out: the same seed holds out the same.
        group_pattern: Regular expression that is searched in the paths; items with the same match (of its first
            group, if it has one) stay in the same list. For example `seq\d+` keeps each sequence together.
        overwrite: Whether existing lists are replaced. An existing class map never is.
        progress: See `Progress`.

    Raises:
        UserError: If a file exists already, a class folder is empty or not in the class map, a name cannot be written
            in a list, or the share cannot be held out. Nothing is written then.
    """
    if (validation_path is None) != (validation_share == 0) or not 0 <= validation_share < 1:
        raise UserError(
            f"validation share {validation_share} with validation list {validation_path}: to hold items out, give a "
            "share of more than 0 and less than 1 and a list; to hold out none, give neither."
        )
    outputs = [list_path] if validation_path is None else [list_path, validation_path]
    _check_outputs(outputs, [classes_path], overwrite)
    found = read_class_folders(folder, media, progress)
    if found.problems:
        lines = shortened([str(problem) for problem in found.problems])
        raise UserError(f"{lines}\nRemove class folders that are not wanted, or fill them.")
    names, classes_read = _class_names(found.keys, classes_path, folder)
    held_out: set[str] = set()
    if validation_share > 0:
        held_out = _held_out(found.keys, validation_share, seed, group_pattern)
    index_of = {name: index for index, name in enumerate(names)}
    rows = [(key, index_of[name]) for name, keys in found.keys.items() for key in keys]
    lists = {list_path: [row for row in rows if row[0] not in held_out]}
    notes = []
    if validation_path is not None:
        lists[validation_path] = [row for row in rows if row[0] in held_out]
        lacking = sorted(set(found.keys) - {names[label] for _, label in lists[validation_path]})
        if lacking:
            notes.append(f"classes with nothing in {validation_path}: {len(lacking)} ({some(lacking)})")
    if found.num_ignored:
        notes.append(f"files in {folder} that are no {media}s, left out: {found.num_ignored}")
    texts = {path: format_rows(part) for path, part in lists.items()}
    if classes_path and not classes_read:
        texts[classes_path] = format_class_names(names)
    _write_all(texts)
    counts = {path: len(part) for path, part in lists.items()}
    return ListReport(counts, len(names), classes_path or "", classes_read, notes=tuple(notes))


def _read_kinetics(path: str) -> tuple[dict[str, tuple[int, str]], list[str]]:
    """Returns {clip name without suffix: (line, label)} in the order of the CSV file, and notes for the user."""
    problems: list[Problem] = []
    clips: dict[str, tuple[int, str]] = {}
    repeated: list[str] = []
    relabelled: list[str] = []
    for line, (label, youtube_id, *times) in csv_rows(path, _KINETICS_COLUMNS, problems):
        seconds = [_whole_seconds(time) for time in times]
        if None in seconds:
            what = f"time_start {times[0]!r} and time_end {times[1]!r} are not whole numbers of seconds"
            problems.append(Problem(path, line, what))
            continue
        clip = f"{youtube_id.strip()}_{seconds[0]:06d}_{seconds[1]:06d}"
        first_line, first_label = clips.setdefault(clip, (line, label.strip()))
        if first_line != line:
            (repeated if first_label == label.strip() else relabelled).append(str(line))
    if problems:
        lines = shortened([str(problem) for problem in in_order(problems)])
        raise UserError(f"{lines}\nA Kinetics CSV file has the columns {', '.join(_KINETICS_COLUMNS)} and more.")
    if not clips:
        raise UserError(f"{path}: no clips in it")
    notes = []
    if repeated:
        notes.append(f"rows of {path} that repeat a clip, left out: {len(repeated)} (lines {some(repeated)})")
    if relabelled:
        what = "that give a clip a second label, left out: the first counts"
        notes.append(f"rows of {path} {what}: {len(relabelled)} (lines {some(relabelled)})")
    return clips, notes


def _whole_seconds(text: str) -> int | None:
    digits = re.fullmatch(r"([0-9]{1,9})(\.0*)?", text.strip())
    return int(digits[1]) if digits else None


class _KineticsVideos:
    """The videos of a folder, and of the folders in it that are named after classes, by names without suffix."""

    def __init__(self, folder: str, progress: Progress | None) -> None:
        if not os.path.isdir(folder):
            raise UserError(f"{folder}: missing folder of videos")
        problems: list[Problem] = []
        listing = list_folder(folder, problems)
        self.folder = folder
        self._flat = videos_by_stem(sorted(listing.files))
        self._by_class: dict[str, dict[str, list[str]]] = {}
        for done, name in enumerate(sorted(listing.folders), start=1):
            files = sorted(list_folder(os.path.join(folder, name), problems).files)
            stems = self._by_class.setdefault(name.replace("_", " "), {})
            for stem, paths in videos_by_stem(os.path.join(name, file) for file in files).items():
                stems.setdefault(stem, []).extend(paths)
            if progress is not None:
                progress(done, len(listing.folders))
        if problems:
            raise UserError(shortened([str(problem) for problem in problems]))

    def paths(self, clip: str, label: str) -> list[str]:
        """Returns the paths of a clip below the folder."""
        return self._flat.get(clip, []) + self._by_class.get(label.replace("_", " "), {}).get(clip, [])


def _match(
    clips: Mapping[str, tuple[int, str]], videos: _KineticsVideos, index_of: Mapping[str, int], csv_path: str
) -> tuple[list[tuple[str, int]], list[str]]:
    """Returns the (path, class index) of the clips that are there, and the file names of those that are not."""
    found: list[tuple[str, int]] = []
    missing: list[str] = []
    ambiguous: list[str] = []
    for clip, (line, label) in clips.items():
        paths = videos.paths(clip, label)
        if len(paths) > 1:
            ambiguous.append(f"{csv_path}:{line}: the clip is there {len(paths)} times: {', '.join(paths)}")
        elif paths:
            found.append((paths[0], index_of[label]))
        else:
            missing.append(f"{clip}.mp4")
    if ambiguous:
        raise UserError(f"{shortened(ambiguous)}\nKeep one file of each clip in {videos.folder}.")
    if not found:
        raise UserError(
            f"{videos.folder}: none of the {len(clips)} clips of {csv_path} is there. Expected are files such as "
            f"{missing[0]}, in the folder itself or in a folder named after the class."
        )
    return found, missing


def _class_names(found: Iterable[str], classes_path: str | None, origin: str) -> tuple[tuple[str, ...], bool]:
    """Returns the class names in the order of their indices, and whether they come from a class map that is there."""
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


def _held_out(keys_by_class: Mapping[str, Sequence[str]], share: float, seed: int, pattern: str | None) -> set[str]:
    """Returns the keys that are held out: of each class the groups that come first in an order made from the seed."""
    groups = _groups([key for keys in keys_by_class.values() for key in keys], pattern)
    members: dict[str, list[tuple[str, str]]] = {}
    for name, keys in keys_by_class.items():
        for key in keys:
            members.setdefault(groups[key], []).append((name, key))
    order = sorted(members, key=lambda group: (derived_seed(seed, "held out", group), group))
    by_class: dict[str, list[str]] = {name: [] for name in keys_by_class}
    for group in order:
        for name in dict.fromkeys(name for name, _ in members[group]):
            by_class[name].append(group)

    chosen: set[str] = set()
    held: Counter[str] = Counter()
    for name, keys in keys_by_class.items():
        wanted = max(1, int(share * len(keys) + 0.5))
        for group in by_class[name]:
            if held[name] >= wanted:
                break
            counts = Counter(name for name, _ in members[group])
            # A group may span classes; none may lose its last item for training.
            if group in chosen or any(held[other] + n >= len(keys_by_class[other]) for other, n in counts.items()):
                continue
            chosen.add(group)
            held.update(counts)
    if not chosen:
        raise UserError("nothing can be held out: each class has only one item or one group of items")
    return {key for group in chosen for _, key in members[group]}


def _groups(keys: Sequence[str], pattern: str | None) -> dict[str, str]:
    """Returns the group of each key: what the pattern matches, or the key itself where there is none."""
    if pattern is None:
        return {key: key for key in keys}
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"group pattern {pattern!r} is not a regular expression: {error}") from error
    matches = {key: compiled.search(key) for key in keys}
    without = [key for key, match in matches.items() if match is None]
    if without:
        raise UserError(f"group pattern {pattern!r} matches nothing in {some(without)}")
    place = 1 if compiled.groups else 0
    return {key: match[place] or "" for key, match in matches.items() if match is not None}


def _check_outputs(outputs: Sequence[str], inputs: Sequence[str | None], overwrite: bool) -> None:
    """Refuses outputs that exist, and outputs that are each other or an input, whatever `overwrite` says."""
    places = [os.path.realpath(path) for path in (*outputs, *(path for path in inputs if path))]
    twice = [path for path, count in Counter(places).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]}: the same file is named twice; every list and the class map need their own")
    folders = [path for path in outputs if os.path.isdir(path)]
    if folders:
        raise UserError(f"{folders[0]}: is a folder; name the file to write")
    existing = [path for path in outputs if os.path.lexists(path)]
    if existing and not overwrite:
        raise UserError(f"{', '.join(existing)}: exists already. Name another file, or replace it with --overwrite.")


def _write_all(contents: Mapping[str, bytes]) -> None:
    """Writes files, of which none is ever there by halves."""
    for path, content in contents.items():
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with written_whole(Path(path)) as file:
                file.write(content)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
