"""Which checkpoint a run continues from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from omnisource.checkpoints.file import Checkpoint, checkpoint_path, save_checkpoint
from omnisource.errors import UserError
from omnisource.training.resuming.resume import read_resumed
from tests.support.tiny_runs import torchrun


def saved(work_dir: Path, *steps: int) -> list[Path]:
    for step in steps:
        content = Checkpoint({}, {}, {}, {"model": {"weight": torch.full((1000,), float(step))}, "step": step})
        save_checkpoint(content, checkpoint_path(work_dir, step), keep_last=9)
    return [checkpoint_path(work_dir, step) for step in steps]


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_newest_intact_checkpoint_is_read_and_what_is_wrong_with_newer_ones_is_reported(tmp_path: Path) -> None:
    assert read_resumed(tmp_path, "auto") == (None, None, [])
    assert read_resumed(tmp_path / "missing", "") == (None, None, [])
    first, second, third = saved(tmp_path, 1, 2, 10)
    flip_bit(third)
    second.write_bytes(second.read_bytes()[:-9])
    path, checkpoint, faults = read_resumed(tmp_path, "auto")
    assert path == first and checkpoint is not None and checkpoint.state["step"] == 1
    assert [fault.split(": ")[0] for fault in faults] == [str(third), str(second)]
    assert all(fault.endswith("; falling back to step_000000001.pt") for fault in faults)
    with pytest.raises(UserError) as refused:
        read_resumed(tmp_path, str(third))
    assert str(refused.value).startswith(f"{third}: damaged") and "\n" not in str(refused.value)


ON_TWO_PROCESSES = """
import json, os, sys
from pathlib import Path
import torch
from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.training.resuming.resume import read_resumed

processes.start(torch.device("cpu"))
os.chdir(sys.argv[1 + processes.rank()])
said = []
for resume in ("auto", "checkpoints/step_000000003.pt"):
    try:
        path, checkpoint, faults = read_resumed(Path(), resume)
        said.append([path.name, checkpoint.state["model"]["weight"][0].item(), len(faults)])
    except UserError as error:
        said.append(str(error))
    except SystemExit as error:
        said.append(error.code)
Path("said.json").write_text(json.dumps(said))
processes.stop()
"""


def test_what_one_process_finds_damaged_none_takes(tmp_path: Path) -> None:
    # Each process has a work dir of its own, as if one lay on a disk that does not read alike everywhere.
    folders = [tmp_path / "of first", tmp_path / "of second"]
    for folder, damaged in zip(folders, (3, 2), strict=True):
        saved(folder, 1, 2, 3)
        flip_bit(checkpoint_path(folder, damaged))
    script = tmp_path / "script.py"
    script.write_text(ON_TWO_PROCESSES)
    result = torchrun(script, *map(str, folders))
    assert result.returncode == 0, result.stderr
    first, second = (json.loads((folder / "said.json").read_text()) for folder in folders)
    assert first[0] == second[0] == ["step_000000001.pt", 1.0, 2]
    assert "step_000000003.pt: damaged" in first[1] and second[1] == 2
