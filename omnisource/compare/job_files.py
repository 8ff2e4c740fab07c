"""What is on the disk of a run of a comparison, and by which it counts as done; imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omnisource.errors import UserError, shortened
from omnisource.files.atomic import atomic_write
from omnisource.recipe.keys import differences, is_among
from omnisource.recipe.plain import from_plain, to_plain
from omnisource.recipe.recipe import Recipe

JOB, LOCK, TRAINED, LOG, FAILED = "job.json", "job.lock", "trained.json", "job.log", "failed.txt"

WEIGHTS_GONE = "the weights of the stage before are gone; remove the folder of that run, and it is done again"

_MAY_DIFFER = ("num_workers", "views_at_a_time", "log_interval_steps", "item_timeout_seconds", "checkpoints")


def score_files(folder: Path, split: str) -> tuple[Path, Path]:
    """Returns where the scores of the items, and where their summary are; the summary is written last."""
    return folder / f"{split}.npz", folder / f"{split}.json"


def is_done(folder: Path, splits: tuple[str, ...]) -> bool:
    """Returns whether a run is trained and its splits are scored."""
    return (folder / TRAINED).exists() and all(p.exists() for split in splits for p in score_files(folder, split))


def check_job(folder: Path, job: dict[str, Any]) -> None:
    """Checks that a run that was begun is the one of job.json.

    Raises:
        UserError: The run of this name was begun with another recipe.
    """
    path = folder / JOB
    if not path.exists():
        return
    # A key that an earlier version did not write stands for what was done then.
    begun = to_plain(from_plain(Recipe, json.loads(path.read_text())["recipe"], str(path)))
    differing = [
        f"  {key}: {before!r} before, {now!r} now"
        for key, now, before in differences(job["recipe"], begun)
        if not is_among(key, _MAY_DIFFER)
    ]
    if differing:
        raise UserError(
            f"{folder}: this run was begun with another recipe:\n{shortened(differing)}\nThe experiment or its "
            "data have changed: take another --work-dir, or undo the change. Nothing was touched."
        )


def write_job(folder: Path, job: dict[str, Any]) -> None:
    """Writes job.json; raises as `check_job`."""
    check_job(folder, job)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / JOB) as file:
        file.write((json.dumps(job, indent=2) + "\n").encode())


def last_error(log: str) -> str:
    """Returns the last line of a log that tells of an error, or its last line."""
    lines = [line for line in Path(log).read_text(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it has said nothing"])[-1]
