"""A signal to one process of a run stops all of them at one step, saved, and the run goes on as if it had not."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from omnisource.checkpoints.file import read_checkpoint, saved_checkpoints
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides
from tests.support.tiny_runs import difference, lines_of, roots, torchrun

if not torch.distributed.is_available():
    pytest.skip("this torch has no distributed package", allow_module_level=True)

SCRIPT = """
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
import torch
from omnisource.cli.main import main
from tests.support.holding import signal_in_step

def save_slowly(*arguments, save=torch.save):
    time.sleep(3)  # a slow disk
    save(*arguments)

if __name__ == "__main__":
    signaled, work_dir, *arguments = sys.argv[1:]
    rank = os.environ["RANK"]
    if signaled != "none":
        torch.save = save_slowly
    with signal_in_step(signal.SIGUSR1, 3) if rank == signaled else contextlib.nullcontext():
        code = main([*arguments, "--work-dir", work_dir, "--resume", "auto"])
    saved = sorted(path.name for path in Path(work_dir).glob("checkpoints/step_*.pt"))
    Path(work_dir, f"left_{rank}").write_text(f"{code} {saved}")
    sys.exit(code)
"""


@pytest.fixture(scope="module")
def command(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Returns the script of a process, and the arguments of a run of 12 steps."""
    script = tmp_path_factory.mktemp("script") / "run.py"
    script.write_text(SCRIPT)
    settings = tiny_overrides(num_epochs=4, more=[*roots(data), "deterministic=True", "validation.interval_epochs=2"])
    return script, ["train", str(PUBLISHED_CONFIG), *settings]


@pytest.fixture(scope="module")
def whole(command: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the work dir of the run that got no signal."""
    script, arguments = command
    work_dir = tmp_path_factory.mktemp("whole") / "run"
    result = torchrun(script, "none", str(work_dir), *arguments)
    assert result.returncode == 0, result.stderr
    return work_dir


@pytest.mark.parametrize("signaled", ["0", "1"])
def test_signal_to_one_process_stops_all_saved_and_the_run_goes_on_the_same(
    command: tuple[Path, list[str]], whole: Path, tmp_path: Path, signaled: str
) -> None:
    script, arguments = command
    stopped = tmp_path / "stopped"

    result = torchrun(script, signaled, str(stopped), *arguments)
    assert "Traceback" not in result.stderr.split("torch/distributed")[0], result.stderr
    [saved] = saved_checkpoints(stopped)
    step = read_checkpoint(saved).state["step"]
    assert 2 <= step < 12 and saved.name == f"step_{step:09d}.pt"
    # Both left with the documented code, and neither before the checkpoint was whole.
    assert 128 + signal.SIGUSR1 == 138
    assert [(stopped / f"left_{rank}").read_text() for rank in range(2)] == [f"138 {[saved.name]}"] * 2
    assert result.stdout.count("stopped and saved: ") == 1
    status = json.loads((stopped / "run.json").read_text())
    assert (status["state"], status["step"]) == ("interrupted", step)
    assert status["reason"] == f"SIGUSR1, saved as {saved.name}"

    result = torchrun(script, "none", str(stopped), *arguments)
    assert result.returncode == 0, result.stderr
    assert lines_of(stopped) == lines_of(whole)
    ours, theirs = (read_checkpoint(saved_checkpoints(work_dir)[-1]).state for work_dir in (stopped, whole))
    assert ours["step"] == 12 and difference(ours, theirs) == ""
