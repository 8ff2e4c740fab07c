"""Four processes, two with two microbatches each, and one with four: the same run, up to the last digits of float64."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from omnisource.checkpoints.file import checkpoint_path, read_checkpoint
from omnisource.errors import UserError
from omnisource.training.train import train
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides
from tests.support.tiny_runs import PROJECT, mixed_recipe, roots, step_lines, tiny_recipe, torchrun

if not torch.distributed.is_available():
    pytest.skip("this torch has no distributed package", allow_module_level=True)

STEPS = 4  # of 4 microbatches: 2 videos, 3 images, and one clip of raw frames, which is alone in its head
PROCESSES = (4, 2, 1)
TOLERANCE = 1e-9
# Gradients that are summed in another order differ in the last digit, 1e-16, and every step multiplies that. With the
# crops of 32 pixels of the other tests, which end as a single pixel, and their learning rate it is 6e-8 after the last
# step; with these it is 6e-12.
LARGER_CROPS = [f"sources.{name}.training_view.crop_size=64" for name in ("kinetics400", "imagenet")]
SETTINGS = (
    *LARGER_CROPS,
    "precision=float64",
    "optimizer.learning_rate=0.001",
    f"num_epochs={STEPS}",
    "ema_decay=0.9",
    "recompute_batch_norm=always",
    "validation.interval_epochs=0",
    "checkpoints.interval_steps=1",
    "checkpoints.keep_last=9",
)

SCRIPT = """
import sys
from pathlib import Path
from omnisource.distributed import processes
from omnisource.training.train import train
from tests.support.tiny_runs import mixed_recipe

data, work_dir, resume, *overrides = sys.argv[1:]
train(mixed_recipe(Path(data), *overrides), Path(work_dir), resume=resume)
processes.stop()
"""


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Returns the work dirs of three runs by their number of processes, each with 4 microbatches a step."""
    folder = tmp_path_factory.mktemp("process_counts")
    script = folder / "run.py"
    script.write_text(SCRIPT)
    for processes in PROCESSES:
        overrides = [*SETTINGS, f"accumulation={4 // processes}"]
        if processes == 1:
            train(mixed_recipe(data, *overrides), folder / "1")
            continue
        result = torchrun(script, str(data), str(folder / str(processes)), "", *overrides, processes=processes)
        assert result.returncode == 0, result.stderr
    return {processes: folder / str(processes) for processes in PROCESSES}


def state_after(work_dir: Path, step: int) -> dict[str, Any]:
    return read_checkpoint(checkpoint_path(work_dir, step)).state


