"""What a page shows of the test of one source, from the files that the test wrote into its folder."""

from __future__ import annotations

import base64
import contextlib
import csv
import json
import os
import urllib.parse
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnisource.errors import UserError
from omnisource.evaluation.results.predictions import (
    PREDICTIONS,
    THUMBNAILS,
    Prediction,
    Predictions,
    chosen_examples,
    read_predictions,
)
from omnisource.report.calibration import Calibration, calibration_of
from omnisource.report.confusion import Confusion, confusion_of
from omnisource.report.intervals import Share, mean_of_shares, wilson

METRICS, PER_CLASS = "metrics.json", "per_class.csv"

EXAMPLES = {
    "certain": "Wrong, and most certain of it",
    "wrong": "Wrong, spread over the list",
    "right": "Right, spread over the list",
}
NUM_EXAMPLES = 24
PICTURE_BYTES = 5_000_000
"""Of all JPEG files of a page; they become a third longer in it."""

MAX_CLASSES = 3000
"""Rows of the table of classes."""


@dataclass(frozen=True)
class ClassRow:
    """How a class fared; `accuracy` is None where it has no items."""

    name: str
    count: int
    right: int
    accuracy: Share | None
    mistaken_for: str


@dataclass(frozen=True)
class Example:
    """An item with its picture, as a data URL or "", and a link to its file, or ""."""

    path: str
    link: str
    picture: str
    label: str
    label_score: float
    top: tuple[tuple[str, float], ...]
    is_right: bool


@dataclass(frozen=True)
class SourceResult:
    """What came of the test of a source.

    Attributes:
        name: Name of the source.
        split: "test" or "validation".
        media: "video" or "image"; "" where nobody noted it.
        count: Items.
        top1: Share of the items that were recognized.
        top5: Share whose label is among the five highest scores.
        mean_class: Mean of the accuracies of the classes that occur.
        classes: A row a class, the worst first.
        num_classes: How many there are, more than there are rows perhaps.
        confusion: None without predictions.
        calibration: None without predictions.
        examples: Title and items of each contact sheet.
        about: What the test noted of itself; {} for an old one.
        left_out: Path and reason of each item that could not be read.
        lacks: What cannot be shown, and why.
    """

    name: str
    split: str
    media: str
    count: int
    top1: Share
    top5: Share
    mean_class: Share
    classes: tuple[ClassRow, ...]
    num_classes: int
    confusion: Confusion | None
    calibration: Calibration | None
    examples: tuple[tuple[str, tuple[Example, ...]], ...]
    about: dict[str, Any]
    left_out: tuple[tuple[str, str], ...]
    lacks: tuple[str, ...]


def tested_sources(folder: Path) -> list[Path]:
    """Returns the folders of the sources that a test wrote into `folder`, by name."""
    with contextlib.suppress(OSError):
        return sorted(path for path in folder.iterdir() if (path / METRICS).is_file())
    return []


