"""One run of a comparison, in a process of its own: it is trained and scored."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from omnisource.compare.job_files import JOB, LOCK, TRAINED, WEIGHTS_GONE, score_files
from omnisource.errors import UserError
from omnisource.evaluation.report import ReportFiles
from omnisource.evaluation.test import test
from omnisource.files.atomic import atomic_path, atomic_write
from omnisource.files.lock import LockHeld, take_lock
from omnisource.printing import notice
from omnisource.recipe.plain import from_plain
from omnisource.recipe.recipe import Recipe
from omnisource.signals import Interrupted
from omnisource.training.train import train

TAKEN = 75
"""Exit code where another process has the run."""


def main(folder_name: str) -> int:
    """Trains and scores what job.json of a folder says, as far as it is not done; returns the exit code."""
    folder = Path(folder_name)
    try:
        with take_lock(folder / LOCK):
            return _run(folder)
    except LockHeld:
        return TAKEN
    except Interrupted as stop:
        return 128 + stop.signal_number
    except UserError as error:
        notice(f"error: {error}")
        return 2


def _run(folder: Path) -> int:
    beginning = time.monotonic()
    job: dict[str, Any] = json.loads((folder / JOB).read_text())
    recipe = from_plain(Recipe, job["recipe"], str(folder / JOB))
    if not (folder / TRAINED).exists():
        if recipe.model.weights and not Path(recipe.model.weights).exists():
            raise UserError(f"{recipe.model.weights}: {WEIGHTS_GONE}")
        train(recipe, folder, resume="auto")
        _write_json(folder / TRAINED, {"checkpoint": job["checkpoint"], "seconds": time.monotonic() - beginning})
    for split in job["splits"]:
        if not all(path.exists() for path in score_files(folder, split)):
            _score(recipe, folder, folder / job["checkpoint"], split)
    return 0


def _score(recipe: Recipe, folder: Path, checkpoint: Path, split: Literal["validation", "test"]) -> None:
    """Writes the scores of the main source's items of a split; the other sources are not tested."""
    main = recipe.main_source
    untested = {n: replace(s, validation=None, test=None) for n, s in recipe.sources.items() if n != main}
    source = recipe.sources[main]
    tested = replace(source, test=source.validation if split == "validation" else source.test)
    # In the order of the recipe: it is the same recognizer.
    sources = {name: tested if name == main else untested[name] for name in recipe.sources}
    evaluation = test(replace(recipe, sources=sources), str(checkpoint), ReportFiles(folder / split))[main]
    scores, summary = score_files(folder, split)
    with atomic_path(scores) as path, open(path, "wb") as file:
        np.savez_compressed(
            file,
            keys=np.array(evaluation.keys),
            labels=evaluation.labels.numpy().astype(np.int32),
            scores=evaluation.scores.numpy().astype(np.float16),
            predicted=evaluation.scores.argmax(1).numpy().astype(np.int32),
        )
    metrics = evaluation.metrics
    _write_json(
        summary,
        {
            "top1": metrics.top1,
            "mean_class_accuracy": metrics.mean_class_accuracy,
            "classes": [result.name for result in metrics.classes],
        },
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
