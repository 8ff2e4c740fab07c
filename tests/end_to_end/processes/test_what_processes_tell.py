"""What a user learns of processes other than the first."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.conftest import PROJECT
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides
from tests.support.tiny_runs import copy_with_damaged_video, roots, started_as_by_srun, torchrun

SLOW = """
import builtins
import os
import sys
import time
from omnisource.cli.main import main

opened = open

def open_slowly(file, *arguments, **options):
    if os.environ["RANK"] == "1" and str(file).lower().endswith((".jpg", ".jpeg", ".png")):
        time.sleep(0.15)  # as from a disk that only this machine has
    return opened(file, *arguments, **options)

builtins.open = open_slowly
sys.exit(main(sys.argv[1:]))
"""

RUNNING = """
import sys
from omnisource.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def test_wait_for_data_is_that_of_the_process_that_waits_longest(data: Path, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    overrides = tiny_overrides(num_epochs=1, more=[*roots(data), "num_workers=0", "validation.interval_epochs=0"])
    result = torchrun(script, "train", str(PUBLISHED_CONFIG), *overrides, "--work-dir", str(tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    written = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    lines = [line for line in map(json.loads, written) if line["kind"] == "step"]
    assert lines and all(0.1 < line["data_seconds"] <= line["step_seconds"] for line in lines)


def test_checkpoint_of_a_run_that_failed_is_reported_whichever_process_shows_the_error(
    data: Path, tmp_path: Path
) -> None:
    settings = ["validation.interval_epochs=0", "optimizer.learning_rate=1e30"]
    overrides = tiny_overrides(num_epochs=4, more=[*roots(data), *settings])
    arguments = [str(PUBLISHED_CONFIG), "--launcher", "pytorch", "--work-dir", str(tmp_path / "run")]
    result = torchrun(PROJECT / "tools/train.py", *arguments, "--cfg-options", *overrides)
    assert result.returncode != 0 and "is not finite" in result.stderr
    saved = list((tmp_path / "run/checkpoints").glob("step_*.pt"))
    assert len(saved) == 1
    assert result.stdout.count(f"The run is saved: {saved[0]}. Continue it with --resume auto.") == 1
    kept = sorted((tmp_path / "run/not_finite").iterdir())
    assert [path.name[-len("process_0.pt") :] for path in kept] == ["process_0.pt", "process_1.pt"]
    of_each = [[batch["keys"] for batch in torch.load(path, weights_only=True)] for path in kept]
    assert of_each[0] and of_each[1] and of_each[0] != of_each[1]


def test_process_goes_on_though_nobody_reads_what_it_has_met(data: Path, tmp_path: Path) -> None:
    copied = tmp_path / "data"
    copy_with_damaged_video(data, copied)
    script = tmp_path / "running.py"
    script.write_text(RUNNING)
    overrides = tiny_overrides(num_epochs=1, more=[*roots(copied), "max_unreadable=1"])
    processes = started_as_by_srun(
        script, "train", str(PUBLISHED_CONFIG), *overrides, "--work-dir", str(tmp_path / "run")
    )
    try:
        assert processes[1].stderr is not None
        processes[1].stderr.close()  # as by `2>&1 | head`, when that has ended
        _, errors = processes[0].communicate(timeout=200)
        processes[1].wait(timeout=200)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    assert json.loads((tmp_path / "run/run.json").read_text())["state"] == "complete"
    assert '"kind": "validation"' in (tmp_path / "run/unreadable.jsonl").read_text()
