"""Whether a run that goes on is the same run: what its checkpoint remembers, what must be equal, what may differ."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from omnisource.checkpoints.file import Checkpoint
from omnisource.data.decoding.container import decoder_versions
from omnisource.data.lists.items import Items, is_same_digest
from omnisource.distributed import processes
from omnisource.errors import UserError, shortened
from omnisource.recipe.keys import differences, is_among, marked_keys
from omnisource.recipe.marks import MAY_DIFFER
from omnisource.recipe.plain import from_plain, to_plain
from omnisource.recipe.recipe import Recipe
from omnisource.training.plan import Plan

RESAMPLING = (
    "training: antialiased bilinear, crop before resize, JPEGs reduced as far as their crop allows; "
    "evaluation: bilinear without antialiasing"
)
"""How frames are resized; another way makes other pixels of the same files, so checkpoints remember it."""


def run_facts(plan: Plan, items: Mapping[str, Items]) -> dict[str, Any]:
    """Returns what a checkpoint remembers of how its run was made."""
    return {
        "versions": {name: _version(name) for name in ("omnisource", "torch", "av", "pillow", "simplejpeg", "numpy")},
        "threads": torch.get_num_threads(),
        "processor": processor_name(),
        "decoder": decoder_versions(),
        "resampling": RESAMPLING,
        "microbatches": plan.microbatches,
        "digests": {name: of_source.digest() for name, of_source in items.items()},
    }


def processor_name() -> str:
    """Returns the kind of the GPU or, without one, of the processor: sums come out differently on others."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def with_same_microbatches(
    recipe: Recipe, checkpoint: Checkpoint, path: Path, num_processes: int
) -> tuple[Recipe, list[str]]:
    """Returns the recipe with the accumulation that keeps the microbatches a step of an interrupted run.

    What it changed is said in a line.

    Raises:
        UserError: If the number of processes does not divide them.
    """
    microbatches = checkpoint.facts["microbatches"]
    accumulation, rest = divmod(microbatches, num_processes)
    if rest or not accumulation:
        counts = [str(count) for count in range(1, microbatches + 1) if microbatches % count == 0]
        raise UserError(
            f"{path}: the run has {microbatches} microbatches a step (processes x accumulation), which {num_processes} "
            f"processes cannot share out evenly. Start it with {' or '.join(counts)} processes."
        )
    if accumulation == recipe.accumulation:
        return recipe, []
    kept = f"the run goes on with {microbatches} microbatches a step"
    note = f"accumulation={accumulation}, not {recipe.accumulation}: {kept}"
    return replace(recipe, accumulation=accumulation), [note]


def check_same_run(checkpoint: Checkpoint, path: Path, recipe: Recipe, facts: Mapping[str, Any]) -> None:
    """Checks that a checkpoint is of the run that the recipe describes.

    Raises:
        UserError: Listing what differs; or if the checkpoint's recipe has keys that a newer omnisource wrote.
    """
    theirs = from_plain(type(recipe), checkpoint.recipe, str(path))  # with defaults for keys that came later
    may_differ = marked_keys(type(recipe), MAY_DIFFER)
    differing = [
        f"  {key}: {their_value!r} in the checkpoint, {our_value!r} now"
        for key, our_value, their_value in differences(to_plain(recipe), to_plain(theirs))
        if not is_among(key, may_differ)
    ]
    for name, digest in facts["digests"].items():
        their_digest = checkpoint.facts["digests"].get(name)
        if their_digest is not None and not is_same_digest(their_digest, digest):
            what = "other items, labels or another order, or other numbers of frames"
            differing.append(f"  the training list of source {name} has {what}")
    if differing:
        raise UserError(
            f"{path} is of another run:\n{shortened(differing)}\nGive the recipe of the checkpoint, or start a new run "
            "from its weights with model.weights=FILE."
        )


def resume_notes(checkpoint: Checkpoint | None) -> list[str]:
    """Returns what a user should know about continuing here: versions, threads, processes that are others now."""
    if checkpoint is None:
        return []
    now = {name: _version(name) for name in checkpoint.facts["versions"]}
    changed = [f"{name} {old} -> {now[name]}" for name, old in checkpoint.facts["versions"].items() if old != now[name]]
    if checkpoint.facts["resampling"] != RESAMPLING:
        changed.append(f"resampling {checkpoint.facts['resampling']!r} -> {RESAMPLING!r}")
    facts = {"threads": torch.get_num_threads(), "processor": processor_name(), "decoder": decoder_versions()}
    for name, now_here in facts.items():
        before = checkpoint.facts.get(name, now_here)  # version 0.1.0 noted the threads alone
        if before != now_here:
            changed.append(f"{name} {before} -> {now_here}")
    before, here = checkpoint.facts["microbatches"] // checkpoint.recipe["accumulation"], processes.world_size()
    if before != here:
        changed.append(f"processes {before} -> {here}")
    notes = [f"bit-for-bit equality with the interrupted run is not promised: {', '.join(changed)}"] if changed else []
    if before != here and checkpoint.recipe.get("sync_batch_norm"):
        notes.append(
            f"sync_batch_norm=True: BatchNorm's batches were those of {before} processes together and are now those of "
            f"{here}, so the run goes on as another one; start {before} processes to continue the same"
        )
    return notes


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # simplejpeg, which is not needed
        return "none"
