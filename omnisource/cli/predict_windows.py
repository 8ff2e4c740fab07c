"""`omnisource predict --windows`: what a long video shows from when to when."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omnisource.cli.arguments import path
from omnisource.errors import UnreadableMedia, UserError
from omnisource.printing import notice, printable_name, show, show_json

if TYPE_CHECKING:
    from omnisource.evaluation.load import Loaded
    from omnisource.evaluation.outputs.results_file import ResultsFile
    from omnisource.evaluation.predict import MediaFile
    from omnisource.evaluation.windows.scoring import WindowScores

FLAGS = ("window_seconds", "stride_seconds", "smooth_seconds", "min_seconds", "threshold", "csv", "timeline")
"""What means nothing without --windows."""


def add_windows(predict: argparse.ArgumentParser) -> None:
    """Adds --windows and what belongs to it."""
    windows = predict.add_argument_group("long videos")
    windows.add_argument("--windows", action="store_true", help="slide a window over videos, and name segments")
    windows.add_argument("--window-seconds", type=_seconds, metavar="S", help="length of a window (that of one clip)")
    windows.add_argument(
        "--stride-seconds", type=_seconds, metavar="S", help="from one window to the next (half of one)"
    )
    windows.add_argument("--smooth-seconds", type=_seconds, metavar="S", help="average scores over this time (none)")
    windows.add_argument("--min-seconds", type=_seconds, metavar="S", help="leave shorter segments and gaps out (none)")
    windows.add_argument(
        "--threshold",
        action="append",
        metavar="[CLASS=]SCORE",
        help="score from which a class counts, such as 0.5, or one class, such as 'moving left=0.8' (0)",
    )
    windows.add_argument("--csv", type=path, metavar="FILE", help="write the segments as CSV")
    windows.add_argument("--timeline", type=path, metavar="FOLDER", help="write a picture (SVG) of each video")


def predict_windows(
    arguments: argparse.Namespace, loaded: Loaded, files: list[MediaFile], results: ResultsFile | None
) -> int:
    """Prints the segments of every video; returns 0, or 2 if some could not be read to their end."""
    from omnisource.evaluation.windows.outputs import (
        check_csv,
        check_timelines,
        file_entry,
        segment_entry,
        write_csv,
        write_timeline,
    )
    from omnisource.evaluation.windows.scoring import WindowSeconds, score_windows
    from omnisource.evaluation.windows.segments import segments_of
    from omnisource.reporting.progress import counted_progress

    if "video" not in loaded.classifier.protocol.by_media:
        raise UserError(f"{arguments.checkpoint}: was not trained on videos, which --windows is for")
    rules = _rules(arguments, loaded.class_names)
    if arguments.csv is not None:
        check_csv(arguments.csv)
    if arguments.timeline is not None:
        check_timelines(arguments.timeline)
    seconds = WindowSeconds(arguments.window_seconds, arguments.stride_seconds)
    entries: list[Mapping[str, Any]] = []
    failed = 0
    for file in files:
        if results is not None and file.path in results.finished:
            continue
        found: WindowScores | None = None
        try:
            if file.media != "video":
                raise UnreadableMedia(file.path, "an image; --windows takes videos")
            with counted_progress(f"windows of {printable_name(os.path.basename(file.path))}", "windows") as progress:
                found = score_windows(file.path, loaded.classifier, seconds, progress)
        except UnreadableMedia as error:
            entry: dict[str, Any] = {"path": file.path, "error": error.reason}
        else:
            segments = segments_of(found, loaded.class_names, rules)
            entry = file_entry(found, segments)
            if arguments.timeline is not None:
                write_timeline(arguments.timeline, found, segments)
            if arguments.json:
                for segment in segments:
                    show_json({"path": file.path, **segment_entry(segment)}, flush=True)
            else:
                _show_text(file.path, entry)
        if "error" in entry:  # one file's fault, so the others are still wanted
            failed += 1
            until = f"after {found.num_frames} frames: " if found else ""
            notice(f"error: {printable_name(file.path)}: {until}{entry['error']}")
            if arguments.json:
                show_json({"path": file.path, "error": entry["error"]}, flush=True)
        entries.append(entry)
        if results is not None:
            results.add(entry)  # last: what is there is done with
    if arguments.csv is not None:
        write_csv(arguments.csv, entries if results is None else results.entries())
    failed = failed if results is None else results.num_failed
    if failed:
        notice(f"{failed} of {len(files)} files could not be read to their end")
    return 2 if failed else 0


def window_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what segments depend on, for a file of results."""
    if not arguments.windows:
        return {}
    return {name: getattr(arguments, name) for name in ("windows", *FLAGS[:5])}


def check_flags(arguments: argparse.Namespace) -> None:
    """Checks that flags for windows come with --windows.

    Raises:
        UserError: One does not.
    """
    if not arguments.windows:
        for name in FLAGS:
            if getattr(arguments, name) is not None:
                raise UserError(f"--{name.replace('_', '-')} is for long videos: give --windows, too")


def _show_text(name: str, entry: Mapping[str, Any]) -> None:
    show(printable_name(name))
    for one in entry["segments"]:
        times = f"{_clock(one['start_seconds'])} to {_clock(one['end_seconds'])}"
        frames = f"frames {one['start_frame']} to {one['end_frame'] - 1}"
        label = f"{printable_name(one['class_name'])} ({printable_name(one['label_space'])})"
        show(f"  {times}  {one['score']:7.2%}  {label}, {frames}")
    if not entry["segments"]:
        show("  no segments")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 2), 60)
    return f"{int(minutes // 60)}:{int(minutes % 60):02d}:{rest:05.2f}"


def _rules(arguments: argparse.Namespace, class_names: Mapping[str, tuple[str, ...]]) -> Any:
    from omnisource.evaluation.windows.segments import SegmentRules

    rules = SegmentRules(arguments.smooth_seconds or 0.0, arguments.min_seconds or 0.0)
    known = {name for names in class_names.values() for name in names}
    of_classes: dict[str, float] = {}
    for text in arguments.threshold or ():
        name, equals, score = text.rpartition("=")
        with contextlib.suppress(ValueError):
            value = float(score)
            if 0 <= value <= 1:
                if not equals:
                    rules = dataclasses.replace(rules, threshold=value)
                elif name in known:
                    of_classes[name] = value
                else:
                    raise UserError(f"--threshold {text}: there is no class {name!r}; classes are named as in the list")
                continue
        raise UserError(f"--threshold {text}: must be a score from 0 to 1, or CLASS=SCORE")
    return dataclasses.replace(rules, class_thresholds=of_classes)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 < value < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"{text}: must be a number of seconds above 0")
