"""Holding a process at a chosen place until a test lets it go on, so that no machine is too fast or too slow for it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from omnisource.models.recognizer import Recognizer

PROJECT = Path(__file__).resolve().parents[2]

LONGEST_HOLD_SECONDS = 300.0
"""Nothing is held for longer, so that a test that fails leaves no process behind for ever."""

WAITING_AT_A_FILE = """
import os
import sys
import time

def wait(event, arguments, name=os.environ["HELD_FILE"], end=time.monotonic() + float(os.environ["HELD_SECONDS"])):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(name):
        open(os.environ["HELD_MARK"], "w").close()
        while time.monotonic() < end:
            time.sleep(0.01)

sys.addaudithook(wait)
"""
"""What a process and all those that it starts run before anything else, to wait when they open a file."""


def held_at_file(folder: Path, name: str) -> dict[str, str]:
    """Returns variables with which Python processes wait as soon as they open a file, until they are ended.

    The file `HELD_MARK` appears when one of them waits.

    A pipe that nobody writes to would do the same, were it not left out of lists because it is no ordinary file.

    Args:
        folder: Takes a module that Python imports whenever it starts.
        name: The last part of the file's path.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WAITING_AT_A_FILE)
    path = os.pathsep.join([str(folder), str(PROJECT)])
    held = {"HELD_FILE": name, "HELD_MARK": str(folder / "waits"), "HELD_SECONDS": str(LONGEST_HOLD_SECONDS)}
    return {"PYTHONPATH": path, **held}


def hold_in_step(step: int, place: Path) -> None:
    """Makes the training of this process wait in a step, 1-based, until `let_go`; the file `place`/held says so."""
    done: list[int] = []

    def wait(*_: object) -> None:
        done.append(len(done) + 1)
        if done[-1] == step:
            (place / "held").touch()
            _wait_for(place / "go", LONGEST_HOLD_SECONDS)

    register_optimizer_step_post_hook(wait)


HELD_CONFIG = """
from pathlib import Path
from omnisource import Recipe
from omnisource.recipe.loading import load_config
from tests.support.holding import hold_in_step
from tests.support.tiny_runs import mixed_recipe

hold_in_step({step}, Path({place!r}))
recipe = {recipe}
"""


def held_config(place: Path, step: int, recipe: str) -> Path:
    """Returns a config in `place` with which training waits in a step, 1-based, until `let_go`.

    Args:
        place: A folder.
        step: Which step.
        recipe: The recipe as an expression, which can use `mixed_recipe` and `load_config`.
    """
    path = place / "held.py"
    path.write_text(HELD_CONFIG.format(step=step, place=str(place), recipe=recipe))
    return path


def wait_until_held(place: Path, process: subprocess.Popen[str]) -> None:
    """Waits until a process is held that `hold_in_step` makes wait."""
    while not (place / "held").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def let_go(place: Path) -> None:
    """Lets a process go on that `hold_in_step` holds, or will."""
    (place / "go").touch()


def _wait_for(path: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} has not come in {seconds:g} s"
        time.sleep(0.01)


def in_each_step(act: Callable[[int], None], accumulation: int = 1) -> RemovableHandle:
    """Calls `act` whenever a step begins in the training of this process, before the forward of its first microbatch.

    Args:
        act: Is given the number of the step, 1-based, counted from now; called in the thread that trains.
        accumulation: Microbatches of a step in this process.

    Returns:
        A context manager whose end is the end of it.
    """
    forwards = 0

    def before(module: nn.Module, inputs: Any) -> None:
        nonlocal forwards
        # Without gradients it is not a step: statistics are computed again.
        if isinstance(module, Recognizer) and module.training and torch.is_grad_enabled():
            forwards += 1
            if forwards % accumulation == 1 % accumulation:
                act(-(-forwards // accumulation))

    return register_module_forward_pre_hook(before)


def signal_in_step(number: int, step: int, accumulation: int = 1) -> RemovableHandle:
    """Sends this process a signal in a step of its training, as `in_each_step` counts them; a context manager, too."""

    def send(begun: int) -> None:
        if begun == step:
            signal.raise_signal(number)

    return in_each_step(send, accumulation)


def wait_to_be_killed() -> None:
    """Waits for the end of this process, which somebody else brings about."""
    time.sleep(LONGEST_HOLD_SECONDS)
    raise AssertionError(f"nobody has killed this process in {LONGEST_HOLD_SECONDS:g} s")
