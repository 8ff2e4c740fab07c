"""What a trained recognizer says of files: images, videos and folders of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnisource.data.lists.folders import files_below
from omnisource.data.lists.media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, media_by_suffix
from omnisource.data.lists.text import Problem
from omnisource.data.loading.workers import WorkerPool
from omnisource.distributed.cores import usable_cores
from omnisource.errors import UserError, shortened
from omnisource.evaluation.classifier import Scored
from omnisource.evaluation.load import Loaded
from omnisource.printing import notice
from omnisource.recipe.recipe import Recipe
from omnisource.types import Media

FEW_FILES = 8
"""Fewer files than these are few: no workers are started for them, which takes some seconds, and no bar is shown."""

MAX_WORKERS = Recipe.num_workers
"""Most workers that are started unless more are asked for; as many as a recipe has by default."""


@dataclass(frozen=True)
class MediaFile:
    """A file to classify, and what it is by its suffix."""

    path: str
    media: Media


@dataclass(frozen=True)
class Prediction:
    """What one head says of one file.

    Attributes:
        head: Name of the label space.
        top: (class name, score in [0, 1]), highest first.
    """

    head: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Attributes:
        file: The file.
        predictions: One of each head that was trained on its media.
        error: Why there are none, or None: an UnreadableMedia, or another UserError where the recognizer was not
            trained on this media.
    """

    file: MediaFile
    predictions: tuple[Prediction, ...] = ()
    error: UserError | None = None


def media_files(paths: Sequence[str]) -> list[MediaFile]:
    """Returns files and, in alphabetical order, all images and videos below folders.

    Raises:
        UserError: If a path is missing, a file is neither image nor video by its suffix, or a folder has none, or it or
            one in it cannot be listed or followed.
    """
    found: list[MediaFile] = []
    for given in paths:
        path = Path(given)
        if path.is_dir():
            found += _media_below(given)
        elif not path.is_file():
            raise UserError(f"{given}: no such file or folder")
        elif (media := media_by_suffix(str(path))) is None:
            known = " ".join(sorted({*IMAGE_SUFFIXES, *VIDEO_SUFFIXES}))
            raise UserError(f"{given}: neither an image nor a video by its suffix; known are {known}")
        else:
            found.append(MediaFile(given, media))
    return found


def _media_below(folder: str) -> list[MediaFile]:
    problems: list[Problem] = []
    paths = [str(Path(folder, path)) for path in files_below(folder, problems)]
    # A link to media that are gone is one file's fault, which is told when it is its turn.
    dangling = [problem for problem in problems if os.path.islink(problem.path) and media_by_suffix(problem.path)]
    if len(dangling) < len(problems):
        raise UserError(shortened([str(problem) for problem in problems]))
    paths = sorted([*paths, *(str(Path(problem.path)) for problem in dangling)])
    found = [MediaFile(path, media) for path in paths if (media := media_by_suffix(path))]
    if not found:
        raise UserError(f"{folder}: the folder has no images or videos")
    return found


def is_few(files: Sequence[MediaFile]) -> bool:
    """Returns whether files are so few that they are classified one by one."""
    return len(files) < FEW_FILES


def default_workers(files: Sequence[MediaFile]) -> int:
    """Returns how many processes load files: none for a few, and otherwise one a core, at most `MAX_WORKERS`."""
    return 0 if is_few(files) else min(MAX_WORKERS, usable_cores())


def predict(
    loaded: Loaded, files: Sequence[MediaFile], top: int, num_workers: int = 0
) -> Generator[FileResult, None, None]:
    """Yields what each head trained on their media says of files, in their order.

    Many files go through the model together, as in testing; few, one by one. Memory does not grow with their number.

    Args:
        loaded: The classifier.
        files: The files.
        top: Classes to name; fewer where the head has fewer.
        num_workers: Processes that decode ahead. 0: decode in this one.
    """
    classifier = loaded.classifier
    protocol = classifier.protocol
    known = (file for file in files if file.media in protocol.by_media)
    requests = (protocol.request(file.path, file.media) for file in known)
    with (
        WorkerPool(
            num_workers,
            loaded.limits.timeout_seconds,
            notice,  # to standard error: standard output is for the predictions
            item_processor_seconds=loaded.limits.processor_seconds,
        ) as workers,
        contextlib.closing(classifier.classify(requests, workers, is_grouped=not is_few(files))) as results,
    ):
        for file in files:
            if file.media not in protocol.by_media:
                trained_on = ", ".join(f"{media}s" for media in protocol.by_media)
                error = UserError(f"{file.path}: the recognizer was not trained on {file.media}s, but on {trained_on}")
                yield FileResult(file, error=error)
                continue
            _, result = next(results)
            if isinstance(result, Scored):
                yield FileResult(file, _predictions(result, loaded, top))
            else:
                yield FileResult(file, error=result)


def _predictions(scored: Scored, loaded: Loaded, top: int) -> tuple[Prediction, ...]:
    predictions = []
    for head, scores in scored.scores.items():
        names = loaded.class_names[head]
        best = scores.topk(min(top, len(scores)))
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        predictions.append(Prediction(head, tuple((names[index], score) for score, index in pairs)))
    return tuple(predictions)
