from __future__ import annotations

import errno
import os
import re
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from omnisource.checkpoints.file import (
    Checkpoint,
    Header,
    best_path,
    checkpoint_path,
    copy_checkpoint,
    read_checkpoint,
    read_header,
    remove_unfinished,
    save_checkpoint,
    saved_checkpoints,
)
from omnisource.errors import UserError
from omnisource.training.state import TrainState
from tests.support.tiny_runs import difference

REFERENCE = Path(__file__).parents[1] / "reference"


def checkpoint(step: int, size: int = 4) -> Checkpoint:
    state: dict[str, Any] = {"model": {"weight": torch.full((size,), float(step))}, "step": step}
    return Checkpoint({"seed": 0}, {"digits": ["zero", "one"]}, {"threads": 1}, state)


def save(work_dir: Path, *steps: int, keep_last: int = 99, size: int = 4) -> None:
    for step in steps:
        save_checkpoint(checkpoint(step, size), checkpoint_path(work_dir, step), keep_last)


def steps_of(work_dir: Path) -> list[int]:
    return [read_checkpoint(path).state["step"] for path in saved_checkpoints(work_dir)]


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    save(tmp_path, 7)
    read = read_checkpoint(checkpoint_path(tmp_path, 7))
    assert read.recipe == {"seed": 0}
    assert read.class_names == {"digits": ["zero", "one"]}
    assert read.facts == {"threads": 1}
    assert read.state["step"] == 7
    assert torch.equal(read.state["model"]["weight"], torch.full((4,), 7.0))


def test_state_of_a_run_survives_saving(tmp_path: Path) -> None:
    def state() -> TrainState:
        model = nn.Linear(3, 2)
        return TrainState(model, torch.optim.AdamW(model.parameters(), lr=0.1))

    torch.manual_seed(0)
    before = state()
    before.model(torch.randn(4, 3)).sum().backward()
    before.optimizer.step()
    before.step, before.samples_seen, before.unreadable = 5, {"clips": 20}, {"a.mp4": "cut short"}
    before.best_score, before.best_step, before.validated_step = 0.25, 4, 4
    save_checkpoint(Checkpoint({}, {}, {}, before.state_dict()), checkpoint_path(tmp_path, 5), 1)
    after = state()
    after.load_state_dict(read_checkpoint(checkpoint_path(tmp_path, 5)).state)
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], tensor)
    moments = [list(run.optimizer.state_dict()["state"].values()) for run in (before, after)]
    for ours, theirs in zip(*moments, strict=True):
        assert ours.keys() == theirs.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    names = ("step", "samples_seen", "unreadable", "best_score", "best_step", "validated_step")
    assert all(getattr(after, name) == getattr(before, name) for name in names)


def test_newest_are_kept_and_the_best_besides(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    copy_checkpoint(checkpoint_path(tmp_path, 1), best_path(tmp_path))
    save(tmp_path, 3, 10, keep_last=2)
    assert steps_of(tmp_path) == [3, 10]
    assert read_checkpoint(best_path(tmp_path)).state["step"] == 1
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "best.pt",
        "step_000000003.pt",
        "step_000000010.pt",
    ]


def test_steps_are_ordered_as_numbers_and_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, 9, 1_234_567_890, 100)
    folder = tmp_path / "checkpoints"
    for name in (
        "step_1.pt.discarded",
        ".step_000000004.pt.1.tmp",
        "step_000000004.pt.0a.tmp",
        "step_x.pt",
        "best.pt.discarded",
    ):
        (folder / name).touch()
    assert steps_of(tmp_path) == [9, 100, 1_234_567_890]
    assert saved_checkpoints(tmp_path / "nowhere") == []


def test_copy_of_the_best_replaces_the_former_one_and_shares_no_fate_with_its_origin(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for step in (1, 2):
        copy_checkpoint(checkpoint_path(tmp_path, step), best_path(tmp_path))
    assert read_checkpoint(best_path(tmp_path)).state["step"] == 2
    save_checkpoint(checkpoint(3), checkpoint_path(tmp_path, 2), keep_last=9)  # replaced, not written into
    assert read_checkpoint(best_path(tmp_path)).state["step"] == 2
    checkpoint_path(tmp_path, 2).unlink()
    assert read_checkpoint(best_path(tmp_path)).state["step"] == 2
    with pytest.raises(UserError, match=r"best\.pt: the checkpoint cannot be written"):
        copy_checkpoint(tmp_path / "missing.pt", best_path(tmp_path))
    assert read_checkpoint(best_path(tmp_path)).state["step"] == 2


def test_full_disk_leaves_the_files_that_are_there_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        for step in (1, 2):  # over an existing one, and a new one
            with pytest.raises(UserError) as failed:
                save(tmp_path, step, size=100_000, keep_last=1)
            assert f"{checkpoint_path(tmp_path, step)}: the checkpoint cannot be written" in str(failed.value)
            assert os.strerror(errno.EFBIG) in str(failed.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000000001.pt"]
    assert len(read_checkpoint(checkpoint_path(tmp_path, 1)).state["model"]["weight"]) == 4


def test_file_where_the_folder_should_be_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save(tmp_path, 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999, *np.random.default_rng(1).random(50)])
def test_truncated_checkpoint_is_refused_by_name(tmp_path: Path, share: float) -> None:
    save(tmp_path, 1, size=1000)
    path = checkpoint_path(tmp_path, 1)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"step_000000001\.pt: (damaged|not a whole checkpoint of ours, or truncated)"):
        read_checkpoint(path)


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, 1, size=1000)
    path = checkpoint_path(tmp_path, 1)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for offset in [0, len(data) - 1, *rng.integers(0, len(data), 300).tolist()]:
        damaged = bytearray(data)
        damaged[offset] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"step_000000001\.pt: (damaged|not a whole checkpoint)"):
            read_checkpoint(path)
    path.write_bytes(data)
    assert read_checkpoint(path).state["step"] == 1


