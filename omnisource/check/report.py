"""The report of a check: as JSON for programs, as text for people, and on the screen."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size

from omnisource.check.findings import Finding, Kind
from omnisource.check.journal import JOURNAL
from omnisource.check.summary import SplitSummary, Spread, TrainingDuplicates
from omnisource.files.atomic import atomic_write
from omnisource.printing import printable_name, show
from omnisource.reporting.tables import print_table

REPORT_JSON, REPORT_TEXT = "report.json", "report.txt"

FORMAT, VERSION = "omnisource check report", 1

_MAX_SHOWN = 20  # findings, and classes at either end, that are printed
_BAR = 40  # characters of the longest bar
_TITLES: dict[Kind, str] = {
    "data": "not there",
    "list": "mistakes in lists",
    "two_labels": "one file with two labels",
    "unreadable": "unreadable",
    "duplicate": "held out, and trained on too",
    "chosen_on": "tested on what the best checkpoint is chosen on",
    "missing_frames": "frames are missing",
    "wrong_count": "wrong counts of frames",
    "too_short": "fewer frames than a clip has",
}


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        config: The config file.
        overrides: The overrides.
        files: Distinct files of all lists.
        taken_over: Those of them that an earlier check had read, and that have not changed since.
        splits: Numbers of each split.
        training_duplicates: Numbers of training files that show the same as one another.
        notes: Which splits there are no lists of, a line each.
        findings: All that is wrong, errors first.
    """

    config: str
    overrides: tuple[str, ...]
    files: int
    taken_over: int
    splits: tuple[SplitSummary, ...]
    training_duplicates: TrainingDuplicates
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        """Findings at which training stops, or with which results cannot be trusted."""
        return [finding for finding in self.findings if finding.is_error]

    @property
    def warnings(self) -> list[Finding]:
        """The other findings."""
        return [finding for finding in self.findings if not finding.is_error]

    def verdict(self) -> str:
        """Returns the result in one line."""
        problems = _counted(len(self.errors), "problem") if self.errors else "nothing is wrong"
        return f"{problems}, {_counted(len(self.warnings), 'warning')}" if self.warnings else problems


def write_report(report: Report, folder: Path) -> None:
    """Writes a report in both forms into a folder, in place of an earlier one."""
    with atomic_write(folder / REPORT_JSON) as file:
        file.write(json.dumps(_plain(report), indent=1).encode() + b"\n")
    text = io.StringIO()
    show(" ".join([f"omnisource check of {report.config}", *report.overrides]), file=text)
    _print_numbers(report, folder, text)
    for finding in report.findings:
        show(f"{'error' if finding.is_error else 'warning'}: {_TITLES[finding.kind]}: {finding}", file=text)
    show(report.verdict(), file=text)
    for group in report.training_duplicates.examples:
        show("", "show the same:", *(f"  {path}" for path in group), file=text)
    for split in report.splits:
        show("", *_class_lines(split), file=text)
    with atomic_write(folder / REPORT_TEXT) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))


