"""Runs on a GPU: float16 with a scaled loss, and the collectives of NCCL. Skipped where there is no GPU."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from omnisource.checkpoints.file import checkpoint_path, read_checkpoint
from omnisource.training.train import train
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides
from tests.support.tiny_runs import environment, roots, step_lines, tiny_recipe

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

TRAINING = """
import sys
import torch
from omnisource.cli.main import main

code = main(sys.argv[1:])
assert not torch.distributed.is_initialized()
sys.exit(code)
"""


def test_run_in_float16_resumes_as_it_would_have_gone_on(data: Path, tmp_path: Path) -> None:
    settings = ("precision=float16", "ema_decay=0.9", "validation.interval_epochs=0", "num_epochs=2")
    recipe = tiny_recipe(data, *settings, "checkpoints.interval_steps=1", "checkpoints.keep_last=99")
    train(recipe, tmp_path / "whole")
    # At 2^16, with which torch begins, gradients may overflow: the scale of the checkpoint is to go on.
    middle = checkpoint_path(tmp_path / "whole", 7)
    train(recipe, tmp_path / "resumed", resume=str(middle))
    whole, resumed = step_lines(tmp_path / "whole")[7:], step_lines(tmp_path / "resumed")
    assert [line["step"] for line in resumed] == list(range(8, 13))
    assert [line["samples_digest"] for line in resumed] == [line["samples_digest"] for line in whole]
    # Sums on a GPU are not made in one order, and every step multiplies the difference.
    assert resumed[0]["losses"] == pytest.approx(whole[0]["losses"], rel=1e-2)
    states = [read_checkpoint(checkpoint_path(tmp_path / name, 12)).state for name in ("whole", "resumed")]
    assert states[0]["scaler"]["scale"] == states[1]["scaler"]["scale"] < 2.0**17
    assert all(torch.isfinite(tensor).all() for state in states for tensor in state["model"].values())


def test_one_process_trains_through_nccl_as_without_a_process_group(data: Path, tmp_path: Path) -> None:
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    overrides = tiny_overrides(more=[*roots(data), "sync_batch_norm=True"])
    result = subprocess.run(
        [sys.executable, str(script), "train", str(PUBLISHED_CONFIG), *overrides, "--work-dir", str(tmp_path / "nccl")],
        env={**environment(), **{name: str(value) for name, value in place.items()}, "TORCH_CPP_LOG_LEVEL": "INFO"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert result.returncode == 0, result.stderr
    assert "ProcessGroupNCCL" in result.stderr
    status = json.loads((tmp_path / "nccl/run.json").read_text())
    assert status["state"] == "complete"
    train(tiny_recipe(data), tmp_path / "alone")
    ours, alone = step_lines(tmp_path / "nccl"), step_lines(tmp_path / "alone")
    assert [line["samples_digest"] for line in ours] == [line["samples_digest"] for line in alone]
    assert ours[0]["losses"] == pytest.approx(alone[0]["losses"], rel=1e-2)
