"""What the processes of a run do when the one they have met through says nothing more, and when they start again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from omnisource.distributed.watch_times import WatchTimes, read_watch_times
from omnisource.errors import UserError
from tests.support.tiny_runs import run_python, started_as_by_srun, torchrun

SILENT = """
import os
import sys
import time
from pathlib import Path
import torch
from omnisource.distributed import processes
from omnisource.cli.main import run
from omnisource.errors import UserError

def work():
    processes.start(torch.device("cpu"))
    print("started", flush=True)
    try:
        while os.environ["RANK"] != "3" or not Path(sys.argv[1]).exists():
            time.sleep(0.1)
        raise UserError("data/bad.mp4: damaged")
    except UserError as error:
        if processes.is_own_failure(error):
            raise
        return 1

sys.exit(run(work))
"""

RESTARTED = """
import os
import sys
import time
import torch
import torch.distributed as dist
from omnisource.distributed import processes

attempt, rank = os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"]
joined = dist.init_process_group

def join_late(*arguments, **options):
    if attempt == "1" and rank == "0":
        time.sleep(2)  # meanwhile the others look for its address
    joined(*arguments, **options)

dist.init_process_group = join_late
processes.start(torch.device("cpu"))
total = processes.add_up(torch.ones(1)).item()
if attempt == "0":
    if rank == "1":
        os._exit(3)
    time.sleep(60)  # until torchrun ends it
sys.stdout.write(f"attempt {attempt} of {rank}: {total:g} processes\\n")
sys.stdout.flush()
processes.stop()
"""


def test_process_that_stopped_while_all_meet_through_it_ends_the_others(tmp_path: Path) -> None:
    script, failing = tmp_path / "silent.py", tmp_path / "failing"
    script.write_text(SILENT)
    processes = started_as_by_srun(
        script,
        str(failing),
        processes=4,
        OMNISOURCE_HEARTBEAT_SECONDS="1",
        OMNISOURCE_SILENCE_SECONDS="4",
        OMNISOURCE_ANSWER_SECONDS="2",
    )
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "started\n"
        assert processes[2].stderr is not None
        processes[2].stderr.close()  # as by `2>&1 | head`, when that has ended
        os.kill(processes[0].pid, signal.SIGSTOP)
        time.sleep(1)  # the store answers nothing any more
        failing.touch()
        _, output = processes[1].communicate(timeout=100)
        _, own = processes[3].communicate(timeout=100)
        processes[2].wait(timeout=100)
    finally:
        for process in processes:
            process.kill()
    words = "the process that the others have met through has given no answer for 4 s, so the run is ended"
    assert output == f"error: {words}\n"
    assert own.startswith("error: data/bad.mp4: damaged\n")
    assert [process.returncode for process in processes[1:]] == [1, 1, 2]


def test_processes_that_torchrun_starts_again_find_each_other_and_not_those_that_are_gone(tmp_path: Path) -> None:
    script = tmp_path / "restarted.py"
    script.write_text(RESTARTED)
    result = torchrun(script, restarts=1)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == [f"attempt 1 of {rank}: 2 processes" for rank in range(2)]


SLOW = """
import time
from torch.distributed import HashStore
from omnisource.distributed.failure_watch import FailureWatch
from omnisource.distributed.watch_times import WatchTimes

class SlowStore(HashStore):
    def compare_set(self, *arguments):
        time.sleep(1)
        return super().compare_set(*arguments)

store = SlowStore()
one, other = (FailureWatch(store, rank, 2, WatchTimes(heartbeat_seconds=0.2)) for rank in range(2))
print(one.is_first("its own error"), other.is_first("what follows from that"))
one.stop()
other.stop()
"""

LEAVING = """
import sys
import threading
import time
from pathlib import Path
from torch.distributed import HashStore
from omnisource.distributed.failure_watch import FailureWatch
from omnisource.distributed.watch_times import WatchTimes

store = HashStore()
watch = FailureWatch(store, 0, 2, WatchTimes(heartbeat_seconds=0.1, grace_seconds=0.5))

def write():
    time.sleep(3)
    Path(sys.argv[1]).write_text(store.get("heartbeat of 0").decode())

