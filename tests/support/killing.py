"""Kills a training run again and again, at any moment, and compares what comes of it with a run that nobody killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from omnisource.checkpoints.file import best_path, checkpoint_path, read_checkpoint, saved_checkpoints
from omnisource.training.train import train
from tests.support.holding import in_each_step, wait_to_be_killed
from tests.support.tiny_runs import difference, environment, lines_of, mixed_recipe

CONFIG = """
import os
from pathlib import Path
from tests.support.killing import never_too_quick
from tests.support.tiny_runs import mixed_recipe

never_too_quick(os.environ["KILLED_AIM"])
recipe = mixed_recipe(Path(os.environ["KILLED_DATA"]), *os.environ["KILLED_OVERRIDES"].split("|"))
"""

PATIENCE_SECONDS = 300.0
"""A life that does nothing for this long hangs."""

STATISTICS = ("model.image_statistics=true", "recompute_batch_norm=always", "recomputed_microbatches=4")
"""So the seconds of a validation are, in part, those in which BatchNorm's statistics are computed again."""

RUNS = {
    "float32": ("ema_decay=0.99", *STATISTICS),
    "bfloat16": (
        "ema_decay=0.99",
        *STATISTICS,
        "precision=bfloat16",
        "sources.kinetics400.sampling.clip_length=4",  # of 2 frames torch gets the gradients wrong on a CPU
        "sources.kinetics400.sampling.frame_interval=1",
    ),
}
"""The kinds of runs that are killed, as overrides of `mixed_recipe`: three sources, accumulation, dropout in all."""

STARTING, STEPPING = "while it starts", "after some steps"
SAVING, VALIDATING = "while a checkpoint is being written", "during a validation"

MOMENTS = (STARTING, STEPPING, STEPPING, SAVING, VALIDATING)
"""What is aimed at, in an order of its own for every five kills."""

EPOCH_STEPS = 3
"""Steps of `mixed_recipe` from one validation to the next."""

LONGEST_LIFE_STEPS = 9
"""Steps of a life that is to be killed; in the last of them it waits for that."""


def assert_killed_enough(moments: Counter[str], kills: int) -> None:
    """Checks that a run was killed as often as wanted, and at the moments where most can go wrong."""
    assert moments.total() == kills, f"killed {moments.total()} times, not {kills}: the run ended first; make it longer"
    missed = [moment for moment in (SAVING, VALIDATING) if not moments[moment]]
    assert not missed, f"never killed {' nor '.join(missed)}, in {kills} kills"


def killed_run(
    folder: Path,
    data: Path,
    overrides: Sequence[str],
    kills: int,
    seed: int,
    workers: Sequence[int] = (0, 1, 3),
    on_kill: Callable[[str], None] = lambda moment: None,
) -> Counter[str]:
    """Trains in `folder`/run, killing the process `kills` times with SIGKILL, and once more to the end.

    Returns how often it was killed by what it was doing; fewer times than wanted if it came to its end before.

    Args:
        folder: Where the config and the run go.
        data: The miniature of `make_data`.
        overrides: Of `mixed_recipe`.
        kills: How often.
        seed: Of the moments.
        workers: Numbers of loading workers that the lives take in turn.
        on_kill: Called after each kill with its moment.
    """
    config = folder / "config.py"
    config.write_text(CONFIG)
    rng, moments, work_dir = random.Random(seed), Counter[str](), folder / "run"
    aims = [aim for _ in range(0, kills, len(MOMENTS)) for aim in rng.sample(MOMENTS, len(MOMENTS))]
    for number, aim in enumerate(aims[:kills]):
        process = _start(config, data, overrides, work_dir, workers[number % len(workers)], aim)
        moment = _wait_for(aim, process, work_dir, rng)
        if process.poll() is not None:
            output, _ = process.communicate()
            assert process.returncode == 0, output
            break
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        moments[moment] += 1
        on_kill(moment)
    process = _start(config, data, overrides, work_dir, workers[kills % len(workers)])
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output
    return moments


