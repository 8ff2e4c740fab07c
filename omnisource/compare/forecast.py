"""What a comparison will cost: the runs that are left, their multiply-adds, and about how long they take here."""

from __future__ import annotations

import json
import statistics
import time

import torch

from omnisource.compare.budget import training_cost, view_shape
from omnisource.compare.job_files import TRAINED, is_done
from omnisource.compare.run import Runner
from omnisource.distributed.cores import usable_cores
from omnisource.distributed.processes import choose_device
from omnisource.evaluation.precision import autocast
from omnisource.models.recognizer import Recognizer
from omnisource.printing import show
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.lines import clock
from omnisource.reporting.tables import print_table
from omnisource.types import Batch

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (0, ""))
_MEASURED_SECONDS = 1.0
"""At least so long steps are measured, and three of them; the first one allocates, and does not count."""


def print_plan(runner: Runner) -> None:
    """Prints the runs that are known, with steps and multiply-adds, and what is left to do; writes nothing."""
    jobs = runner.jobs()
    rows = []
    for name, job in jobs.items():
        state = "done" if is_done(runner.folder_of(name), job.splits) else ""
        rows.append([name, str(job.spent.steps), _counted(job.spent.multiply_adds), job.before, state])
    print_table("Runs", ["run", "steps", "multiply-adds", "starts from", ""], rows)
    total = sum(job.spent.multiply_adds for job in jobs.values())
    show(f"{len(jobs)} runs, {_counted(total)} multiply-adds; {runner.total() - len(jobs)} more follow the choices")
    if left := runner.left():
        cost = sum(job.spent.multiply_adds for job in left.values())
        pace, of_what = _pace(runner, next(iter(left.values())).spent.recipe)
        time_left = clock(cost * pace / runner.share.jobs)
        at_a_time = f"{runner.share.jobs} at a time" if runner.share.jobs > 1 else "one at a time"
        show(f"left: {len(left)} runs, {_counted(cost)} multiply-adds, about {time_left} {at_a_time}, {of_what}")


def _counted(multiply_adds: float) -> str:
    unit, name = next((unit, name) for unit, name in _UNITS if multiply_adds >= unit)
    return f"{multiply_adds / (unit or 1):.1f} {name}".rstrip()


def _pace(runner: Runner, recipe: Recipe) -> tuple[float, str]:
    """Returns seconds for each multiply-add of training, and what they were measured on."""
    paces = []
    for name, job in runner.jobs().items():
        path = runner.folder_of(name) / TRAINED
        seconds = json.loads(path.read_text()).get("seconds") if path.exists() else None
        if seconds:
            paces.append(seconds / job.spent.multiply_adds)
    if paces:
        return statistics.median(paces), f"at the pace of the {len(paces)} that are trained; tests come on top"
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, min(threads, usable_cores() // runner.share.jobs)))
    try:
        return measured_pace(recipe), "at the pace of a step on clips in memory; reading, validation, tests come on top"
    finally:
        torch.set_num_threads(threads)


def measured_pace(recipe: Recipe) -> float:
    """Returns the seconds that each multiply-add of training takes here, by a step on a batch of the main source.

    Args:
        recipe: With known numbers of classes.
    """
    source = recipe.sources[recipe.main_source]
    frames, size = view_shape(source)
    number = source.batch_size or 1
    device = choose_device()
    recognizer = Recognizer(recipe.model, recipe.label_spaces).to(device)
    clips = torch.zeros(number, 1, 3, frames, size, size, dtype=torch.uint8, device=device)
    labels = torch.zeros(number, dtype=torch.int64, device=device)
    batch = Batch(recipe.main_source, source.media, source.label_space, clips, labels, ("",) * number)
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < _MEASURED_SECONDS:
        beginning = time.perf_counter()
        with autocast(device, recipe.precision):
            loss = recognizer([batch])[recipe.main_source]
        loss.backward()
        loss.item()
        seconds.append(time.perf_counter() - beginning)
    return statistics.median(seconds[1:]) / (number * training_cost(recipe, recipe.main_source))
