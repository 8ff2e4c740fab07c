from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch

from omnisource.checkpoints.file import checkpoint_path, read_checkpoint, saved_checkpoints
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.evaluation import test
from omnisource.evaluation.evaluate import EvaluationTask, evaluate
from omnisource.evaluation.load import load_recognizer
from omnisource.evaluation.report import ReportFiles
from omnisource.training.train import train
from tests.support.media import truncate
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides
from tests.support.tiny_runs import (
    PROJECT,
    copy_with_damaged_video,
    roots,
    step_lines,
    tiny_recipe,
    torchrun,
    validation_lines,
)

if not torch.distributed.is_available():
    pytest.skip("this torch has no distributed package", allow_module_level=True)

TRAIN, TEST = PROJECT / "tools/train.py", PROJECT / "tools/test.py"


@pytest.fixture(scope="module")
def uneven(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of the data with 5 videos to validate on, which two processes cannot share evenly."""
    copied = tmp_path_factory.mktemp("uneven") / "data"
    shutil.copytree(data, copied)
    video_list = copied / "kinetics400/kinetics400_val_list_videos.txt"
    video_list.write_text("".join(video_list.read_text().splitlines(keepends=True)[1:]))
    return copied


@pytest.fixture(scope="module")
def trained(uneven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the work dir of a run of two processes."""
    work_dir = tmp_path_factory.mktemp("two") / "run"
    options = ["--launcher", "pytorch", "--auto-scale-lr", "--work-dir", str(work_dir)]
    result = torchrun(TRAIN, str(PUBLISHED_CONFIG), *options, "--cfg-options", *tiny_overrides(more=roots(uneven)))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("the run is complete: 3 steps") == 1
    assert "Warning" not in result.stderr
    return work_dir


def test_two_processes_see_what_one_sees_with_two_microbatches(trained: Path, uneven: Path, tmp_path: Path) -> None:
    train(tiny_recipe(uneven, "accumulation=2", f"optimizer.learning_rate={0.01 * 4 / 128}"), tmp_path)
    two, one = step_lines(trained), step_lines(tmp_path)
    assert [line["step"] for line in two] == [1, 2, 3]
    assert two[0]["losses"] == pytest.approx(one[0]["losses"], rel=1e-5)
    assert two[0]["gradient_norm"] == pytest.approx(one[0]["gradient_norm"], rel=1e-3)
    for line, other in zip(two, one, strict=True):
        assert line["samples"] == other["samples"] == {"kinetics400": 4, "imagenet": 4}
        assert line["learning_rate"] == pytest.approx(other["learning_rate"])
    # Each process steps from the mean gradient of both, so the weights stay those of one process.
    ours, theirs = (
        read_checkpoint(checkpoint_path(folder, 3)).state["model"]["heads.kinetics400.fc2.weight"]
        for folder in (trained, tmp_path)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def test_first_process_alone_writes(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == [
        "checkpoints",
        "curves.svg",
        "invocations.jsonl",
        "metrics.jsonl",
        "recipe.json",
        "report.html",
        "run.json",
        "run.lock",
        "tensorboard",
        "train.log",
    ]
    assert len(list((trained / "tensorboard").iterdir())) == 1
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["best.pt", "step_000000003.pt"]


def test_all_processes_validate_the_weights_that_are_saved(trained: Path, uneven: Path) -> None:
    [line] = validation_lines(trained)
    recipe, names = resolve_classes(tiny_recipe(uneven))
    items = read_split(recipe, names, "kinetics400", "validation")
    assert items is not None
    assert line["metrics"]["count"] == len(items) == 5
    recognizer = load_recognizer(checkpoint_path(trained, 3))
    with WorkerPool(0, 60) as workers:
        task = EvaluationTask(recipe, "kinetics400", "validation", items)
        alone = evaluate(recognizer, task, workers, UnreadableLog(0))
    assert line["metrics"] == pytest.approx(alone.metrics.as_dict())


def test_uneven_split_is_tested_once_each_and_dumped_in_list_order(trained: Path, uneven: Path, tmp_path: Path) -> None:
    checkpoint = str(checkpoint_path(trained, 3))
    options = ["--launcher", "pytorch", "--work-dir", str(tmp_path / "two"), "--dump", str(tmp_path / "two.pkl")]
    result = torchrun(
        TEST, str(PUBLISHED_CONFIG), checkpoint, *options, "--cfg-options", *tiny_overrides(more=roots(uneven))
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("all classes:") == 1
    test.test(tiny_recipe(uneven), checkpoint, ReportFiles(tmp_path / "one", tmp_path / "one.pkl"))
    two, one = (pickle.loads((tmp_path / name).read_bytes()) for name in ("two.pkl", "one.pkl"))
    listed = (uneven / "kinetics400/kinetics400_val_list_videos.txt").read_text().splitlines()
    assert [entry["key"] for entry in two] == [line.rsplit(" ", 1)[0] for line in listed]
    for ours, theirs in zip(two, one, strict=True):
        assert ours["key"] == theirs["key"]
        torch.testing.assert_close(ours["pred_score"], theirs["pred_score"], rtol=1e-5, atol=1e-6)
        assert torch.equal(ours["gt_label"], theirs["gt_label"])


def test_failure_of_one_process_ends_all_with_its_error(data: Path, tmp_path: Path) -> None:
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    # The second of the list is in the share of the second process.
    listed = (copied / "kinetics400/kinetics400_val_list_videos.txt").read_text().splitlines()
    video = copied / "kinetics400/videos_val" / listed[1].rsplit(" ", 1)[0]
    truncate(video, 0.1)
    options = ["--launcher", "pytorch", "--work-dir", str(tmp_path / "run")]
    result = torchrun(TRAIN, str(PUBLISHED_CONFIG), *options, "--cfg-options", *tiny_overrides(more=roots(copied)))
    assert result.returncode != 0
    assert result.stderr.startswith(f"error: {video}: ")  # before what torchrun has to say
    assert result.stderr.count("error: ") == 1
    assert "omnisource/training/train.py" not in result.stderr  # no traceback of ours
    # The steps are not lost: the run goes on, here in one process with as many microbatches, with the validation.
    [saved] = saved_checkpoints(tmp_path / "run")
    assert f"The run is saved: {saved}" in result.stdout
    assert validation_lines(tmp_path / "run") == []
    train(tiny_recipe(copied, "accumulation=2", "max_unreadable=1"), tmp_path / "run", resume="auto")
    assert [line["step"] for line in step_lines(tmp_path / "run")] == [1, 2, 3]
    assert [line["metrics"]["count"] for line in validation_lines(tmp_path / "run")] == [5]


def test_too_many_unreadable_files_of_all_processes_together_lose_no_step(data: Path, tmp_path: Path) -> None:
    copied, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(data, copied)
    recipe, names = resolve_classes(tiny_recipe(copied))
    items = read_split(recipe, names, "kinetics400", "train")
    assert items is not None
    stream = Stream("kinetics400", recipe.sources["kinetics400"], items, 2, recipe.seed)
    of_process = [[one for step in range(3) for one in stream.requests(2 * step + process)] for process in (0, 1)]
    first = of_process[0][0]
    # The item after an unreadable one takes its place, and is to be a whole one.
    second = next(one for one in of_process[1] if (one.index - first.index) % len(items) not in (1, len(items) - 1))
    bad = [str(truncate(Path(one.path), 0.1)) for one in (first, second)]
    command = ["--launcher", "pytorch", "--work-dir", str(run), "--cfg-options"]
    overrides = tiny_overrides(more=[*roots(copied), "max_unreadable=1", "validation.interval_epochs=0"])
    result = torchrun(TRAIN, str(PUBLISHED_CONFIG), *command, *overrides)
    assert result.returncode != 0
    assert result.stderr.count("error: ") == 1
    assert all(f"{path}: " in result.stderr for path in bad)
    assert "2 unreadable in all processes, 1 permitted" in result.stderr
    assert "max_unreadable=N" in result.stderr
    assert f"The run is saved: {checkpoint_path(run, 3)}. Continue it with --resume auto." in result.stdout
    state = read_checkpoint(checkpoint_path(run, 3)).state
    assert state["step"] == 3 and state["unreadable"].keys() == {bad[0]}  # no more than are permitted
    replaced = [json.loads(line) for line in (run / "unreadable.jsonl").read_text().splitlines()]
    assert {line["path"] for line in replaced} == set(bad)  # what was replaced in the steps that are done


def test_what_another_process_than_the_first_meets_is_reported_with_its_number(data: Path, tmp_path: Path) -> None:
    copied = tmp_path / "data"
    video = copy_with_damaged_video(data, copied)
    script = tmp_path / "run.py"
    script.write_text(KILLING)
    settings = ["max_unreadable=1", "num_workers=1", "num_epochs=4", "validation.interval_epochs=4"]
    result = torchrun(script, str(copied), str(tmp_path / "run"), *settings)
    assert result.returncode == 0, result.stderr
    message = f"process 1: unreadable (1 of 1 permitted), left out of the scores: {video}"
    assert message in result.stderr and message not in result.stdout
    assert re.search(r"^process 1: worker 0 (ended|did not start) \(SIGKILL\).*; it is replaced$", result.stderr, re.M)
    log = (tmp_path / "run/train.log").read_text()
    assert "process 1: " not in log and "SIGKILL" not in log  # the first process alone writes
    lines = [json.loads(line) for line in (tmp_path / "run/unreadable.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["step"], line["index"], line["path"]) for line in lines] == [
        ("validation", 12, 1, str(video))
    ]
    # A test tells it likewise.
    options = ["--launcher", "pytorch", "--work-dir", str(tmp_path / "tested")]
    overrides = ["--cfg-options", *tiny_overrides(more=[*roots(copied), "max_unreadable=1"])]
    checkpoint = str(checkpoint_path(tmp_path / "run", 12))
    result = torchrun(TEST, str(PUBLISHED_CONFIG), checkpoint, *options, *overrides)
    assert result.returncode == 0, result.stderr
    assert message in result.stderr and message not in result.stdout
    assert f"left out, unreadable: {video}" in result.stdout


KILLING = """
import os
import signal
import sys
from pathlib import Path
from omnisource.distributed import processes
from omnisource.training.train import train
from tests.support.holding import in_each_step
from tests.end_to_end.processes.test_killed_workers import children
from tests.support.tiny_runs import tiny_recipe

def kill_a_worker(step):
    if step == 3 and os.environ["RANK"] == "1":
        os.kill([one for server in children(os.getpid()) for one in children(server)][0], signal.SIGKILL)

if __name__ == "__main__":
    data, work_dir, *overrides = sys.argv[1:]
    with in_each_step(kill_a_worker):
        train(tiny_recipe(Path(data), *overrides), Path(work_dir))
    processes.stop()
"""
"""A run of which the second process loses its loading worker."""

AGREEMENT = """
import torch
from omnisource.distributed import processes
from omnisource.data.loading.unreadable import Replacement, UnreadableLog
from omnisource.errors import UserError
from omnisource.training.stepping.unreadable_agreement import agree_on_unreadable

processes.start(torch.device("cpu"))
me = processes.rank()
log = UnreadableLog(2, {"both.mp4": "cut", f"{me}.mp4": f"met by {me}"})
log.pending = [Replacement(step, "clips", 0, 5, "both.mp4", "cut", 6, f"by {me}.mp4") for step in (2, 1, 9)]
merged = {"both.mp4": "cut", "0.mp4": "met by 0", "1.mp4": "met by 1"}
try:
    agree_on_unreadable(log, 4)  # three files together, two permitted
except UserError as error:
    assert me == 0 and "3 unreadable in all processes, 2 permitted" in str(error), error
except SystemExit as silent:
    assert me == 1 and silent.code == 2
else:
    raise AssertionError("more files than permitted")
assert log.reasons == merged
log.permitted = 3
agreed = agree_on_unreadable(log, 4)
assert [(one.step, one.replaced_by_path) for one in agreed] == [(s, f"by {n}.mp4") for s in (1, 2) for n in (0, 1)]
assert log.replacements == {"both.mp4": 4} and agree_on_unreadable(log, 9) == []

assert processes.gather(me) == [0, 1]
assert processes.run_on_rank0(lambda: ("rank", me)) == ("rank", 0)
assert processes.average(torch.tensor([float(me), 3.0])).tolist() == [0.5, 3.0]
assert processes.add_up(torch.tensor([float(me), 3.0])).tolist() == [1.0, 6.0]
assert [part.tolist() for part in processes.gather_tensors(torch.tensor([[me]]))] == [[[0]], [[1]]]
try:
    processes.raise_on_all_ranks(UserError("mine") if me == 1 else None)
except UserError as error:
    assert me == 1 and str(error) == "mine"
except SystemExit as silent:
    assert me == 0 and silent.code == 2
processes.raise_on_all_ranks(None)
print("agreed")
processes.stop()
"""


def test_processes_agree_on_unreadable_files_and_failures(tmp_path: Path) -> None:
    script = tmp_path / "agreement.py"
    script.write_text(AGREEMENT)
    result = torchrun(script)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("agreed") == 2