def test_other_programs_read_the_file_too(tmp_path: Path) -> None:
    save(tmp_path, 1)
    content = torch.load(checkpoint_path(tmp_path, 1), weights_only=True)
    assert content["state"] == {"step": 1}
    assert zipfile.ZipFile(checkpoint_path(tmp_path, 1)).testzip() is None


@pytest.mark.parametrize("version", [1, 2])
def test_checkpoint_of_an_earlier_format_is_read_and_its_content_is_verified(tmp_path: Path, version: int) -> None:
    old = REFERENCE / f"checkpoint_format_{version}.pt"
    numbers = torch.arange(600.0).reshape(20, 30)
    read = read_checkpoint(old)
    assert (read.recipe, read.class_names) == ({"seed": 0}, {"digits": ["zero", "one"]})
    assert read.facts == {"threads": 1, "microbatches": 1}
    assert torch.equal(read.state["model"]["weight"], numbers)
    assert torch.equal(read.state["model"]["half"], torch.arange(8).to(torch.bfloat16))
    assert torch.equal(read.state["optimizer"]["state"][0]["momentum_buffer"], numbers / 2)
    header = read_header(old)
    assert (header.step, header.best_score, header.best_step, header.recipe) == (7, 0.25, 4, {"seed": 0})
    data, state = old.read_bytes(), read.state
    path, rng = tmp_path / "old.pt", np.random.default_rng(version)
    for offset in rng.integers(0, len(data), 300).tolist():
        damaged = bytearray(data)
        damaged[offset] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read = read_checkpoint(path)
        except UserError as error:
            assert re.search(r"old\.pt: (damaged|not a whole checkpoint)", str(error))
        else:  # between the records, where nothing is kept
            assert difference(read.state, state) == ""
    for length in rng.integers(0, len(data) - 100, 50).tolist():
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"old\.pt: (damaged|not a whole checkpoint)"):
            read_checkpoint(path)


def test_header_is_read_without_the_tensors(tmp_path: Path) -> None:
    save(tmp_path, 7, size=100_000)
    path = checkpoint_path(tmp_path, 7)
    header = read_header(path)
    assert header == Header(7, None, None, {"seed": 0}, {"digits": ["zero", "one"]}, {"threads": 1})
    data = path.read_bytes()
    (record,) = (one for one in zipfile.ZipFile(path).infolist() if one.file_size == 400_000)
    damaged = bytearray(data)
    damaged[record.header_offset + 200_000] ^= 1  # in the tensor, which is not looked at
    path.write_bytes(damaged)
    assert read_header(path) == header
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(path)
    damaged = bytearray(data)
    damaged[data.index(b"digits")] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"step_000000007\.pt: not a whole checkpoint"):
        read_header(path)


@pytest.mark.skipif(not os.path.isfile("/proc/self/io"), reason="this system does not count what a process reads")
def test_checkpoint_is_read_once_and_its_header_almost_not_at_all(tmp_path: Path) -> None:
    def bytes_read_by(read: Callable[[Path], object]) -> int:
        read(path)  # what is imported and made the first time does not count
        before = Path("/proc/self/io").read_text()
        read(path)
        after = Path("/proc/self/io").read_text()
        return int(after.split()[1]) - int(before.split()[1])

    save(tmp_path, 1, size=2_000_000)
    path = checkpoint_path(tmp_path, 1)
    assert bytes_read_by(read_header) < 0.02 * path.stat().st_size
    assert bytes_read_by(read_checkpoint) < 1.02 * path.stat().st_size


def test_tensors_are_those_of_the_file_that_was_opened_whatever_becomes_of_it(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, size=100_000)
    path = checkpoint_path(tmp_path, 1)
    replaced = read_checkpoint(path)
    os.replace(checkpoint_path(tmp_path, 2), path)
    removed = read_checkpoint(path)
    path.unlink()
    assert (replaced.state["step"], removed.state["step"]) == (1, 2)
    assert replaced.state["model"]["weight"].unique().tolist() == [1]
    assert removed.state["model"]["weight"].unique().tolist() == [2]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system does not show the files of a process")
