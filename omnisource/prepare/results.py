"""What is written beside the prepared media: lists, class map, checksums, counts, failures, shards."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omnisource.data.shards.write import ShardFile, write_shards
from omnisource.errors import UnreadableMedia, UserError
from omnisource.prepare.jobs import PrepareJob
from omnisource.prepare.journal import Entry, Header, Journal
from omnisource.prepare.lists import kept_items, prepared_key, prepared_list

SUMMARY = "prepared.json"
"""Name of the file with the counts."""

CHECKSUMS = "checksums.sha256"
"""Name of the file that `sha256sum --check` reads."""

FAILURES = "failures.jsonl"
"""Name of the file that lists what could not be prepared, and why; written only if something could not."""

SHORT = "fewer_frames.jsonl"
"""Name of the file that lists the originals with fewer frames than they declare; written only if there are any."""

SHARDS = "shards"
"""Name of the folder of shards."""


@dataclass(frozen=True)
class Lists:
    """The lists that were written.

    Attributes:
        num_items: Items of each list, by its path below the output folder.
        left_out: Items that are in no list because they could not be prepared.
        digests: SHA-256 of the text of each list and of the class map, by their paths below the output folder.
    """

    num_items: Mapping[str, int]
    left_out: int
    digests: Mapping[str, str]


def write_lists(job: PrepareJob, journal: Journal) -> Lists:
    """Writes the lists of the finished items and the class map.

    Raises:
        UserError: If there is such a file that was not written here, or was changed since.
    """
    texts: dict[str, bytes] = {}
    num_items: dict[str, int] = {}
    left_out = 0
    for split in job.splits:
        kept = kept_items(split, journal.entries)
        left_out += len(split.items) - len(kept)
        if split.output:
            texts[split.output], num_items[split.output] = prepared_list(split, kept), len(kept)
    if job.class_map is not None:
        original, output = job.class_map
        texts[output] = Path(original).read_bytes()
    earlier = _earlier_digests(journal.folder)
    digests = {output: hashlib.sha256(text).hexdigest() for output, text in texts.items()}
    for output, text in texts.items():
        _refuse_foreign(journal.folder / output, {digests[output], earlier.get(output)})
        journal.write(output, [text])
    return Lists(num_items, left_out, digests)


def write_records(header: Header, lists: Lists, failures: Sequence[UnreadableMedia], journal: Journal) -> None:
    """Writes the counts, the checksums, the failures, and which originals had fewer frames than they declare.

    Args:
        header: The source and the settings.
        lists: The lists that were written.
        failures: What could not be prepared, sorted.
        journal: The finished files.
    """
    entries = [entry for _, entry in sorted(journal.entries.items())]
    short = with_missing_frames(entries)
    summary = {
        **asdict(header),
        "libraries": {name: importlib.metadata.version(name) for name in ("av", "pillow")},
        "files": len(entries),
        "frames": sum(entry.num_frames for entry in entries),
        "original_bytes": sum(entry.original_size for entry in entries),
        "prepared_bytes": sum(entry.size for entry in entries),
        "failures": len(failures),
        "fewer_frames": len(short),
        "lists": dict(lists.num_items),
        "items_left_out": lists.left_out,
        "digests": dict(lists.digests),
    }
    journal.write(CHECKSUMS, (_checksum_line(entry) for entry in entries))
    _write_lines(FAILURES, [{"path": failure.path, "reason": failure.reason} for failure in failures], journal)
    _write_lines(
        SHORT,
        [
            {"path": entry.original, "frames": entry.num_frames, "declared_frames": entry.declared_frames}
            for entry in short
        ],
        journal,
    )
    journal.write(SUMMARY, [json.dumps(summary, indent=2).encode() + b"\n"])


def with_missing_frames(entries: Iterable[Entry]) -> list[Entry]:
    """Returns the files whose originals had fewer frames than they declare, those that lack the largest share first."""
    short = [entry for entry in entries if entry.missing_frames]
    return sorted(short, key=lambda entry: (entry.num_frames / (entry.declared_frames or 1), entry.original))


def _write_lines(output: str, lines: Sequence[Mapping[str, Any]], journal: Journal) -> None:
    """Writes JSON lines into the output folder; no file where there are none."""
    if lines:
        journal.write(output, (json.dumps(line).encode() + b"\n" for line in lines))
    else:
        (journal.folder / output).unlink(missing_ok=True)


def pack(job: PrepareJob, journal: Journal, shard_bytes: int) -> list[Path]:
    """Packs the finished files of each split into tar shards; returns these.

    Raises:
        UserError: If a split has raw frames, or shards are there that hold something else.
    """
    shards: list[Path] = []
    for split in job.splits:
        if split.split.format == "frames_folder":
            raise UserError(f"{split.original}: folders of raw frames cannot be packed into shards")
        files = (
            ShardFile(
                journal.folder / split.folder / split.outputs[index][0],
                prepared_key(split, index),
                int(split.items.labels[index]),
            )
            for index in kept_items(split, journal.entries)
        )
        shards += write_shards(files, journal.folder / SHARDS, split.name, shard_bytes)
    return shards


def _earlier_digests(folder: Path) -> dict[str, str]:
    """Returns the digests of the lists that were written before, none where none were."""
    try:
        return json.loads((folder / SUMMARY).read_bytes())["digests"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _refuse_foreign(path: Path, ours: set[str | None]) -> None:
    """Refuses to overwrite a file whose digest is none of `ours`."""
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() not in ours:
        raise UserError(f"{path}: was not written here, or was changed since; it is not overwritten. Move it away.")


def _checksum_line(entry: Entry) -> bytes:
    """Returns a line of the form of `sha256sum`, which escapes names with backslashes or line breaks."""
    name = entry.output.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "" if name == entry.output else "\\"
    return f"{mark}{entry.sha256}  {name}\n".encode("utf-8", "surrogateescape")  # names need not be UTF-8
