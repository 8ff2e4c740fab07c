"""Reads every list and every file of a recipe, and reports all that is wrong with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from omnisource.check.duplicates import TrainTestDuplicate, compares_pictures, find_groups, find_leaks
from omnisource.check.examine import FileReport, examine
from omnisource.check.files import FileTable, StateReader
from omnisource.check.findings import (
    Finding,
    choice_findings,
    frame_findings,
    frame_leaks,
    leak_findings,
    list_findings,
    unreadable_findings,
)
from omnisource.check.journal import JOURNAL, Journal
from omnisource.check.pictures import CLASSES_PICTURE, DUPLICATES_PICTURE, draw_class_histograms, draw_duplicates
from omnisource.check.report import (
    REPORT_JSON,
    REPORT_TEXT,
    Report,
    is_report,
    print_report,
    write_report,
)
from omnisource.check.splits import SPLITS, CheckedSplit, count_lists, fallback_notes, read_lists
from omnisource.check.summary import summarize, summarize_groups
from omnisource.data.classes import resolve_classes
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.results import results_as_finished
from omnisource.data.loading.workers import WorkerPool
from omnisource.data.missing import require_data
from omnisource.errors import UnreadableMedia, UserError
from omnisource.printing import notice, show
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.progress import counted_progress, progress_bar
from omnisource.signals import stopped_by_signals


def check(recipe: Recipe, config_path: str, folder: Path, overrides: Sequence[str] = ()) -> Report:
    """Returns what is wrong with the lists and the files of a recipe, having written and printed the report.

    Every frame of every file is decoded, in `num_workers` processes. What is known of each file is kept in a journal,
    so that a check that was ended goes on where it was, and a later one reads only what has changed.

    Args:
        recipe: The recipe.
        config_path: How errors and the report name it.
        folder: Gets the journal, the report and its pictures.
        overrides: How the report names what was changed in the config.

    Raises:
        UserError: If no folder of any source is there, a class map is missing or wrong, so that no list can be
            understood, or the folder cannot be written to or holds a journal that is none.
        Interrupted: If a signal asked the check to stop; what was read until then is in the journal.
    """
    with stopped_by_signals():
        findings = _missing_data(recipe, config_path)
        recipe, class_names = resolve_classes(recipe)
        with progress_bar("reading lists", count_lists(recipe), "lists") as advance:
            splits = read_lists(recipe, class_names, advance)
        _print_lists(splits)
        _require_own(folder)
        with Journal(folder) as journal:
            with progress_bar("looking at files", sum(len(split.items) for split in splits)) as advance:
                files = FileTable(splits, advance)
            _reuse_journal(files, journal)
            _read_files(recipe, files, journal)
            report, leaks = _evaluate(recipe, files, findings, config_path, overrides)
            write_report(report, folder)
            pictures = [*draw_class_histograms(report.splits, folder), *draw_duplicates(recipe, files, leaks, folder)]
    print_report(report, folder)
    show(f"pictures: {', '.join(map(str, pictures))}", report.verdict())
    return report


def _missing_data(recipe: Recipe, config_path: str) -> list[Finding]:
    """Returns what the recipe refers to that is not there, as long as there is anything to read."""
    try:
        require_data(recipe, SPLITS, config_path)
    except UserError as error:
        if not any(os.path.isdir(os.path.expanduser(source.root)) for source in recipe.sources.values()):
            raise
        return [Finding("data", True, "", "", "", str(error))]
    return []


def _print_lists(splits: Sequence[CheckedSplit]) -> None:
    for split in splits:
        counts = split.items.class_counts(len(split.class_names))
        notice(
            f"source {split.source_name}, {split.name}: {len(split.items)} items of {(counts > 0).sum()} of "
            f"{len(counts)} classes, {len(split.problems)} problems in the list",
            sys.stdout,
        )


def _require_own(folder: Path) -> None:
    """Makes the folder of the report; refuses one in which files of others have the names of ours.

    Raises:
        UserError: If there are such files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / JOURNAL).exists() or is_report(folder / REPORT_JSON):
        return
    wanted = (REPORT_JSON, REPORT_TEXT, DUPLICATES_PICTURE, CLASSES_PICTURE.format("*"))
    foreign = [str(path) for name in wanted for path in sorted(folder.glob(name))]
    if foreign:
        raise UserError(f"{', '.join(foreign)}: not of a check, and would be replaced; give a folder with --report")