def assert_close(ours: Any, theirs: Any, where: str = "") -> None:
    """Checks that all numbers agree to TOLERANCE; those of a tensor relative to the largest of it."""
    if isinstance(theirs, torch.Tensor) and theirs.is_floating_point():
        assert ours.dtype == theirs.dtype == torch.float64, where
        difference, largest = float((ours - theirs).abs().max()), float(theirs.abs().max())
        assert difference <= TOLERANCE * largest, f"{where}: {difference} of {largest}"
    elif isinstance(theirs, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(theirs, float):
        assert math.isclose(ours, theirs, rel_tol=TOLERANCE), f"{where}: {ours} and {theirs}"
    elif isinstance(theirs, dict | list | tuple):
        keys = list(theirs) if isinstance(theirs, dict) else range(len(theirs))
        assert len(ours) == len(theirs), where
        for key in keys:
            assert_close(ours[key], theirs[key], f"{where}.{key}")
    else:
        assert ours == theirs, f"{where}: {ours!r} and {theirs!r}"


@pytest.mark.parametrize("processes", [4, 2])
def test_losses_and_samples_of_all_process_counts_agree(runs: dict[int, Path], processes: int) -> None:
    ours, one = step_lines(runs[processes]), step_lines(runs[1])
    assert [line["step"] for line in one] == [1, 2, 3, 4]
    assert one[0]["samples"] == {"kinetics400": 8, "imagenet": 12, "raw": 4}
    assert len({line["samples_digest"] for line in one}) == STEPS  # the digest tells samples and microbatches apart
    for line, other in zip(ours, one, strict=True):
        for name in ("step", "epoch", "losses", "total_loss", "gradient_norm", "learning_rate", "samples"):
            assert_close(line[name], other[name], name)
        assert line["samples_digest"] == other["samples_digest"]


@pytest.mark.parametrize("processes", [4, 2])
def test_weights_and_statistics_of_all_process_counts_agree(runs: dict[int, Path], processes: int) -> None:
    for step in range(1, STEPS + 1):
        assert_close(state_after(runs[processes], step), state_after(runs[1], step), f"step {step}")


def test_the_runs_were_not_trivial(runs: dict[int, Path]) -> None:
    first, last = (state_after(runs[1], step) for step in (1, STEPS))
    for name, tensor in last["model"].items():
        assert not torch.equal(tensor, first["model"][name]), name
    # Videos and raw frames in the backbone; in the head of both the raw clip is alone, and leaves no statistics.
    batches = {name: int(count) for name, count in last["model"].items() if name.endswith("num_batches_tracked")}
    assert batches["backbone.bn1.num_batches_tracked"] == 2 * 4 * STEPS
    assert batches["heads.kinetics400.bn.num_batches_tracked"] == 4 * STEPS
    assert batches["heads.imagenet.bn.num_batches_tracked"] == 4 * STEPS


@settings(max_examples=3, deadline=None, derandomize=True)
@given(before=st.sampled_from(PROCESSES), after=st.sampled_from(PROCESSES), step=st.integers(1, STEPS - 1))
@example(before=2, after=1, step=2)
@example(before=1, after=2, step=1)
@example(before=4, after=2, step=3)
def test_run_of_some_processes_goes_on_in_others(
    runs: dict[int, Path], data: Path, before: int, after: int, step: int
) -> None:
    assume(before != after)
    started = str(checkpoint_path(runs[before], step))
    with tempfile.TemporaryDirectory() as folder:
        resumed = Path(folder) / "run"
        if after == 1:  # the accumulation of the recipe, 2, becomes 4 / processes
            train(mixed_recipe(data, *SETTINGS), resumed, resume=started)
        else:
            script = Path(folder) / "run.py"
            script.write_text(SCRIPT)
            result = torchrun(script, str(data), str(resumed), started, *SETTINGS, processes=after)
            assert result.returncode == 0, result.stderr
        assert_close(state_after(resumed, STEPS), state_after(runs[before], STEPS))
        assert f"not promised: processes {before} -> {after}" in (resumed / "train.log").read_text()
        lines, theirs = step_lines(resumed), step_lines(runs[before])[step:]
        assert [line["step"] for line in lines] == list(range(step + 1, STEPS + 1))
        assert [line["samples_digest"] for line in lines] == [line["samples_digest"] for line in theirs]


def test_two_synchronized_processes_equal_one_with_batches_of_twice_the_size(data: Path, tmp_path: Path) -> None:
    # Of the stream of a source, two processes have 2 + 2 samples where the one has the same 4. Dropout, which draws for
    # a whole batch, is off.
    def overrides(batch_size: int, *more: str) -> list[str]:
        sizes = [f"sources.{name}.batch_size={batch_size}" for name in ("kinetics400", "imagenet")]
        no_dropout = [f"label_spaces.{name}.dropout=0" for name in ("kinetics400", "imagenet")]
        plain = ["deterministic=True", "num_epochs=1", "sources.imagenet.ends_with="]
        return [*SETTINGS, *plain, *sizes, *no_dropout, *more]

    options = ["--launcher", "pytorch", "--work-dir", str(tmp_path / "two"), "--cfg-options"]
    more = [*roots(data), *overrides(2, "sync_batch_norm=True")]
    result = torchrun(PROJECT / "tools/train.py", str(PUBLISHED_CONFIG), *options, *tiny_overrides(more=more))
    assert result.returncode == 0, result.stderr
    train(tiny_recipe(data, *overrides(4)), tmp_path / "one")
    two, one = step_lines(tmp_path / "two"), step_lines(tmp_path / "one")
    assert [line["samples"] for line in two] == 3 * [{"kinetics400": 4, "imagenet": 4}]
    for line, other in zip(two, one, strict=True):
        for name in ("losses", "gradient_norm", "learning_rate", "samples"):
            assert_close(line[name], other[name], name)
    for step in (1, 2, 3):
        assert_close(state_after(tmp_path / "two", step), state_after(tmp_path / "one", step), f"step {step}")

    # One process has no other to synchronize with: it says that it goes on as another run.
    started = str(checkpoint_path(tmp_path / "two", 2))
    train(tiny_recipe(data, *overrides(2, "sync_batch_norm=True")), tmp_path / "on", resume=started)
    assert "those of 2 processes together and are now those of 1" in (tmp_path / "on/train.log").read_text()
    with pytest.raises(UserError, match="sync_batch_norm: True in the checkpoint, False now"):
        train(tiny_recipe(data, *overrides(2)), tmp_path / "other", resume=started)
