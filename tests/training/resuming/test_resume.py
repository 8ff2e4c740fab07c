"""Which checkpoint a run continues from."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from omnisource.checkpoints.file import Checkpoint, best_path, checkpoint_path, save_checkpoint
from omnisource.errors import UserError
from omnisource.training.resuming.resume import discard_later_checkpoints, read_resumed
from omnisource.training.state import TrainState
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


def test_checkpoint_that_is_continued_from_does_not_depend_on_its_file_any_more(tmp_path: Path) -> None:
    [path] = saved(tmp_path, 7)
    read, checkpoint, _ = read_resumed(tmp_path, "auto")
    assert read == path and checkpoint is not None
    with path.open("r+b") as file:  # in place, as a disk that is not local may do it
        file.write(bytes(path.stat().st_size))
    assert torch.equal(checkpoint.state["model"]["weight"], torch.full((1000,), 7.0))


def fail_to_allocate(*_: object, **__: object) -> None:  # as torch does
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")


def fail_without_memory(*_: object) -> None:
    raise MemoryError


def test_checkpoint_that_cannot_be_read_for_another_reason_than_damage_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = saved(tmp_path, 1, 2)
    with monkeypatch.context() as without_memory:
        without_memory.setattr(torch, "load", fail_to_allocate)
        with pytest.raises(UserError, match=r"step_000000002\.pt: cannot be read, though it is not damaged: .*memory"):
            read_resumed(tmp_path, "auto")
        without_memory.setattr(zlib, "crc32", fail_without_memory)
        with pytest.raises(UserError, match="not enough memory"):
            read_resumed(tmp_path, "auto")
    torch.save({**torch.load(second, weights_only=True), "format_version": 99}, second)
    with pytest.raises(UserError, match="written by a newer omnisource"):
        read_resumed(tmp_path, "auto")


def test_best_checkpoint_that_cannot_be_read_for_another_reason_than_damage_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, best = *saved(tmp_path, 2), best_path(tmp_path)
    shutil.copy(*saved(tmp_path / "best", 1), best)
    model = nn.Linear(2, 2)
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1), step=2, best_step=1, best_score=0.5)
    with monkeypatch.context() as without_memory:
        without_memory.setattr(torch, "load", fail_to_allocate)
        with pytest.raises(UserError, match="memory"):
            discard_later_checkpoints(tmp_path, origin, state)
    assert discard_later_checkpoints(tmp_path, origin, state)
    flip_bit(best)
    assert not discard_later_checkpoints(tmp_path, origin, state)
    assert not best.exists() and best.with_suffix(".pt.discarded").exists()


ON_TWO_PROCESSES = """
import json, os, sys, threading
from pathlib import Path
import torch
from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.training.resuming import resume as resuming

*folders, seconds = sys.argv[1:]
resuming.APPEARING_SECONDS = float(seconds)
processes.start(torch.device("cpu"))
os.chdir(folders[processes.rank()])
late = Path("late.pt")
if late.exists():
    threading.Timer(1, late.rename, ["checkpoints/step_000000003.pt"]).start()
said = []
for resume in ("auto", "checkpoints/step_000000003.pt"):
    try:
        path, checkpoint, faults = resuming.read_resumed(Path(), resume)
        said.append([path.name, checkpoint.state["model"]["weight"][0].item(), len(faults)])
    except UserError as error:
        said.append(str(error))
    except SystemExit as error:
        said.append(error.code)
Path("said.json").write_text(json.dumps(said))
processes.stop()
"""


def folders_of_two_processes(folder: Path) -> list[Path]:
    """Returns a work dir for each process, as if one lay on a disk that does not read alike everywhere."""
    folders = [folder / "of first", folder / "of second"]
    for work_dir in folders:
        saved(work_dir, 1, 2, 3)
    return folders


def resumed_by_two_processes(folders: Sequence[Path], seconds: float = 60) -> list[list[Any]]:
    """Returns what each process reads from the newest checkpoint that it can go on from, and from that of step 3."""
    script = folders[0].parent / "script.py"
    script.write_text(ON_TWO_PROCESSES)
    result = torchrun(script, *map(str, folders), str(seconds))
    assert result.returncode == 0, result.stderr
    return [json.loads((folder / "said.json").read_text()) for folder in folders]


def test_what_one_process_finds_damaged_none_takes(tmp_path: Path) -> None:
    folders = folders_of_two_processes(tmp_path)
    for folder, damaged in zip(folders, (3, 2), strict=True):
        flip_bit(checkpoint_path(folder, damaged))
    first, second = resumed_by_two_processes(folders)
    # That of step 3 is passed over; that of step 2 is whole, as the first process finds, so it is not given up.
    assert first[0] == 2
    assert "step_000000002.pt: process 1 finds it damaged, and the first process does not" in second[0]
    assert "step_000000003.pt: damaged" in first[1] and second[1] == 2


def test_what_the_first_process_finds_damaged_all_pass_over(tmp_path: Path) -> None:
    folders = folders_of_two_processes(tmp_path)
    flip_bit(checkpoint_path(folders[0], 3))
    checkpoint_path(folders[1], 3).unlink()  # neither seen
    first, second = resumed_by_two_processes(folders, seconds=0)
    assert first[0] == second[0] == ["step_000000002.pt", 2.0, 1]


def test_checkpoint_that_another_process_sees_later_is_waited_for(tmp_path: Path) -> None:
    folders = folders_of_two_processes(tmp_path)
    checkpoint_path(folders[1], 3).rename(folders[1] / "late.pt")
    first, second = resumed_by_two_processes(folders)
    assert first == second == 2 * [["step_000000003.pt", 3.0, 0]]


def test_checkpoint_that_another_process_does_not_see_is_not_passed_over(tmp_path: Path) -> None:
    folders = folders_of_two_processes(tmp_path)
    checkpoint_path(folders[1], 3).unlink()
    first, second = resumed_by_two_processes(folders, seconds=0)
    assert first == [2, 2]
    assert all(said.endswith("step_000000003.pt: no such checkpoint") for said in second)
