from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from omnisource.checkpoints.disk import NEEDED_BESIDES_BYTES, tensor_bytes, warn_if_disk_is_nearly_full
from omnisource.checkpoints.file import Checkpoint, checkpoint_path, save_checkpoint


def test_disk_with_space_for_the_next_checkpoints_is_not_warned_of(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 2 * NEEDED_BESIDES_BYTES:
        pytest.skip("the disk of this machine is nearly full")
    assert warn_if_disk_is_nearly_full(tmp_path, checkpoint_bytes=1000) is None


def test_warning_names_the_folder_what_is_free_and_what_is_needed(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    warning = warn_if_disk_is_nearly_full(tmp_path, checkpoint_bytes=free // 2)  # one more would fit, three do not
    assert warning is not None
    assert warning.startswith(f"warning: {tmp_path}: the disk is nearly full: ")
    free_gib, needed_gib = (float(part.split()[0]) for part in (warning.split("full: ")[1], warning.split("need ")[1]))
    assert free_gib == pytest.approx(free / 2**30, abs=1)  # other processes write meanwhile
    assert needed_gib == pytest.approx((3 * (free // 2) + NEEDED_BESIDES_BYTES) / 2**30, abs=0.1)


def test_disk_that_cannot_be_asked_is_a_warning_and_no_end_of_the_run(tmp_path: Path) -> None:
    warning = warn_if_disk_is_nearly_full(tmp_path / "missing", checkpoint_bytes=1)
    assert warning is not None
    assert f"{tmp_path / 'missing'}: how much space is left" in warning


def test_size_of_the_tensors_is_nearly_that_of_the_checkpoint(tmp_path: Path) -> None:
    model = {"weight": torch.zeros(1000, 300), "half": torch.zeros(50_000, dtype=torch.bfloat16)}
    state = {"step": 3, "model": model, "momenta": [torch.ones(300_000), None, (torch.ones(7, dtype=torch.int64), 0.5)]}
    assert tensor_bytes(state) == 4 * 300_000 + 2 * 50_000 + 4 * 300_000 + 8 * 7
    path = checkpoint_path(tmp_path, 3)
    save_checkpoint(Checkpoint({}, {}, {}, state), path, keep_last=1)
    assert path.stat().st_size == pytest.approx(tensor_bytes(state), rel=0.01)
