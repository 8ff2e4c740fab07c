"""What becomes of a run when one of its processes fails or is gone, and when a step is not finite."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from omnisource.checkpoints.file import checkpoint_path, read_checkpoint, saved_checkpoints
from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.training.train import train
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides
from tests.support.tiny_runs import (
    copy_with_damaged_video,
    difference,
    errors_of,
    roots,
    run_python,
    started_as_by_srun,
    step_lines,
    tiny_recipe,
    torchrun,
)

FAILING = """
import sys
import time
import torch
from omnisource.distributed import processes
from omnisource.errors import UserError
from omnisource.cli.main import run

def work():
    processes.start(torch.device("cpu"))
    me = processes.rank()
    try:
        processes.average(torch.zeros(3))
        if me == 1:
            raise UserError("data/bad.mp4: damaged")
        processes.average(torch.zeros(3))  # waits for process 1
    except Exception as error:
        if processes.is_own_failure(error):
            raise
        return 1
    processes.stop()
    return 0

sys.exit(run(work))
"""

WAITING = """
import os
import time
import torch
from omnisource.distributed import processes

processes.start(torch.device("cpu"))
print("started", os.getpid(), flush=True)
while True:  # a collective over a network that is silent would wait like this
    time.sleep(1)
"""


MISSING = """
import os
import sys
import torch
from omnisource.distributed import processes
from omnisource.cli.main import run
from omnisource.errors import UserError

def work():
    if os.environ["RANK"] == os.environ["FAILING"]:
        raise UserError("config.py: no such file")  # before the processes have met
    processes.start(torch.device("cpu"))
    return 0

sys.exit(run(work))
"""

BLOCKING = """
import sys
import time
import torch
from omnisource.cli.main import main

torch.distributed.destroy_process_group = lambda: time.sleep(600)  # as NCCL's can, for processes that wait for this one
sys.exit(main(sys.argv[1:]))
"""

LINGERING = """
import atexit
import sys
import time
import torch
from omnisource.distributed import processes
from omnisource.cli.main import run
from omnisource.errors import UserError

def work():
    atexit.register(time.sleep, 600)  # as a library can wait for other processes while the interpreter goes
    processes.start(torch.device("cpu"))
    if sys.argv[1] == "failing":
        raise UserError("data/bad.mp4: damaged")
    raise ZeroDivisionError("a fault of the program")

sys.exit(run(work))
"""

SAVING = """
import sys
import threading
import time
from pathlib import Path
from torch.distributed import HashStore
from omnisource.distributed.failure_watch import FailureWatch
from omnisource.distributed.watch_times import WatchTimes

