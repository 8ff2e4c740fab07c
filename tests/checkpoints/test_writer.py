from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from omnisource.checkpoints.file import (
    Checkpoint,
    best_path,
    checkpoint_path,
    read_checkpoint,
    saved_checkpoints,
)
from omnisource.checkpoints.writer import CheckpointWriter
from omnisource.errors import UserError


def content(value: float, size: int = 4) -> Checkpoint:
    state = {
        "model": {"weight": torch.full((size,), value)},
        "optimizer": {"state": {0: {"momentum_buffer": torch.full((size,), value)}}, "param_groups": [{"lr": value}]},
        "step": int(value),
    }
    return Checkpoint({}, {}, {}, state)


def test_state_may_change_as_soon_as_writing_has_begun(tmp_path: Path) -> None:
    writer = CheckpointWriter()
    checkpoint = content(1, size=200_000)
    writer.write(checkpoint, checkpoint_path(tmp_path, 1), keep_last=9)
    checkpoint.state["model"]["weight"].fill_(5)
    checkpoint.state["optimizer"]["state"][0]["momentum_buffer"].fill_(5)
    checkpoint.state["optimizer"]["param_groups"][0]["lr"] = 5
    checkpoint.state["step"] = 5
    writer.wait()
    state = read_checkpoint(checkpoint_path(tmp_path, 1)).state
    assert state["step"] == 1 and state["optimizer"]["param_groups"][0]["lr"] == 1
    assert state["model"]["weight"].unique().tolist() == [1]
    assert state["optimizer"]["state"][0]["momentum_buffer"].unique().tolist() == [1]


def test_process_is_kept_from_being_ended_until_the_files_lie_there_whole(tmp_path: Path) -> None:
    places = checkpoint_path(tmp_path, 1), best_path(tmp_path)
    there: list[list[bool]] = []

    @contextlib.contextmanager
    def saving() -> Iterator[None]:
        there.append([path.exists() for path in places])
        try:
            yield
        finally:
            there.append([path.exists() for path in places])

    writer = CheckpointWriter(saving)
    writer.write(content(1), places[0], keep_last=9, is_best=True)
    writer.wait()
    assert there == [[False, False], [True, True]]
    (tmp_path / "file").touch()
    writer.write(content(2), checkpoint_path(tmp_path / "file", 2), keep_last=9)  # also where it fails
    with pytest.raises(UserError):
        writer.wait()
    assert len(there) == 4


def test_checkpoints_are_written_in_their_order_and_the_newest_are_kept(tmp_path: Path) -> None:
    writer = CheckpointWriter()
    for step in range(1, 8):
        writer.write(content(step), checkpoint_path(tmp_path, step), keep_last=2, is_best=step == 3)
    writer.wait()
    assert [read_checkpoint(path).state["step"] for path in saved_checkpoints(tmp_path)] == [6, 7]
    assert read_checkpoint(best_path(tmp_path)).state["step"] == 3


def test_caller_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = threading.Event()

    class SlowDisk(type(tmp_path)):
        def mkdir(self, *arguments: object, **options: object) -> None:
            assert may_go_on.wait(60)
            super().mkdir(*arguments, **options)  # pyright: ignore[reportArgumentType]

    writer = CheckpointWriter()
    path = SlowDisk(tmp_path / "checkpoints" / "step_000000001.pt")
    writer.write(content(1), path, keep_last=2)
    assert not path.exists()  # and yet `write` has returned
    writer.raise_failure()
    may_go_on.set()
    writer.wait()
    assert read_checkpoint(path).state["step"] == 1


@pytest.mark.parametrize("reported_by", ["write", "wait", "raise_failure"])
def test_checkpoint_that_could_not_be_written_is_reported_once(tmp_path: Path, reported_by: str) -> None:
    writer = CheckpointWriter()
    writer.write(content(1), checkpoint_path(tmp_path, 1), keep_last=9)
    writer.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        writer.write(content(2, size=100_000), checkpoint_path(tmp_path, 2), keep_last=9)
        assert writer._thread is not None
        writer._thread.join()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(UserError, match=r"step_000000002\.pt: the checkpoint cannot be written"):
        if reported_by == "write":
            writer.write(content(3), checkpoint_path(tmp_path, 3), keep_last=9)
        else:
            getattr(writer, reported_by)()
    writer.wait()
    writer.raise_failure()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000000001.pt"]
