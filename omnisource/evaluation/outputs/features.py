"""The pooled features of files, in a file for numpy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from omnisource.data.loading.results import results_in_order
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UserError
from omnisource.evaluation.load import Loaded
from omnisource.evaluation.predict import MediaFile
from omnisource.files.atomic import atomic_write
from omnisource.printing import notice
from omnisource.types import Clip


def write_features(
    target: Path,
    loaded: Loaded,
    files: Sequence[MediaFile],
    num_workers: int,
    *,
    each_view: bool = False,
    on_file: Callable[[], None],
) -> list[UserError]:
    """Writes the features of files; returns why some have none.

    It has `features` [rows, C] float32, `paths` and `media` [files] of those that could be read, and in `file_index`
    [rows] the file of each row. A row is a file or, for each view, a view.

    Args:
        target: The .npz file.
        loaded: The classifier.
        files: The files.
        num_workers: Processes that decode ahead. 0: decode in this one.
        each_view: Whether features are not averaged over the views of a file.
        on_file: Called after each file.

    Raises:
        UserError: No file can be read, or the classifier gives no features.
        OSError: The file cannot be written; it names the file.
    """
    classifier, limits = loaded.classifier, loaded.limits
    by_media = classifier.protocol.by_media
    errors: list[UserError] = [
        UserError(f"{file.path}: the recognizer was not trained on {file.media}s")
        for file in files
        if file.media not in by_media
    ]
    known = [file for file in files if file.media in by_media]
    requests = (classifier.protocol.request(file.path, file.media) for file in known)
    rows: list[np.ndarray] = []
    read: list[MediaFile] = []
    with (
        WorkerPool(
            num_workers, limits.timeout_seconds, notice, item_processor_seconds=limits.processor_seconds
        ) as workers,
        contextlib.closing(results_in_order(requests, workers, workers.num_busy_requests)) as results,
    ):
        for file, (_, result) in zip(known, results, strict=True):
            if isinstance(result, Clip):
                features = classifier.features(result)
                rows.append((features if each_view else features.mean(dim=0, keepdim=True)).numpy())
                read.append(file)
            else:
                errors.append(result)
            on_file()
    if not rows:
        raise UserError(f"{target}: not written: none of {len(files)} files has features, such as {errors[0]}")
    paths = np.array([file.path.encode("utf-8", "replace").decode() for file in read])
    with atomic_write(target) as out:
        np.savez(
            out,
            features=np.concatenate(rows),
            file_index=np.repeat(np.arange(len(rows)), [len(row) for row in rows]),
            paths=paths,
            media=np.array([file.media for file in read]),
        )
    return errors
