"""Continuing a run: which checkpoint, whether it is of the same run, and what a former run left behind."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from omnisource import config
from omnisource.data.annotations import Items
from omnisource.errors import UserError, shortened
from omnisource.plan import Plan
from omnisource.recipe import Recipe
from omnisource.training.checkpoint import Checkpoint, best_path, checkpoint_path, read_checkpoint, saved_checkpoints

MAY_DIFFER = (
    "num_workers",
    "item_timeout_seconds",
    "log_interval_steps",
    "views_at_a_time",
    "max_unreadable",
    "checkpoints.",
    "validation.",
    "model.weights",
)
"""Keys, or beginnings of keys, that a resumed run may change: they do not touch what is trained."""

PATH_KEYS = (".root", ".folder", ".list", ".classes")
"""Ends of keys that say where data lies; a resumed run may change them as long as the lists are the same."""


def find_checkpoint(work_dir: Path, resume: str) -> Path | None:
    """Returns the checkpoint that a run continues from, or None for a new run.

    Args:
        work_dir: Folder of the run.
        resume: "" for a new run, "auto" for the newest checkpoint of `work_dir` if there is one, or a file.

    Raises:
        UserError: If a new run is wanted where there is one already.
    """
    if resume and resume != "auto":
        return Path(resume)
    saved = saved_checkpoints(work_dir)
    if resume == "auto":
        return saved[-1] if saved else None
    if saved or (work_dir / "metrics.jsonl").exists():
        raise UserError(
            f"{work_dir} already holds a run. Continue it with --resume auto, or choose another --work-dir."
        )
    return None


def prepare_work_dir(work_dir: Path, recipe: Recipe, step: int, is_resumed: bool) -> None:
    """Makes the work dir; on resume sets aside what a former run wrote after the step that is resumed."""
    work_dir.mkdir(parents=True, exist_ok=True)
    (work_dir / "recipe.json").write_text(config.to_json(recipe) + "\n", encoding="utf-8")
    if is_resumed:
        for path in saved_checkpoints(work_dir):
            if path > checkpoint_path(work_dir, step):
                path.rename(path.with_suffix(".pt.discarded"))
        best = best_path(work_dir)
        if best.exists() and read_checkpoint(best).state["step"] > step:
            best.rename(best.with_suffix(".pt.discarded"))


def run_facts(numbers: Plan, items: Mapping[str, Items]) -> dict[str, Any]:
    """Returns what a checkpoint remembers of how its run was made."""
    versions = {name: importlib.metadata.version(name) for name in ("omnisource", "torch", "av", "pillow", "numpy")}
    return {
        "versions": versions,
        "threads": torch.get_num_threads(),
        "resampling": "training: antialiased bilinear, crop before resize; evaluation: bilinear without antialiasing",
        "microbatches": numbers.microbatches,
        "batch_sizes": dict(numbers.batch_sizes),
        "digests": {name: of_source.digest() for name, of_source in items.items()},
    }


def check_same_run(checkpoint: Checkpoint, path: Path, recipe: Recipe, facts: Mapping[str, Any]) -> None:
    """Checks that a checkpoint is of the run that the recipe describes.

    Raises:
        UserError: Listing what differs.
    """
    differing = [
        f"  {key}: {theirs!r} in the checkpoint, {ours!r} now"
        for key, ours, theirs in config.differences(config.to_plain(recipe), checkpoint.recipe)
        if not key.startswith(MAY_DIFFER) and not key.endswith(PATH_KEYS)
    ]
    for name, digest in facts["digests"].items():
        theirs = checkpoint.facts["digests"].get(name)
        if theirs is not None and theirs != digest:
            differing.append(f"  the training list of source {name} has other items, labels or another order")
    if checkpoint.facts["microbatches"] != facts["microbatches"]:
        theirs, ours = checkpoint.facts["microbatches"], facts["microbatches"]
        differing.append(f"  processes x accumulation: {theirs} in the checkpoint, {ours} now")
    if differing:
        raise UserError(
            f"{path} is of another run:\n{shortened(differing)}\nGive the recipe of the checkpoint, or start a new run "
            "from its weights with model.weights=FILE."
        )


def resume_notes(checkpoint: Checkpoint | None) -> list[str]:
    """Returns what a user should know about continuing here: versions and threads that are others now."""
    if checkpoint is None:
        return []
    now = {name: importlib.metadata.version(name) for name in checkpoint.facts["versions"]}
    changed = [f"{name} {old} -> {now[name]}" for name, old in checkpoint.facts["versions"].items() if old != now[name]]
    if checkpoint.facts["threads"] != torch.get_num_threads():
        changed.append(f"threads {checkpoint.facts['threads']} -> {torch.get_num_threads()}")
    return [f"bit-for-bit equality with the interrupted run is not promised: {', '.join(changed)}"] if changed else []
