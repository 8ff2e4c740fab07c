from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnisource.cli.main import main
from tests.support.tiny_runs import environment

EXPERIMENT = """
from pathlib import Path
from omnisource.compare.experiment import Budget, Experiment, Fold, joint, pretrained
from tests.support.tiny_runs import tiny_recipe

experiment = Experiment(
    recipe=tiny_recipe(
        Path("data").absolute(),
        "sources.kinetics400.train.folder=",
        "sources.imagenet.ends_with=",
        "sources.imagenet.batch_size=3",
        OVERRIDE,
    ),
    variants={"pretrained": pretrained(), "joint": joint()},
    folds={"one": Fold(train="train.txt", validation="validation.txt", test="test.txt")},
    budgets={"steps": Budget("video_steps", 12)},
    seeds=(0, 1),
)
"""


@pytest.fixture
def folder(in_data: Path) -> Path:
    root = in_data / "data/kinetics400"
    train, held_out = root / "kinetics400_train_list_videos.txt", root / "kinetics400_val_list_videos.txt"
    (root / "train.txt").write_text("".join(f"videos_train/{line}\n" for line in train.read_text().splitlines()))
    lines = [f"videos_val/{line}\n" for line in held_out.read_text().splitlines()]
    (root / "validation.txt").write_text("".join(lines[::2]))
    (root / "test.txt").write_text("".join(lines[1::2]))
    write_experiment(in_data, "seed=0")
    return in_data


def write_experiment(folder: Path, override: str) -> None:
    (folder / "experiment.py").write_text(EXPERIMENT.replace("OVERRIDE", repr(override)))


def test_killed_comparison_goes_on_does_nothing_twice_and_refuses_another_recipe(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", "experiment.py", "--work-dir", "out"]
    assert main([*command, "--dry-run"]) == 0
    assert "6 runs" in capsys.readouterr().out and not (folder / "out/runs").exists()

    process = subprocess.Popen(
        [sys.executable, "-m", "omnisource", *command], cwd=folder, env=environment(), start_new_session=True
    )
    while not list(folder.glob("out/runs/*/*/trained.json")) and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/**/trained.json")}
    assert first and not (folder / "out/comparison.json").exists()

    assert main([*command, "--jobs", "2"]) == 0
    done = {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/**/trained.json")}
    assert len(done) == 6 and first.items() <= done.items()
    content = json.loads((folder / "out/comparison.json").read_text())
    assert [group["variant"] for group in content["variants"]] == ["pretrained", "joint"]
    assert content["differences"][0]["mean"] == pytest.approx(
        content["variants"][0]["mean"] - content["variants"][1]["mean"]
    )
    assert all(
        row["steps"] == 12 and (row["stage_steps"] > 0) == (row["variant"] == "pretrained") for row in content["runs"]
    )
    assert (folder / "out/comparison.svg").exists() and len((folder / "out/runs.csv").read_text().splitlines()) == 5

    assert main(command) == 0
    assert done == {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/**/trained.json")}
    write_experiment(folder, "optimizer.learning_rate=0.02")
    assert main([*command, "--dry-run"]) == 2
    assert "optimizer.learning_rate: 0.01 before, 0.02 now" in capsys.readouterr().err
