"""Runs that are small enough for a test: recipes on the miniatures, and what to look at afterward."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from omnisource import Recipe, Source, Split
from omnisource.cli.arguments import load_recipe
from tests.support.media import moving_square, truncate, write_frames
from tests.support.miniature import (
    OWN_DATA_CONFIG,
    PUBLISHED_CONFIG,
    VIDEO_CLASSES,
    make_published_layout,
    own_data_overrides,
    tiny_overrides,
)

PROJECT = Path(__file__).resolve().parents[2]
TIMES = ("step_seconds", "data_seconds")

EPOCH, STEPS = 3, 6
"""Steps of an epoch, and of the run, that `mixed_recipe` gives with `SAVE_EVERY_STEP`."""

SAVE_EVERY_STEP = ("num_epochs=2", "checkpoints.interval_steps=1", "checkpoints.keep_last=9")


def make_data(folder: Path) -> Path:
    """Makes the miniature of the published layout and a third dataset of raw frames (4 items); returns its `data`."""
    make_published_layout(folder)
    lines = []
    for number in range(4):
        label = number % 3
        frames = moving_square(6, 36, 44, direction=list(VIDEO_CLASSES.values())[label], seed=70 + number)
        write_frames(folder / "data/raw" / f"item{number}", frames)
        lines.append(f"item{number} 6 {label}\n")
    (folder / "data/raw/list.txt").write_text("".join(lines))
    return folder / "data"


def roots(data: Path) -> list[str]:
    """Returns the overrides that point the published config to the miniature."""
    return [f"sources.{name}.root={data / name}" for name in ("kinetics400", "imagenet")]


def tiny_recipe(data: Path, *more: str) -> Recipe:
    """Returns the published recipe on the miniature: 12 videos and 15 images, 2 videos a step, so 6 steps an epoch."""
    return load_recipe(str(PUBLISHED_CONFIG), tiny_overrides(more=[*roots(data), *more]))


def own_data_recipe(*more: str) -> Recipe:
    """Returns the recipe of configs/examples/own_data.py on the miniature of class folders in the current folder."""
    return load_recipe(str(OWN_DATA_CONFIG), [*own_data_overrides(), *more])


def mixed_recipe(data: Path, *more: str) -> Recipe:
    """Returns a recipe of videos, images and raw frames with 2 microbatches a step: 3 steps an epoch, deterministic."""
    recipe = tiny_recipe(data, "accumulation=2", "deterministic=True", *more)
    raw = Source(
        media="video",
        label_space="kinetics400",
        root=str(data / "raw"),
        train=Split(list="list.txt", format="frames_folder"),
        batch_size=1,
        loss_weight=0.5,
        sampling=recipe.sources["kinetics400"].sampling,
        training_view=recipe.sources["kinetics400"].training_view,
    )
    return dataclasses.replace(recipe, sources={**recipe.sources, "raw": raw})


def lines_of(work_dir: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """Returns the lines of a metrics file without their times."""
    lines = [json.loads(line) for line in (work_dir / name).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def step_lines(work_dir: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """Returns the lines of the steps."""
    return [line for line in lines_of(work_dir, name) if line["kind"] == "step"]


def validation_lines(work_dir: Path) -> list[dict[str, Any]]:
    """Returns the lines of the validations."""
    return [line for line in lines_of(work_dir) if line["kind"] == "validation"]


def difference(ours: Any, theirs: Any, where: str = "") -> str:
    """Returns where two nested values first differ, "" if they are equal; tensors must be equal bit for bit."""
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return "" if ours.dtype == theirs.dtype and torch.equal(ours, theirs) else where or "the tensor"
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if ours.keys() != theirs.keys():
            return f"{where}: keys {sorted(map(str, ours.keys() ^ theirs.keys()))}"
        found = (difference(ours[key], theirs[key], f"{where}.{key}") for key in ours)
        return next(filter(None, found), "")
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        if len(ours) != len(theirs):
            return f"{where}: {len(ours)} and {len(theirs)} entries"
        found = (difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(ours, theirs, strict=True)))
        return next(filter(None, found), "")
    return "" if type(ours) is type(theirs) and ours == theirs else f"{where}: {ours!r} and {theirs!r}"


def run_python(arguments: Sequence[str], folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs Python with the given arguments in `folder`, on one thread; returns what came out."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        **options,
    )


def torchrun(
    script: Path, *arguments: str, processes: int = 2, restarts: int = 0, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a script in several processes without a GPU, with more variables; returns what came out."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    flags = [f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    return subprocess.run(
        [*command, *flags, str(script), *arguments],
        env={**environment(), "CUDA_VISIBLE_DEVICES": "", **(more or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def started_as_by_srun(
    script: Path, *arguments: str, processes: int = 2, **variables: str
) -> list[subprocess.Popen[str]]:
    """Starts the processes of a run that nobody but they themselves looks after."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": processes, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=environment()
            | {name: str(value) for name, value in (place | {"RANK": rank, "LOCAL_RANK": rank}).items()}
            | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]


def errors_of(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Waits until all processes have ended, and returns what each wrote to standard error; leaves none behind."""
    try:
        return [process.communicate(timeout=200)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()


def copy_with_damaged_video(data: Path, target: Path) -> Path:
    """Copies the miniature data; returns the validation video of the copy that is cut off, which process 1 reads."""
    shutil.copytree(data, target)
    listed = (target / "kinetics400/kinetics400_val_list_videos.txt").read_text().splitlines()
    return truncate(target / "kinetics400/videos_val" / listed[1].rsplit(" ", 1)[0], 0.1)


def environment() -> dict[str, str]:
    """Returns the environment of processes that tests start: one thread, and the checkout's package."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