def read_results(folder: Path) -> tuple[SourceResult, ...]:
    """Returns what came of each source of a test; none where `folder` holds no test.

    Raises:
        UserError: A file is damaged.
    """
    paths = tested_sources(folder)
    return tuple(_read_result(path, PICTURE_BYTES // len(paths)) for path in paths)


def _read_result(folder: Path, max_bytes: int) -> SourceResult:
    if not (folder / PREDICTIONS).exists():
        return _old_result(folder)
    predictions = read_predictions(folder / PREDICTIONS)
    if not predictions.rows:
        raise UserError(f"{folder / PREDICTIONS}: holds no items")
    rows, num_classes = predictions.rows, len(predictions.classes)
    ranks = [row.label_rank for row in rows]
    classes = _class_rows(predictions)
    predicted = {row.top[0][0] for row in rows}
    # A class that was predicted and has no items counts as 0, as in the metrics.
    occurring = [row for index, row in enumerate(classes) if row.count or index in predicted]
    return SourceResult(
        name=str(predictions.about.get("source", folder.name)),
        split=str(predictions.about.get("split", "")),
        media=str(predictions.about.get("media", "")),
        count=len(rows),
        top1=wilson(sum(rank == 1 for rank in ranks), len(rows)),
        top5=wilson(sum(rank <= 5 for rank in ranks), len(rows)),
        mean_class=mean_of_shares([row.right for row in occurring], [row.count for row in occurring]),
        classes=_worst_first(classes),
        num_classes=num_classes,
        confusion=confusion_of(rows, predictions.classes),
        calibration=calibration_of(rows),
        examples=_examples(predictions, folder / THUMBNAILS, max_bytes),
        about=predictions.about,
        left_out=predictions.left_out,
        lacks=(),
    )


def _class_rows(predictions: Predictions) -> list[ClassRow]:
    counts: Counter[int] = Counter()
    right: Counter[int] = Counter()
    taken: dict[int, Counter[int]] = {}
    for row in predictions.rows:
        counts[row.label] += 1
        right[row.label] += row.is_right
        if not row.is_right:
            taken.setdefault(row.label, Counter())[row.top[0][0]] += 1
    return [
        ClassRow(
            name,
            counts[index],
            right[index],
            wilson(right[index], counts[index]) if counts[index] else None,
            predictions.classes[taken[index].most_common(1)[0][0]] if index in taken else "",
        )
        for index, name in enumerate(predictions.classes)
    ]


def _worst_first(rows: Sequence[ClassRow]) -> tuple[ClassRow, ...]:
    order = sorted(rows, key=lambda row: (row.accuracy is None, row.accuracy.value if row.accuracy else 0.0))
    return tuple(order[:MAX_CLASSES])


def _examples(predictions: Predictions, archive: Path, max_bytes: int) -> tuple[tuple[str, tuple[Example, ...]], ...]:
    pictures = _read_pictures(archive, max_bytes)
    chosen = chosen_examples(predictions.rows, NUM_EXAMPLES)
    return tuple(
        (EXAMPLES[kind], tuple(_example(row, predictions.classes, pictures) for row in rows))
        for kind, rows in chosen.items()
        if rows
    )


def _example(row: Prediction, classes: Sequence[str], pictures: dict[int, bytes]) -> Example:
    picture = pictures.get(row.index)
    return Example(
        path=row.path,
        link=file_link(row.path),
        picture=f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" if picture else "",
        label=classes[row.label],
        label_score=row.label_score,
        top=tuple((classes[label], score) for label, score in row.top[:3]),
        is_right=row.is_right,
    )


def _read_pictures(archive: Path, max_bytes: int) -> dict[int, bytes]:
    """Returns the JPEG files of an archive by the index of their items, as many as fit; none without an archive."""
    found: dict[int, bytes] = {}
    with contextlib.suppress(OSError, zipfile.BadZipFile, ValueError), zipfile.ZipFile(archive) as content:
        for entry in content.infolist():
            max_bytes -= entry.file_size
            if max_bytes >= 0:
                found[int(entry.filename.removesuffix(".jpg"))] = content.read(entry)
    return found


def file_link(path: str) -> str:
    """Returns the URL of a file of this machine; "" for a member of a shard, and for what lies elsewhere."""
    if "::" in path or not path.startswith("/"):
        return ""
    return f"file://{urllib.parse.quote(os.fsencode(path))}"


def _old_result(folder: Path) -> SourceResult:
    """Returns what a test of an earlier version wrote: no single item is known."""
    try:
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        count = int(metrics["count"])
        top1, top5 = (wilson(round(metrics[name] * count), count) for name in ("top1", "top5"))
        mean = float(metrics["mean_class_accuracy"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{folder / METRICS}: is damaged ({error}); test again to have it written") from error
    rows = []
    with contextlib.suppress(OSError, KeyError, ValueError), (folder / PER_CLASS).open(newline="") as file:
        for line in csv.DictReader(file):
            items, right = int(line["items"]), int(line["correct"])
            share = wilson(right, items) if items else None
            rows.append(ClassRow(line["class"], items, right, share, line["mostly taken for"]))
    occurring = [row for row in rows if row.count]
    found = mean_of_shares([r.right for r in occurring], [r.count for r in occurring]) if occurring else None
    mean_class = (
        Share(mean, found.low, found.high) if found and found.low <= mean <= found.high else Share(mean, mean, mean)
    )
    return SourceResult(
        name=folder.name,
        split=str(metrics.get("split", "")),
        media="",
        count=count,
        top1=top1,
        top5=top5,
        mean_class=mean_class,
        classes=_worst_first(rows),
        num_classes=len(rows),
        confusion=None,
        calibration=None,
        examples=(),
        about={name: metrics[name] for name in ("checkpoint", "ema") if name in metrics},
        left_out=(),
        lacks=(
            f"{folder.name}: was tested by an earlier version, which kept no predictions of single items: confusion, "
            "calibration and pictures are missing. Test again to have them.",
        ),
    )
