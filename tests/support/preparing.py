"""What the tests of `omnisource prepare` share: small settings, and what lies in an output folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from omnisource.data.decoding.video import VideoFile
from omnisource.data.lists.items import Items
from omnisource.prepare.jobs import PrepareJob
from omnisource.prepare.journal import Entry, Header, Journal
from omnisource.prepare.run import Preparation, Settings, prepare
from tests.support.media import read_numbers
from tests.support.miniature import PUBLISHED_CONFIG

CONFIG = str(PUBLISHED_CONFIG)

SMALL = Settings(short_side=32)

HEADER = Header("originals", 32, 5, 38.0, 95)

OURS = {"prepared.jsonl", "prepared.json", "checksums.sha256"}


def tree(folder: Path) -> dict[str, bytes]:
    """Returns the content of all files below a folder, by their paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def prepared(job: PrepareJob, out: Path, settings: Settings = SMALL, shard_bytes: int | None = None) -> Preparation:
    return prepare(job, out, settings, num_workers=0, shard_bytes=shard_bytes)


def numbers_in(path: Path) -> list[int]:
    with VideoFile(path) as video:
        return read_numbers(video.frames(range(video.num_frames)))


def entries(out: Path) -> dict[str, dict]:
    lines = [json.loads(line) for line in (out / "prepared.jsonl").read_text().splitlines()[1:]]
    return {line["output"]: line for line in lines}


def rows(items: Items) -> list[tuple[str, int]]:
    return [(item.key, item.label) for item in items]


def finished(journal: Journal, output: str) -> tuple[Entry, Path]:
    """Writes a file as a worker does; returns its entry and where it is."""
    written = journal.temporary / output
    written.write_text(output)
    return Entry(output, len(output), "", 1, 2, 2, "original", 1, 1), written


def textured(count: int, height: int, width: int) -> np.ndarray:
    """Returns frames of soft spots, hardly colored, that drift to the left."""
    rng = np.random.default_rng(0)
    spots = rng.integers(30, 220, (9, 12, 1)) + rng.integers(-15, 16, (9, 12, 3))
    ground = np.asarray(Image.fromarray(spots.astype(np.uint8)).resize((width + count, height)))
    return np.stack([ground[:, shift : shift + width] for shift in range(count)])