def _reuse_journal(files: FileTable, journal: Journal) -> None:
    """Takes over what an earlier check found in files that have not changed since."""
    if journal.is_of_others:
        notice(f"{journal.path} was written with other versions of the decoders: all files are read again", sys.stdout)
    for state, found in journal.entries():
        number = files.find(state)
        if number is not None:
            files.take(number, found, is_taken_over=True)
    if journal.num_damaged:
        notice(
            f"{journal.path}: {journal.num_damaged} damaged lines are left out; their files are read again", sys.stdout
        )


def _read_files(recipe: Recipe, files: FileTable, journal: Journal) -> None:
    """Reads the files of which nothing is known, and enters each into the journal as soon as it is read."""
    numbers, reader = files.unread(), StateReader()
    under_way: dict[SampleRequest, int] = {}

    def requests() -> Iterator[SampleRequest]:
        for number in numbers.tolist():
            request = files.request(number)
            under_way[request] = number
            yield request

    # Without the limit in CPU time: that is for one clip, and here a video is decoded as a whole.
    with (
        WorkerPool(recipe.num_workers, recipe.item_timeout_seconds, load=examine) as workers,
        progress_bar("reading files", len(numbers), "files") as advance,
    ):
        for request, result in results_as_finished(requests(), workers, ahead=4 * recipe.num_workers):
            number = under_way.pop(request)
            if isinstance(result, UnreadableMedia):
                # The system's fault and not the file's, perhaps: the next check reads it again.
                files.take(number, FileReport(fault=result.reason))
            else:
                files.take(number, result)
                state = reader.state(request)
                if files.find(state) == number:  # it did not change meanwhile
                    journal.append(state, result)
            advance()


def _evaluate(
    recipe: Recipe, files: FileTable, findings: Sequence[Finding], config_path: str, overrides: Sequence[str]
) -> tuple[Report, list[TrainTestDuplicate]]:
    """Returns the report, and the held-out files that are trained on too."""
    is_trained, is_held_out = files.first_items_where(True) >= 0, files.first_items_where(False) >= 0
    with counted_progress("comparing what is held out", "blocks") as progress:
        leaks = find_leaks(files, is_trained, is_held_out, progress)
    with counted_progress("comparing what is trained on", "blocks") as progress:
        groups = find_groups(files, is_trained, progress)
    found = [*findings, *(finding for split in files.splits for finding in list_findings(split))]
    of_frames = dict(frame_leaks(files))
    found += [*unreadable_findings(files), *leak_findings(files, leaks), *of_frames.values()]
    found += choice_findings(recipe, files)
    for split, numbers in zip(files.splits, files.of_items, strict=True):
        found += frame_findings(files, split, numbers)
    is_leak, is_repeated = np.zeros((2, len(files)), dtype=bool)
    is_leak[[*(leak.held_out for leak in leaks), *of_frames]] = True
    is_repeated[[number for group in groups for number in group]] = True
    summaries = [
        summarize(files, split, numbers, is_repeated if split.is_training else is_leak, found)
        for split, numbers in zip(files.splits, files.of_items, strict=True)
    ]
    report = Report(
        config=config_path,
        overrides=tuple(overrides),
        files=len(files),
        taken_over=int(files.is_taken_over.sum()),
        splits=tuple(summaries),
        training_duplicates=summarize_groups(files, groups, compares_pictures(int(is_trained.sum()))),
        notes=fallback_notes(recipe),
        findings=tuple(sorted(found, key=lambda finding: not finding.is_error)),
    )
    return report, leaks
