"""Prepares media for training: videos that are quick to read, images that are no larger than needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omnisource.data.lists.text import some
from omnisource.data.loading.results import results_as_finished
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia, UserError, shortened
from omnisource.prepare.encode import PSNR
from omnisource.prepare.jobs import PrepareJob
from omnisource.prepare.journal import Entry, Header, Journal
from omnisource.prepare.outputs import FileJob
from omnisource.prepare.results import FAILURES, SHORT, Lists, pack, with_missing_frames, write_lists, write_records
from omnisource.prepare.shrink import JPEG_QUALITY
from omnisource.prepare.worker import PrepareRequest, Written, prepare_file
from omnisource.reporting.progress import progress_bar

LIMIT_SECONDS = 600.0
"""CPU time, and wall-clock time, that any file may take to be prepared."""

MIN_BYTES_A_SECOND = 20_000
"""A file may take longer by its size at this speed, which is a tenth of a slow one."""

_MAX_SHORT_SHOWN = 10  # originals with fewer frames than they declare that are printed


@dataclass(frozen=True)
class Settings:
    """Size and keyframe interval of prepared files."""

    short_side: int = 256
    """Short side in pixels, even; smaller media keep their size."""

    keyframe_interval: int = 5
    """Frames from one keyframe of a video to the next."""


@dataclass(frozen=True)
class Preparation:
    """What was prepared.

    Attributes:
        entries: The finished files, sorted by path.
        num_new: Those of them that were prepared just now, and not before.
        failures: Originals that could not be prepared, sorted by path.
        lists: The lists that were written.
        shards: The tar shards that were written.
        orphans: Finished files, below the output folder, whose originals are no longer in the source.
        notes: What else the user should know, one sentence each.
    """

    entries: list[Entry]
    num_new: int
    failures: list[UnreadableMedia]
    lists: Lists
    shards: list[Path]
    orphans: list[str]
    notes: list[str]

    def __str__(self) -> str:
        original = sum(entry.original_size for entry in self.entries)
        prepared = sum(entry.size for entry in self.entries)
        count = f"{len(self.entries)} files, {len(self.entries) - self.num_new} of them from before"
        lines = [f"{count}: {original / 1e6:.1f} MB -> {prepared / 1e6:.1f} MB"]
        lines += [f"{path}: {items} items" for path, items in self.lists.num_items.items()]
        if self.failures:
            failures = [str(failure) for failure in self.failures]
            lines += [f"not prepared: {len(failures)} files, {self.lists.left_out} items (all in {FAILURES})"]
            lines += [shortened(failures)]
        short = [
            f"{entry.original}: {entry.num_frames} of {entry.declared_frames} frames"
            for entry in with_missing_frames(self.entries)
        ]
        if short:
            what = "originals with fewer frames than their containers declare, cut off perhaps"
            lines += [f"warning: {what}: {len(short)} (all in {SHORT})", shortened(short, _MAX_SHORT_SHOWN)]
        if self.orphans:
            what = "prepared files whose originals are gone; remove them if they are not wanted any more"
            lines.append(f"{what}: {some(self.orphans)}")
        if self.shards:
            lines.append(f"{len(self.shards)} shards: {self.shards[0]} to {self.shards[-1].name}")
        return "\n".join([*lines, *self.notes])


def prepare(
    job: PrepareJob, folder: Path, settings: Settings, num_workers: int, shard_bytes: int | None = None
) -> Preparation:
    """Prepares all files of a job; those that are finished already are not prepared again.

    The originals are only read. Nothing in the folder is overwritten that was not written here.

    Args:
        job: What to prepare.
        folder: Where it goes; new, empty, or prepared from the same source with the same settings.
        settings: Size and keyframe interval of prepared files.
        num_workers: Processes; 0: this one does the work.
        shard_bytes: Bytes of a tar shard; None: no shards.

    Raises:
        UserError: If the folder holds something else or lies among the originals.
        OSError: If the folder cannot be written to.
    """
    _check_folders(job, folder)
    if shard_bytes is not None and not job.splits:
        raise UserError(f"{job.name}: shards hold labels, and a folder has none; prepare a list, or CONFIG:NAME")
    header = Header(job.name, settings.short_side, settings.keyframe_interval, PSNR, JPEG_QUALITY)
    with Journal(folder, header) as journal:
        waiting = [file for file in job.files if not journal.has(file.output, file.path)]
        _check_outputs(folder, waiting, journal)
        failures = _prepare_files(waiting, settings, num_workers, journal)
        journal.finish()
        lists = write_lists(job, journal)
        write_records(header, lists, failures, journal)
        shards = pack(job, journal, shard_bytes) if shard_bytes is not None else []
    entries = [entry for _, entry in sorted(journal.entries.items())]
    orphans = sorted(set(journal.entries) - {file.output for file in job.files})
    return Preparation(entries, len(waiting) - len(failures), failures, lists, shards, orphans, job.notes)


def _check_folders(job: PrepareJob, folder: Path) -> None:
    """Refuses an output folder that the originals lie in, or that lies among them."""
    out = os.path.realpath(folder)
    for original_folder in job.original_folders:
        original = os.path.realpath(original_folder)
        if os.path.commonpath([out, original]) in (out, original):
            raise UserError(
                f"{folder}: lies in the folder of the originals, {original_folder}, or around it; name another folder"
            )


def _check_outputs(folder: Path, waiting: Sequence[FileJob], journal: Journal) -> None:
    foreign = [file.output for file in waiting if file.output not in journal.entries]
    there = [str(folder / output) for output in foreign if os.path.lexists(folder / output)]
    if there:
        raise UserError(f"{some(there)}: not written by this command, which overwrites nothing else; move it away")


def _prepare_files(
    waiting: Sequence[FileJob], settings: Settings, num_workers: int, journal: Journal
) -> list[UnreadableMedia]:
    """Prepares files and enters them into the journal; returns why some could not be prepared, sorted by path."""
    failures: list[UnreadableMedia] = []
    # The largest first: at the end all workers then finish at about the same time.
    sized = sorted(((_size(file.path), file) for file in waiting), key=lambda pair: (-pair[0], pair[1].output))
    if not sized:
        return failures
    file_of_target = {_temporary(journal, number): (size, file) for number, (size, file) in enumerate(sized)}
    requests = (_request(file, target, settings) for target, (_, file) in file_of_target.items())

    def further_seconds(request: PrepareRequest) -> float:
        return file_of_target[request.target][0] / MIN_BYTES_A_SECOND

    with (
        WorkerPool(
            num_workers,
            LIMIT_SECONDS,
            load=prepare_file,
            item_processor_seconds=LIMIT_SECONDS,
            further_seconds=further_seconds,
        ) as workers,
        progress_bar("preparing", len(sized), "files", sum(size for size, _ in sized)) as advance,
    ):
        for request, result in results_as_finished(requests, workers, ahead=4 * num_workers):
            size, file = file_of_target[request.target]
            if isinstance(result, OSError):
                raise result
            if isinstance(result, UnreadableMedia):
                failures.append(result)
                journal.drop(file.output)
            else:
                journal.add(_entry(file, result), Path(request.target))
            advance(size, isinstance(result, UnreadableMedia))
    return sorted(failures, key=str)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:  # the worker says so
        return 0


def _temporary(journal: Journal, number: int) -> str:
    return str(journal.temporary / str(number))


def _request(file: FileJob, target: str, settings: Settings) -> PrepareRequest:
    suffix = os.path.splitext(file.output)[1]
    return PrepareRequest(file.media, file.path, target, suffix, settings.short_side, settings.keyframe_interval)


def _entry(file: FileJob, written: Written) -> Entry:
    return Entry(
        output=file.output,
        size=written.size,
        sha256=written.sha256,
        num_frames=written.encoded.num_frames,
        width=written.encoded.width,
        height=written.encoded.height,
        original=file.path,
        original_size=written.original_size,
        original_modified_ns=written.original_modified_ns,
        declared_frames=written.declared_frames,
    )