seconds, limit, done, grace = float(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
store = HashStore()
watch = FailureWatch(store, 0, 2, WatchTimes(grace_seconds=grace, saving_seconds=limit))

def save():
    with watch.saving():
        (done / "begun").touch()
        time.sleep(seconds)  # a slow disk
        (done / "whole").touch()

threading.Thread(target=save).start()
while not (done / "begun").exists():
    time.sleep(0.001)
store.set("failed", "process 1: its own error")
if sys.argv[5:]:
    time.sleep(float(sys.argv[5]))
    watch.stop()
else:
    time.sleep(600)  # the main thread waits in a collective for a process that is gone
"""


def test_process_that_fails_ends_all_with_its_error_and_no_other(tmp_path: Path) -> None:
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    result = torchrun(script, processes=3)
    assert result.returncode != 0
    ours = [line for line in result.stderr.splitlines() if line.startswith(("error", "Traceback", "RuntimeError"))]
    # What torchrun itself has to say comes after it, and is not ours.
    assert ours[0] == "error: data/bad.mp4: damaged"
    before = result.stderr.split("error: data/bad.mp4")[0]
    assert "Traceback" not in before and "gloo" not in before.lower()


def test_process_that_is_gone_ends_all(tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    processes = started_as_by_srun(script, OMNISOURCE_SILENCE_SECONDS="8", OMNISOURCE_HEARTBEAT_SECONDS="1")
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline().startswith("started")
        time.sleep(3)  # for heartbeats of both
        os.kill(processes[1].pid, signal.SIGKILL)
        _, errors = processes[0].communicate(timeout=200)
    finally:
        for process in processes:
            process.kill()
    assert processes[0].returncode == 1
    assert "error: process 1 gave no heartbeat for 8 s, so the run is ended" in errors


@pytest.mark.parametrize("failing", [0, 1])  # the first serves as the meeting point
def test_process_that_fails_before_all_have_met_is_not_waited_for(tmp_path: Path, failing: int) -> None:
    script = tmp_path / "missing.py"
    script.write_text(MISSING)
    started = started_as_by_srun(script, FAILING=str(failing), OMNISOURCE_MEETING_SECONDS="6")
    errors = errors_of(started)
    assert [process.returncode for process in started] == [2, 2]
    assert errors[failing] == "error: config.py: no such file\n"
    message = errors[1 - failing].splitlines()[-1]
    assert message.startswith(f"error: process {1 - failing} has waited 6 s for process {failing} of 2 (")
    assert "Traceback" not in errors[1 - failing]


@pytest.mark.parametrize("command", ["train", "test"])
def test_process_that_fails_shows_its_error_where_leaving_the_others_would_block(
    started: Path, data: Path, tmp_path: Path, command: str
) -> None:
    copied = tmp_path / "data"
    video = copy_with_damaged_video(data, copied)
    script = tmp_path / "blocking.py"
    script.write_text(BLOCKING)
    checkpoint = [str(checkpoint_path(started, 6))] if command == "test" else []
    arguments = [command, str(PUBLISHED_CONFIG), *checkpoint, *tiny_overrides(more=roots(copied))]
    processes = started_as_by_srun(script, *arguments, "--work-dir", str(tmp_path / "run"))
    errors = errors_of(processes)
    assert errors[1].startswith(f"error: {video}: ")
    assert "Traceback" not in "".join(errors) and "error: " not in errors[0]
    assert [process.returncode for process in processes] == [2, 2]


@pytest.mark.parametrize(("kind", "shown"), [("failing", "error: data/bad.mp4: damaged"), ("faulty", "ZeroDivision")])
def test_process_that_has_failed_is_gone_though_something_keeps_it(tmp_path: Path, kind: str, shown: str) -> None:
    script = tmp_path / "lingering.py"
    script.write_text(LINGERING)
    processes = started_as_by_srun(script, kind, OMNISOURCE_LEAVING_SECONDS="2")
    errors = errors_of(processes)
    assert all(shown in error for error in errors)
    assert [process.returncode for process in processes] == [-signal.SIGALRM] * 2


def test_failure_of_a_process_before_all_have_met_is_shown_first_under_torchrun(tmp_path: Path) -> None:
    script = tmp_path / "missing.py"
    script.write_text(MISSING)
    result = torchrun(script, more={"FAILING": "1"})
    assert result.returncode != 0
    assert result.stderr.splitlines()[0] == "error: config.py: no such file"
    assert "has waited" not in result.stderr  # torchrun ends the others at once


@pytest.mark.parametrize("text", ["soon", "0", "-3"])
def test_meeting_time_that_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OMNISOURCE_MEETING_SECONDS", text)
    with pytest.raises(UserError, match=f"OMNISOURCE_MEETING_SECONDS={text}: wants a number of seconds above 0"):
        processes.start(torch.device("cpu"))


def test_meeting_point_that_another_program_has_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        for name, value in place.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(UserError, match=f"=localhost:{port}: process 0 cannot serve there .*port free"):
            processes.start(torch.device("cpu"))


def test_process_that_saves_when_another_has_failed_is_ended_after_that(tmp_path: Path) -> None:
    script = tmp_path / "saving.py"
    script.write_text(SAVING)
    result = run_python([str(script), "5", "60", str(tmp_path), "0.1"], tmp_path)  # the failure is seen after 2 s
    assert (tmp_path / "whole").exists()
    assert result.returncode == 1


def test_process_that_saves_while_it_leaves_is_not_ended_before(tmp_path: Path) -> None:
    script = tmp_path / "saving.py"
    script.write_text(SAVING)
    run_python([str(script), "10", "60", str(tmp_path), "3", "3.5"], tmp_path)  # it would be ended after 6.5 s
    assert (tmp_path / "whole").exists()


def test_process_that_saves_for_too_long_when_another_has_failed_is_ended(tmp_path: Path) -> None:
    script = tmp_path / "saving.py"
    script.write_text(SAVING)
    result = run_python([str(script), "600", "1", str(tmp_path), "0.1"], tmp_path)
    assert result.returncode == 1
    assert (tmp_path / "begun").exists() and not (tmp_path / "whole").exists()


def broken_weights(work_dir: Path, step: int, target: Path) -> Path:
    """Writes a checkpoint whose video head is infinite, so that the loss of the next step is not finite."""
    content = torch.load(checkpoint_path(work_dir, step), weights_only=True)
    content["model"]["heads.kinetics400.fc2.weight"].fill_(float("inf"))
    content["format_version"] = 1  # of which no digest is asked
    torch.save(content, target)
    return target


@pytest.fixture(scope="module")
def started(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the work dir of a run of 6 steps with a checkpoint of each."""
    work_dir = tmp_path_factory.mktemp("started") / "run"
    train(tiny_recipe(data, *SETTINGS), work_dir)
    return work_dir


SETTINGS = (
    "checkpoints.interval_steps=1",
    "checkpoints.keep_last=9",
    "validation.interval_epochs=0",
    "deterministic=True",
    "ema_decay=0.9",
)


def test_loss_that_is_not_finite_names_source_and_samples_and_keeps_the_batch(
    started: Path, data: Path, tmp_path: Path
) -> None:
    broken = broken_weights(started, 3, tmp_path / "step_000000003.pt")
    with pytest.raises(UserError) as stopped:
        train(tiny_recipe(data, *SETTINGS), tmp_path / "run", resume=str(broken))
    message = str(stopped.value)
    kept = tmp_path / "run/not_finite/step_000000004_process_0.pt"
    assert "step 4: the loss of source kinetics400 is not finite. Its samples:" in message
    assert f"kept for inspection: {kept}" in message
    assert "max_skipped_steps=N (now 0)" in message
    [batch] = torch.load(kept, weights_only=True)
    assert batch["source"] == "kinetics400" and batch["clips"].shape[:3] == (2, 1, 3)
    assert all(key in message for key in batch["keys"])
    # The weights are those from before the step, and so the run is saved.
    before, after = (read_checkpoint(path).state for path in (broken, checkpoint_path(tmp_path / "run", 3)))
    assert difference(after["model"], before["model"]) == ""


def test_steps_that_are_not_finite_are_left_out_up_to_a_number(started: Path, data: Path, tmp_path: Path) -> None:
    broken = broken_weights(started, 3, tmp_path / "step_000000003.pt")
    with pytest.raises(UserError, match=r"(?s)step 6: .*max_skipped_steps=N \(now 2\)"):
        train(tiny_recipe(data, *SETTINGS, "max_skipped_steps=2"), tmp_path / "run", resume=str(broken))
    [saved] = [path for path in saved_checkpoints(tmp_path / "run") if path.name == "step_000000005.pt"]
    state = read_checkpoint(saved).state
    assert state["skipped_steps"] == [4, 5] and state["step"] == 5
    before = read_checkpoint(broken).state
    # Nothing of what is trained has changed, running statistics and momentum included.
    for part in ("model", "ema"):
        assert difference(state[part], before[part]) == ""
    assert difference(state["optimizer"]["state"], before["optimizer"]["state"]) == ""
    lines = step_lines(tmp_path / "run")
    assert [line["step"] for line in lines] == [4, 5]
    assert [line["losses"]["kinetics400"] for line in lines] == ["nan", "nan"]
    log = (tmp_path / "run/train.log").read_text()
    assert "the step changed no weights; 1 more such steps are permitted" in log
    # A resumed run remembers how many it has left out.
    with pytest.raises(UserError, match=r"max_skipped_steps=N \(now 2\)"):
        train(tiny_recipe(data, *SETTINGS, "max_skipped_steps=2"), tmp_path / "run", resume="auto")
    # One that comes to its end says so once more.
    train(tiny_recipe(data, *SETTINGS, "max_skipped_steps=3"), tmp_path / "run", resume="auto")
    message = f"3 steps changed no weights, not being finite: 4, 5, 6; see {tmp_path / 'run/not_finite'}"
    assert message in (tmp_path / "run/train.log").read_text()


def test_step_that_fails_while_it_changes_the_weights_is_not_saved(started: Path, data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(data, *SETTINGS, "checkpoints.interval_steps=2")
    steps: list[int] = []

    def fail_in_the_fourth(*_: object) -> None:
        steps.append(len(steps) + 1)
        if len(steps) == 4:
            raise RuntimeError("out of memory")

    hook = register_optimizer_step_post_hook(fail_in_the_fourth)  # the weights are changed, their average is not
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            train(recipe, tmp_path / "run")
    finally:
        hook.remove()
    assert [path.name for path in saved_checkpoints(tmp_path / "run")] == ["step_000000002.pt"]
    assert "Step 4 failed while it changed the weights" in (tmp_path / "run/train.log").read_text()
    train(recipe, tmp_path / "run", resume="auto")
    ours, whole = (read_checkpoint(checkpoint_path(folder, 6)).state for folder in (tmp_path / "run", started))
    assert difference(ours, whole) == ""


def test_every_step_leaves_a_digest_of_its_samples(started: Path, data: Path, tmp_path: Path) -> None:
    train(tiny_recipe(data, *SETTINGS, "num_workers=2"), tmp_path / "run")
    digests = [line["samples_digest"] for line in step_lines(tmp_path / "run")]
    assert digests == [line["samples_digest"] for line in step_lines(started)]
    assert len(set(digests)) == 6 and all(len(digest) == 16 for digest in digests)
    train(tiny_recipe(data, *SETTINGS, "seed=1"), tmp_path / "other")
    others = [line["samples_digest"] for line in step_lines(tmp_path / "other")]
    assert not set(others) & set(digests)


def test_average_of_the_weights_is_validated_beside_them_and_goes_on_after_a_resume(data: Path, tmp_path: Path) -> None:
    settings = ("ema_decay=0.9", "deterministic=True", "num_epochs=2", "checkpoints.interval_steps=1")
    recipe = tiny_recipe(data, *settings, "checkpoints.keep_last=99")
    whole = train(recipe, tmp_path / "whole")
    resumed = train(recipe, tmp_path / "resumed", resume=str(checkpoint_path(tmp_path / "whole", 7)))
    assert whole.ema is not None and resumed.ema is not None
    assert difference(resumed.ema.tensors, whole.ema.tensors) == ""
    weights = whole.model.state_dict()
    assert any(not torch.equal(tensor, weights[name]) for name, tensor in whole.ema.tensors.items())
    lines = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    metrics = [line["metrics"] for line in lines if line["kind"] == "validation"]
    assert len(metrics) == 2
    assert all({"top1", "ema_top1", "mean_class_accuracy", "ema_mean_class_accuracy"} <= set(one) for one in metrics)
    assert whole.best_score == max(one["ema_top1"] for one in metrics)


def test_checkpoints_by_the_clock_are_saved_between_the_others(data: Path, tmp_path: Path) -> None:
    settings = ("checkpoints.interval_minutes=0.0001", "checkpoints.keep_last=99", "validation.interval_epochs=0")
    train(tiny_recipe(data, *settings), tmp_path / "run")
    steps = [read_checkpoint(path).state["step"] for path in saved_checkpoints(tmp_path / "run")]
    assert steps[-1] == 6 and len(steps) >= 3  # every few milliseconds means: after about every step
    train(tiny_recipe(data, "checkpoints.interval_minutes=60", "validation.interval_epochs=0"), tmp_path / "rare")
    assert [path.name for path in saved_checkpoints(tmp_path / "rare")] == ["step_000000006.pt"]
