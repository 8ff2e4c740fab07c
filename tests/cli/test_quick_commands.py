"""Commands that only read and list start at once: they import nothing that is large."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.media import moving_square, write_image, write_video
from tests.support.miniature import OWN_DATA_CONFIG

LARGE = {"torch", "torchvision", "tensorboard", "matplotlib", "scipy", "sklearn", "av", "PIL", "safetensors", "fsspec"}
"""Packages of which each takes longer to import than these commands may take in all."""


def large_imports(code: str, folder: Path) -> set[str]:
    """Returns which large packages a process has imported that runs `code` in `folder`."""
    ending = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + ending], cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return LARGE & set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "command",
    [
        ["show", str(OWN_DATA_CONFIG), "--keys", "num_epochs=3"],
        [
            "lists",
            "folders",
            "images",
            "--media=image",
            "--out=a.txt",
            "--validation-share=0.5",
            "--validation-out=b.txt",
        ],
        ["lists", "kinetics", "kinetics.csv", "videos", "--out", "k.txt"],
        ["runs", "."],
        ["watch", "run", "--once"],
        ["report", "run"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_command_that_only_reads_and_lists_imports_nothing_large(command: list[str], tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "images" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / f"images/{number % 2}/{number}.png", moving_square(2, 16, 16)[0])
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos/x_000000_000001.mp4", moving_square(2, 16, 16))
    (tmp_path / "kinetics.csv").write_text("label,youtube_id,time_start,time_end,split\nsurfing,x,0,1,train\n")
    (tmp_path / "run").mkdir()
    line = {"kind": "step", "step": 1, "epoch": 1, "losses": {"videos": 0.5}, "total_loss": 0.5, "learning_rate": 0.1}
    line |= {"gradient_norm": 1.0, "step_seconds": 0.1, "data_seconds": 0.0, "samples": {"videos": 2}}
    (tmp_path / "run/metrics.jsonl").write_text(json.dumps(line | {"total_steps": 2}) + "\n")
    code = f"from omnisource.cli.main import main\nassert main({command!r}) == 0"
    assert large_imports(code, tmp_path) == set()


def test_recipes_need_nothing_large(tmp_path: Path) -> None:
    code = "import omnisource.recipe.overrides, omnisource.recipe.loading\nfrom omnisource import Recipe, load_config"
    assert large_imports(code, tmp_path) == set()