def assert_equal_to_uninterrupted(killed: Path, uninterrupted: Path) -> None:
    """Compares last checkpoint, best checkpoint and every line of metrics.jsonl but for its times, bit for bit."""
    paths = [saved_checkpoints(folder)[-1] for folder in (killed, uninterrupted)]
    assert paths[0].name == paths[1].name
    for ours, theirs in (paths, [best_path(folder) for folder in (killed, uninterrupted)]):
        assert difference(read_checkpoint(ours).state, read_checkpoint(theirs).state) == ""
    assert lines_of(killed) == lines_of(uninterrupted)
    steps = [line["step"] for line in lines_of(killed) if line["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1))
    assert not list((killed / "checkpoints").glob("*.tmp"))
    # Every step that was done again had the same samples, losses and gradient as the first time.
    done = {line["step"]: line for line in lines_of(killed) if line["kind"] == "step"}
    for line in _whole_lines(killed / "metrics.discarded.jsonl"):
        if line["kind"] == "step":
            assert {key: value for key, value in line.items() if not key.endswith("_seconds")} == done[line["step"]]


def never_too_quick(aim: str) -> None:
    """Makes the training of this process wait at the last moment of the kind that is aimed at, until it is killed.

    Most lives are killed before. This is for machines on which whoever kills them comes too late for a moment.

    Args:
        aim: One of `MOMENTS`, or "" for a life that is to come to its end.
    """
    if aim in (STARTING, STEPPING):
        in_each_step(lambda step: wait_to_be_killed() if step == LONGEST_LIFE_STEPS else None, accumulation=2)
    elif aim == SAVING:
        sys.addaudithook(_in_second_checkpoint())
    elif aim == VALIDATING:
        register_module_forward_pre_hook(_in_second_validation())


def _in_second_checkpoint() -> Callable[[str, tuple[Any, ...]], None]:
    """Returns a hook that waits when the second checkpoint of a life is to get its name."""
    begun: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and Path(os.fsdecode(arguments[1])).name.startswith("step_"):
            begun.append(event)
            if len(begun) == 2:
                wait_to_be_killed()

    return hook


def _in_second_validation() -> Callable[[nn.Module, Any], None]:
    """Returns a hook that waits in the second validation of a life."""
    forwards: list[bool] = []  # whether in training; the last of each stretch of equal ones

    def hook(module: nn.Module, inputs: Any) -> None:
        if [module.training] != forwards[-1:]:
            forwards.append(module.training)
            if forwards.count(False) == 2:
                wait_to_be_killed()

    return hook


def _start(
    config: Path, data: Path, overrides: Sequence[str], work_dir: Path, num_workers: int, aim: str = ""
) -> subprocess.Popen[str]:
    variables = {"KILLED_DATA": str(data), "KILLED_OVERRIDES": "|".join(overrides), "KILLED_AIM": aim}
    command = [sys.executable, "-m", "omnisource", "train", str(config), f"num_workers={num_workers}"]
    return subprocess.Popen(
        [*command, "--work-dir", str(work_dir), "--resume", "auto", "--deterministic"],
        env={**environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(aim: str, process: subprocess.Popen[str], work_dir: Path, rng: random.Random) -> str:
    """Waits for the moment that is aimed at, or for the end of the process; returns which moment came.

    A checkpoint that is written and a validation are over within moments. So the process is stopped before it is looked
    at once more: what is seen then is what it is killed in.
    """
    end, first = time.monotonic() + PATIENCE_SECONDS, _last_step(work_dir)
    unfinished = _unfinished(work_dir)  # what a former life left
    if aim == STARTING:
        time.sleep(rng.uniform(0.1, 4.0))
        return STARTING if _last_step(work_dir) == first else STEPPING
    after = first + rng.randint(1, 4)
    while process.poll() is None:
        assert time.monotonic() < end, f"nothing has happened for {PATIENCE_SECONDS:g} s"
        if aim == STEPPING and _last_step(work_dir) >= after:
            return STEPPING
        if aim == SAVING and _unfinished(work_dir) - unfinished and _is_stopped(process):
            if _unfinished(work_dir) - unfinished:
                return SAVING
            os.kill(process.pid, signal.SIGCONT)
        if aim == VALIDATING and _is_validating(work_dir, first):
            time.sleep(rng.uniform(0, 0.1))
            if _is_stopped(process):
                if _is_validating(work_dir, first):
                    return VALIDATING
                os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.0005)
    return STEPPING


def _is_stopped(process: subprocess.Popen[str]) -> bool:
    """Stops a process; returns whether it is stopped, and not at its end."""
    os.kill(process.pid, signal.SIGSTOP)  # it is our child, so the number is its own until we have waited for it
    while True:
        try:
            state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state in "TZX":
            return state == "T"
        time.sleep(0.0005)


def _unfinished(work_dir: Path) -> set[str]:
    return {path.name for path in (work_dir / "checkpoints").glob("*.tmp")}


def _is_validating(work_dir: Path, first: int) -> bool:
    """Returns whether the last line that a life has written is the step before a validation."""
    step = _last_step(work_dir)
    return step > first and step % EPOCH_STEPS == 0 and not _is_validated(work_dir, step)


def _last_step(work_dir: Path) -> int:
    return max((line["step"] for line in _whole_lines(work_dir / "metrics.jsonl")), default=0)


def _is_validated(work_dir: Path, step: int) -> bool:
    lines = _whole_lines(work_dir / "metrics.jsonl")
    return any(line["kind"] == "validation" and line["step"] == step for line in lines)


def _whole_lines(path: Path) -> Iterator[dict]:
    """Yields the lines of a file that may be in the middle of being written; none where it is not there."""
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def uninterrupted_run(folder: Path, data: Path, overrides: Sequence[str]) -> Path:
    """Trains in `folder`/whole, in this process, without being killed; returns the work dir."""
    train(mixed_recipe(data, *overrides, "deterministic=True", "num_workers=0"), folder / "whole")
    assert checkpoint_path(folder / "whole", _last_step(folder / "whole")).exists()
    return folder / "whole"
