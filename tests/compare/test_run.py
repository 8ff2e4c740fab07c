from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from omnisource.cli.main import main
from omnisource.compare.job_files import last_error
from omnisource.compare.run import gpu_of
from tests.support.experiments import write_experiment
from tests.support.tiny_runs import environment


def test_killed_comparison_goes_on_does_nothing_twice_and_refuses_another_recipe(
    in_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = in_data
    write_experiment(folder)
    command = ["compare", "experiment.py", "--work-dir", "out"]
    assert main([*command, "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "3 runs" in output and "left: 3 runs" in output and not (folder / "out").exists()

    process = subprocess.Popen(
        [sys.executable, "-m", "omnisource", *command], cwd=folder, env=environment(), start_new_session=True
    )
    while not list(folder.glob("out/runs/*/*/trained.json")) and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/**/trained.json")}
    assert first and not (folder / "out/comparison.json").exists()

    # The first of two parts was not started: the second does what it leaves, and ends.
    assert main([*command, "--jobs", "2", "--shard", "2/2"]) == 0
    assert not (folder / "out/comparison.json").exists()
    assert main(command) == 0
    done = {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/**/trained.json")}
    assert len(done) == 3 and first.items() <= done.items()
    content = json.loads((folder / "out/comparison.json").read_text())
    assert content["missing"] == 0 and content["failed"] == {}
    assert [group["variant"] for group in content["variants"]] == ["pretrained", "joint"]
    assert content["differences"][0]["mean"] == pytest.approx(
        content["variants"][0]["mean"] - content["variants"][1]["mean"]
    )
    assert all(
        row["steps"] == 12 and (row["stage_steps"] > 0) == (row["variant"] == "pretrained") for row in content["runs"]
    )
    assert (folder / "out/comparison.svg").exists() and len((folder / "out/runs.csv").read_text().splitlines()) == 3

    (folder / "out/comparison.json").unlink()
    assert main([*command, "--results"]) == 0 and (folder / "out/comparison.json").exists()
    assert done == {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/**/trained.json")}
    scores = next(iter(folder.glob("out/runs/steps/all/one/joint/*/seed0/test.npz")))
    with np.load(scores) as whole:
        arrays = dict(whole)
    np.savez(scores, **{name: values[1:] for name, values in arrays.items()})
    assert main([*command, "--results"]) == 2 and "other items were tested" in capsys.readouterr().err
    scores.unlink()
    assert main(command) == 0  # it is tested again, and not trained
    assert done == {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/**/trained.json")}
    write_experiment(folder, "optimizer.learning_rate=0.02")
    assert main([*command, "--dry-run"]) == 2
    assert "optimizer.learning_rate: 0.01 before, 0.02 now" in capsys.readouterr().err


def test_runs_take_the_visible_gpus_in_turn_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu_of(0, count) for count in (0, 1)] == [{}, {}]
    assert [gpu_of(slot, 2)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    assert [gpu_of(slot, 2)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["5", "GPU-7", "5"]


def test_a_run_that_failed_is_told_by_its_error(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text("step 1\nerror: a.mp4: not a video\nThe run is saved.\n")
    assert last_error(str(log)) == "a.mp4: not a video"
    log.write_text("Traceback\nKilled\n\n")
    assert last_error(str(log)) == "Killed"