threading.Thread(target=write).start()  # the interpreter waits for it, and can start no thread meanwhile
"""


def test_first_to_fail_is_who_says_so_first_even_if_the_store_is_slow(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    result = run_python([str(script)], tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "True False\n", "")


def test_heart_of_a_process_beats_while_its_interpreter_waits_for_a_thread(tmp_path: Path) -> None:
    script, output = tmp_path / "leaving.py", tmp_path / "beats"
    script.write_text(LEAVING)
    result = run_python([str(script), str(output)], tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert int(output.read_text()) > 10


STANDING = """
import sys
import time
from pathlib import Path
import torch
from omnisource.distributed import processes

processes.start(torch.device("cpu"))
print("started", flush=True)
while not processes.average(torch.tensor([float(Path(sys.argv[1]).exists())])).item():  # both leave at one average
    time.sleep(0.05)
print("done", flush=True)
processes.stop()
"""


def stand_still(processes: Sequence[subprocess.Popen[str]], seconds: float) -> None:
    """Stops processes for a while, as a machine that is suspended or swaps does."""
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    time.sleep(seconds)
    for process in processes:
        os.kill(process.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("standing", "seconds"),
    [
        ((0,), 4.0),  # two thirds of the silence, as a minute is of the default; the first has the store
        ((1,), 4.0),
        ((0, 1), 9.0),  # all together, as on one machine: for however long
    ],
)
def test_processes_that_stand_still_for_a_while_end_nothing(
    tmp_path: Path, standing: tuple[int, ...], seconds: float
) -> None:
    script, over = tmp_path / "standing.py", tmp_path / "over"
    script.write_text(STANDING)
    times = {"OMNISOURCE_HEARTBEAT_SECONDS": "0.5", "OMNISOURCE_SILENCE_SECONDS": "6"}
    processes = started_as_by_srun(script, str(over), **times)
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "started\n"
        time.sleep(1)  # for heartbeats of both
        stand_still([processes[rank] for rank in standing], seconds)
        time.sleep(2)  # for looks at one another
        over.touch()
        output = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert output == [("done\n", "")] * 2
    assert [process.returncode for process in processes] == [0, 0]


def test_default_times_survive_a_minute_that_a_process_stands_still() -> None:
    times = WatchTimes()
    # It is stopped just before a heartbeat, gives one after, and is looked at then.
    assert times.silence_seconds >= 60 + 3 * times.heartbeat_seconds
    # A process that is gone ends the others within the time that the manual tells.
    looks = 2 * times.heartbeat_seconds  # until it is noticed, and until all have heard of it
    assert looks + times.silence_seconds + times.grace_seconds + times.saving_seconds <= 150
    # One that fails and says so ends them within a minute.
    assert looks + times.answer_seconds + times.grace_seconds + times.saving_seconds <= 60
    assert 0 < times.meeting_seconds <= 60


def test_times_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_watch_times() == WatchTimes()
    monkeypatch.setenv("OMNISOURCE_SILENCE_SECONDS", "600")
    monkeypatch.setenv("OMNISOURCE_SAVING_SECONDS", "120.5")
    assert read_watch_times() == WatchTimes(silence_seconds=600, saving_seconds=120.5)


@pytest.mark.parametrize("text", ["soon", "0", "-3", "", "inf", "nan", "1e3"])
@pytest.mark.parametrize("name", ["SILENCE", "HEARTBEAT", "ANSWER", "GRACE", "SAVING", "LEAVING", "MEETING"])
def test_time_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"OMNISOURCE_{name}_SECONDS", text)
    with pytest.raises(UserError, match=f"OMNISOURCE_{name}_SECONDS={text}: wants a number of seconds above 0"):
        read_watch_times()


def test_silence_into_which_few_heartbeats_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNISOURCE_SILENCE_SECONDS", "5")
    with pytest.raises(
        UserError, match=r"OMNISOURCE_SILENCE_SECONDS=5 with OMNISOURCE_HEARTBEAT_SECONDS=2: .* 3 heart"
    ):
        read_watch_times()