def is_report(path: Path) -> bool:
    """Returns whether a file is a report of ours, in JSON."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return FORMAT.encode() in file.read(100)
    return False


def print_report(report: Report, folder: Path) -> None:
    """Prints a report, cut to about one screen; what is cut off stands in its folder."""
    _print_numbers(report, folder, sys.stdout)
    if report.errors:
        lines = [str(error) for error in report.errors[:_MAX_SHOWN]]
        more = len(report.errors) - len(lines)
        show(*lines, *([f"... and {more} more in {folder / REPORT_TEXT}"] if more else []))
    grouped: dict[tuple[str, str, Kind], list[Finding]] = {}
    for warning in report.warnings:
        grouped.setdefault((warning.source, warning.split, warning.kind), []).append(warning)
    for (source, split, kind), warnings in grouped.items():
        show(f"warning: {source}, {split}: {_TITLES[kind]}: {len(warnings)}, such as {warnings[0]}")
    show(f"all of it: {folder / REPORT_TEXT}, {folder / REPORT_JSON}")


def _print_numbers(report: Report, folder: Path, file: TextIO) -> None:
    """Prints the table of the splits, and what else there is to count."""
    header = ["source, split", "items", "classes", "list mistakes", "unreadable", "duplicates", "too short"]
    header += ["wrong counts", "frames", "short side"]
    rows = []
    for split in report.splits:
        classes = f"{sum(count > 0 for count in split.class_counts)} of {len(split.class_counts)}"
        counts = [split.list_problems, split.unreadable, split.duplicates, split.shorter_than_span]
        counts.append(split.missing_frames + split.wrong_counts)
        spreads = [_range(split.frames), _range(split.short_sides)]
        rows.append([f"{split.source}, {split.split}", str(split.items), classes, *map(str, counts), *spreads])
    print_table("what was checked", header, rows, file)
    show(f"{_counted(report.files - report.taken_over, 'file')} read", file=file)
    if report.taken_over:
        what = "taken over from an earlier check, unchanged since then; to read all again, remove"
        show(f"{_counted(report.taken_over, 'file')} {what} {folder / JOURNAL}", file=file)
    for split in report.splits:
        for note in split.notes:
            show(f"source {split.source}, {split.split}: {note}", file=file)
        if split.shorter_than_span:
            what = f"{_counted(split.shorter_than_span, 'video')} shorter than a clip: it goes on at the beginning"
            show(f"{split.source}, {split.split}: {what}", file=file)
        if split.plain:
            what = f"{_counted(split.plain, 'item')} too plain to be compared by pictures, and compared by bytes alone"
            show(f"{split.source}, {split.split}: {what}", file=file)
    show(*report.notes, file=file)
    _print_groups(report.training_duplicates, file)


def _print_groups(duplicates: TrainingDuplicates, file: TextIO) -> None:
    if duplicates.groups:
        labels = f", {duplicates.differing_labels} of them with differing labels" if duplicates.differing_labels else ""
        groups = _counted(duplicates.groups, "group")
        files = "1 training file shows" if duplicates.files == 1 else f"{duplicates.files} training files show"
        what = f"{files} the same as others, in {groups}{labels}"
        show(f"{what}; for example {', '.join(duplicates.examples[0][:2])}", file=file)
    if not duplicates.compared_pictures:
        what = "there are too many training files to compare them with one another by pictures: compared by bytes alone"
        show(what, file=file)


def _class_lines(split: SplitSummary) -> list[str]:
    """Returns a histogram of the classes of a split, the most and the least frequent ones where there are many."""
    names = map(printable_name, split.class_names)
    counts = sorted(zip(split.class_counts, names, strict=True), key=lambda pair: (-pair[0], pair[1]))
    smallest, median, largest = class_sizes(split.class_counts)
    lines = [f"classes of {split.source}, {split.split}: {smallest} to {largest} items, median {median:g}"]
    width = max(cell_len(name) for _, name in counts)
    for position, (count, name) in enumerate(counts):
        if _MAX_SHOWN <= position < len(counts) - _MAX_SHOWN:
            if position == _MAX_SHOWN:
                lines.append(f"  ... {len(counts) - 2 * _MAX_SHOWN} more")
            continue
        bar = "█" * math.ceil(_BAR * count / max(largest, 1))
        lines.append(f"  {set_cell_size(name, width)}  {count:>8}  {bar}".rstrip())
    return lines


def class_sizes(class_counts: Sequence[int]) -> tuple[int, float, int]:
    """Returns the minimum, the median and the maximum number of items of a class."""
    return min(class_counts), statistics.median(class_counts), max(class_counts)


def _plain(report: Report) -> dict[str, Any]:
    """Returns a report as plain data: what report.json holds, as docs/checking.md describes it."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "config": report.config,
        "overrides": report.overrides,
        "errors": len(report.errors),
        "warnings": len(report.warnings),
        "files": {"all": report.files, "taken_over": report.taken_over},
        "splits": [_plain_split(split) for split in report.splits],
        "training_duplicates": dataclasses.asdict(report.training_duplicates),
        "notes": report.notes,
        "findings": [_plain_finding(finding) for finding in report.findings],
    }


def _plain_finding(finding: Finding) -> dict[str, str]:
    plain = dataclasses.asdict(finding)
    del plain["is_error"]
    return {"severity": "error" if finding.is_error else "warning", **plain}


def _plain_split(split: SplitSummary) -> dict[str, Any]:
    plain = dataclasses.asdict(split)
    del plain["class_names"]
    smallest, median, largest = class_sizes(split.class_counts)
    empty = [name for name, count in zip(split.class_names, split.class_counts, strict=True) if not count]
    plain["class_counts"] = dict(zip(split.class_names, split.class_counts, strict=True))
    plain["class_sizes"] = {"least": smallest, "median": median, "greatest": largest, "empty": empty}
    for name in ("frames", "short_sides"):
        plain[name] = _plain_spread(getattr(split, name))
    return plain


def _plain_spread(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else {"least": spread.min, "median": spread.median, "greatest": spread.max}


def _range(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return str(spread.min) if spread.min == spread.max else f"{spread.min} to {spread.max}"


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"