def test_file_that_takes_the_place_of_one_that_is_read_is_not_mixed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, 2, size=100_000)
    load = torch.load

    def load_late(*arguments: Any, **options: Any) -> Any:
        os.replace(checkpoint_path(tmp_path, 2), checkpoint_path(tmp_path, 1))
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", load_late)
    read = read_checkpoint(checkpoint_path(tmp_path, 1))
    assert read.state["step"] == 1 and read.state["model"]["weight"].unique().tolist() == [1]


def test_file_that_cannot_be_mapped_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:  # as torch does on a disk without mappings
        raise RuntimeError("unable to mmap 400000 bytes from file </proc/self/fd/3>: No such device (19)")

    save(tmp_path, 7, size=100_000)
    path = checkpoint_path(tmp_path, 7)
    monkeypatch.setattr(torch.UntypedStorage, "from_file", refuse)
    assert torch.equal(read_checkpoint(path).state["model"]["weight"], torch.full((100_000,), 7.0))
    assert read_header(path).step == 7
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged: its content is not what was written"):
        read_checkpoint(path)


@pytest.mark.skipif(not os.path.isfile("/proc/self/maps"), reason="this system does not show what a process maps")
def test_run_that_goes_on_keeps_no_checkpoint_open(tmp_path: Path) -> None:
    def state() -> TrainState:
        model = nn.Linear(300, 200)
        return TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))

    before = state()
    before.model(torch.ones(1, 300)).sum().backward()
    before.optimizer.step()
    path = checkpoint_path(tmp_path, 1)
    save_checkpoint(Checkpoint({}, {}, {}, before.state_dict()), path, 1)
    after, read = state(), read_checkpoint(path)
    after.load_state_dict(read.state)
    assert path.name in Path("/proc/self/maps").read_text()  # still held by `read`
    del read
    assert path.name not in Path("/proc/self/maps").read_text()
    momenta = [run.optimizer.state_dict()["state"][0]["momentum_buffer"] for run in (before, after)]
    assert torch.equal(*momenta)


def test_checkpoint_without_its_checksum_is_damaged(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = checkpoint_path(tmp_path, 1)
    content = torch.load(path, weights_only=True)
    assert content["format_version"] == 3
    torch.save(content, path)
    with pytest.raises(UserError, match="damaged: its content is not what was written"):
        read_checkpoint(path)


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_pickle_that_would_run_code_is_refused_and_nothing_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "made_by_the_pickle"
    torch.save({"format": "omnisource-checkpoint", "recipe": _Payload(trap)}, tmp_path / "trap.pt")
    with pytest.raises(UserError) as refused:
        read_checkpoint(tmp_path / "trap.pt")
    assert "refused, and nothing of it was run: it names posix.mkdir" in str(refused.value)
    assert "weights_only" not in str(refused.value)  # torch's advice to trust the file
    assert not trap.exists()


def test_other_files_are_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(1)}}, tmp_path / "published.pth")
    with pytest.raises(UserError, match=r"Start a new run from its weights: model\.weights=.*published\.pth"):
        read_checkpoint(tmp_path / "published.pth")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="not a checkpoint of a run"):
        read_checkpoint(tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("step 1\n")
    with pytest.raises(UserError, match="not a whole checkpoint of ours"):
        read_checkpoint(tmp_path / "text.pt")
    for missing in (tmp_path, tmp_path / "none.pt"):
        with pytest.raises(UserError, match="no such checkpoint"):
            read_checkpoint(missing)


def test_checkpoint_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    content = torch.load(checkpoint_path(tmp_path, 1), weights_only=True)
    torch.save({**content, "format_version": 4}, tmp_path / "newer.pt")
    with pytest.raises(UserError, match=r"written by a newer omnisource \(format 4\)"):
        read_checkpoint(tmp_path / "newer.pt")


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    names = ("step_000000002.pt.0123456789abcdef.tmp", ".step_000000002.pt.123.tmp", ".best.pt.123.tmp")
    for name in (*names, "mine.tmp"):
        (tmp_path / "checkpoints" / name).write_bytes(b"half")
    (tmp_path / "run.json.0123456789abcdef.tmp").write_bytes(b"half")
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    found = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert found == ["mine.tmp", "step_000000001.pt"]
    assert steps_of(tmp_path) == [1]
    remove_unfinished(tmp_path / "nowhere")


def test_program_of_torch_is_not_said_to_be_a_damaged_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "program.pt"
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Conv2d(1, 1, 1))), str(path))
    with pytest.raises(UserError, match=r"program\.pt: not a whole checkpoint of ours.*: it is a TorchScript archive"):
        read_checkpoint(path)
