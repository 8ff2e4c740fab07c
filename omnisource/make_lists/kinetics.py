"""Lists from the Kinetics CSV files and a folder of videos."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping

from omnisource.data.lists.class_maps import format_class_names
from omnisource.data.lists.csv_lists import csv_rows
from omnisource.data.lists.folders import broken_problems, list_folder
from omnisource.data.lists.media_files import is_foreign, videos_by_stem
from omnisource.data.lists.text import Problem, format_rows, in_order, some
from omnisource.data.notes import classes_without_items
from omnisource.errors import UserError, shortened
from omnisource.make_lists.writing import ListReport, check_outputs, class_names, write_all
from omnisource.types import Progress

_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


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
    folder of it that is named after the class, with spaces or underscores. The names of clips that are missing are
    written to `{list_path without suffix}.missing.txt`.

    Args:
        csv_path: CSV file with the columns label, youtube_id, time_start, time_end.
        videos_folder: The folder; the paths of the list start from it.
        list_path: The list to write.
        classes_path: Class map. If it is there, the labels are numbered by it, so that training, validation and test
            lists agree; otherwise it is written. None: the classes of the CSV file in alphabetical order.
        overwrite: Whether an existing list is replaced. An existing class map never is.
        progress: Called with the numbers of folders listed and of all.

    Raises:
        UserError: If a file exists already, the CSV file is wrong, it has classes that the map lacks, a clip is there
            twice, or none is there. Nothing is written then.
    """
    missing_path = os.path.splitext(list_path)[0] + ".missing.txt"
    check_outputs([list_path, missing_path], [csv_path, classes_path], overwrite)
    clips, notes = _read_kinetics(csv_path)
    names, classes_read = class_names({label for _, label in clips.values()}, classes_path, csv_path)
    index_of = {name: index for index, name in enumerate(names)}

    found, missing = _match(clips, _KineticsVideos(videos_folder, progress), index_of, csv_path)
    counts = Counter(label for _, label in found)
    if empty := classes_without_items(names, [counts[index] for index in range(len(names))]):
        notes.append(empty)
    texts = {list_path: format_rows(found)}
    if missing:
        texts[missing_path] = "".join(f"{name}\n" for name in missing).encode()
    if classes_path and not classes_read:
        texts[classes_path] = format_class_names(names)
    write_all(texts)
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


def _read_kinetics(path: str) -> tuple[dict[str, tuple[int, str]], list[str]]:
    """Returns {clip name without suffix: (line, label)} in the order of the CSV file, and notes for the user."""
    problems: list[Problem] = []
    clips: dict[str, tuple[int, str]] = {}
    repeated: list[str] = []
    relabeled: list[str] = []
    for line, (label, youtube_id, *times) in csv_rows(path, _KINETICS_COLUMNS, problems):
        seconds = [_whole_seconds(time) for time in times]
        if None in seconds:
            what = f"time_start {times[0]!r} and time_end {times[1]!r} are not whole numbers of seconds"
            problems.append(Problem(path, line, what))
            continue
        clip = f"{youtube_id.strip()}_{seconds[0]:06d}_{seconds[1]:06d}"
        first_line, first_label = clips.setdefault(clip, (line, label.strip()))
        if first_line != line:
            (repeated if first_label == label.strip() else relabeled).append(str(line))
    if problems:
        lines = shortened([str(problem) for problem in in_order(problems)])
        raise UserError(f"{lines}\nA Kinetics CSV file has the columns {', '.join(_KINETICS_COLUMNS)} and more.")
    if not clips:
        raise UserError(f"{path}: no clips in it")
    notes = []
    if repeated:
        notes.append(f"rows of {path} that repeat a clip, left out: {len(repeated)} (lines {some(repeated)})")
    if relabeled:
        what = "that give a clip a second label, left out: the first counts"
        notes.append(f"rows of {path} {what}: {len(relabeled)} (lines {some(relabeled)})")
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
        broken = broken_problems(folder, listing)
        self.folder = folder
        self._flat = videos_by_stem(sorted(listing.files))
        self._by_class: dict[str, dict[str, list[str]]] = {}
        folders = sorted(name for name in listing.folders if not is_foreign(name))
        for done, name in enumerate(folders, start=1):
            inside = list_folder(os.path.join(folder, name), problems)
            broken += broken_problems(os.path.join(folder, name), inside)
            stems = self._by_class.setdefault(name.replace("_", " "), {})
            for stem, paths in videos_by_stem(os.path.join(name, file) for file in sorted(inside.files)).items():
                stems.setdefault(stem, []).extend(paths)
            if progress is not None:
                progress(done, len(folders))
        if problems or broken:
            raise UserError(shortened([str(problem) for problem in [*problems, *broken]]))

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
