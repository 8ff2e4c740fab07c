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
from dataclasses import dataclass, field
from pathlib import Path

from omnisource.training.checkpoint import best_path, checkpoint_path, read_checkpoint, saved_checkpoints
from tests.runs.tiny_runs import difference, environment, lines_of

CONFIG = """
import os
from pathlib import Path
from tests.runs.tiny_runs import mixed_recipe

recipe = mixed_recipe(Path(os.environ["KILLED_DATA"]), *os.environ["KILLED_OVERRIDES"].split("|"))
"""

PATIENCE_SECONDS = 300.0
"""A life that does nothing for this long hangs."""


@dataclass
class Deaths:
    """How often a run was killed, by what it was doing as far as one can see from outside."""

    moments: Counter[str] = field(default_factory=Counter)


def killed_run(
    folder: Path,
    data: Path,
    overrides: Sequence[str],
    kills: int,
    seed: int,
    workers: Sequence[int] = (0, 1, 3),
    on_kill: Callable[[str], None] = lambda moment: None,
) -> Deaths:
    """Trains in `folder`/run, killing the process `kills` times with SIGKILL, and once more to the end.

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
    rng, deaths, work_dir = random.Random(seed), Deaths(), folder / "run"
    for number in range(kills):
        moment = rng.choice(["while it starts", "after some steps", "after some steps", "while it saves", "validating"])
        process = _start(config, data, overrides, work_dir, workers[number % len(workers)])
        moment = _wait_for(moment, process, work_dir, rng)
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[0]
            break  # the run reached its end first
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deaths.moments[moment] += 1
        on_kill(moment)
    process = _start(config, data, overrides, work_dir, workers[kills % len(workers)])
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output
    return deaths


def assert_equal_to_uninterrupted(killed: Path, uninterrupted: Path) -> None:
    """Compares last checkpoint, best checkpoint and every line of metrics.jsonl but for its times, bit for bit."""
    paths = [saved_checkpoints(folder)[-1] for folder in (killed, uninterrupted)]
    assert paths[0].name == paths[1].name
    for ours, theirs in (paths, [best_path(folder) for folder in (killed, uninterrupted)]):
        assert difference(read_checkpoint(ours).state, read_checkpoint(theirs).state) == ""
    assert lines_of(killed) == lines_of(uninterrupted)
    steps = [line["step"] for line in lines_of(killed) if line["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1))
    assert not list((killed / "checkpoints").glob("*.tmp")) and not list((killed / "checkpoints").glob(".*.tmp"))
    # Every step that was done again had the same samples, losses and gradient as the first time.
    done = {line["step"]: line for line in lines_of(killed) if line["kind"] == "step"}
    for line in _whole_lines(killed / "metrics.discarded.jsonl"):
        if line["kind"] == "step":
            assert {key: value for key, value in line.items() if not key.endswith("_seconds")} == done[line["step"]]


def _start(
    config: Path, data: Path, overrides: Sequence[str], work_dir: Path, num_workers: int
) -> subprocess.Popen[str]:
    variables = {"KILLED_DATA": str(data), "KILLED_OVERRIDES": "|".join(overrides)}
    command = [sys.executable, "-m", "omnisource", "train", str(config), f"num_workers={num_workers}"]
    return subprocess.Popen(
        [*command, "--work-dir", str(work_dir), "--resume", "auto", "--deterministic"],
        env={**environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(moment: str, process: subprocess.Popen[str], work_dir: Path, rng: random.Random) -> str:
    """Waits for the moment, or for one like it that comes in its place; returns which came."""
    started, first = time.monotonic(), _last_step(work_dir)
    if moment == "while it starts":
        time.sleep(rng.uniform(0.1, 4.0))
        return moment if _last_step(work_dir) == first else "after some steps"
    after = first + rng.randint(1, 4)
    while process.poll() is None and time.monotonic() - started < PATIENCE_SECONDS:
        step = _last_step(work_dir)
        is_saving = step > first and any((work_dir / "checkpoints").glob(".*.tmp"))
        is_validating = step > first and step % 3 == 0 and not _is_validated(work_dir, step)
        has_stepped = step >= after
        if {"while it saves": is_saving, "validating": is_validating, "after some steps": has_stepped}[moment]:
            if moment != "while it saves":
                time.sleep(rng.uniform(0, 0.1))
            return moment
        if step >= first + 9:
            return "after some steps"
        time.sleep(0.0005)
    return "at its end"


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
    """Trains in `folder`/whole without being killed; returns the work dir."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.py"
    config.write_text(CONFIG)
    process = _start(config, data, overrides, folder / "whole", num_workers=1)
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output
    assert checkpoint_path(folder / "whole", _last_step(folder / "whole")).exists()
    return folder / "whole"
