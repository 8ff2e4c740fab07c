"""What the processes of a run do when the one they have met through says nothing more, and when they start again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.support.tiny_runs import run_python, started_as_by_srun, torchrun

SILENT = """
import os
import sys
import time
from pathlib import Path
import torch
from omnisource.distributed import failure_watch, processes
from omnisource.cli.main import run
from omnisource.errors import UserError

failure_watch.SILENCE_SECONDS, failure_watch.STORE_SECONDS = 4.0, 2.0

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
    processes = started_as_by_srun(script, str(failing), processes=4)
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "started\n"
        assert processes[2].stderr is not None
        processes[2].stderr.close()  # as by `2>&1 | head`, when that has ended
        os.kill(processes[0].pid, signal.SIGSTOP)
        time.sleep(1)  # the store answers nothing any more
        failing.touch()
        _, told = processes[1].communicate(timeout=100)
        _, own = processes[3].communicate(timeout=100)
        processes[2].wait(timeout=100)
    finally:
        for process in processes:
            process.kill()
    words = "the process that the others have met through has given no answer for 4 s, so the run is ended"
    assert told == f"error: {words}\n"
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
from omnisource.distributed import failure_watch

failure_watch.SIGN_INTERVAL_SECONDS = 0.2

class SlowStore(HashStore):
    def compare_set(self, *arguments):
        time.sleep(1)
        return super().compare_set(*arguments)

store = SlowStore()
one, other = (failure_watch.FailureWatch(store, rank, 2) for rank in range(2))
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
from omnisource.distributed import failure_watch

failure_watch.SIGN_INTERVAL_SECONDS = 0.1
store = HashStore()
watch = failure_watch.FailureWatch(store, 0, 2, grace_seconds=0.5)

def write():
    time.sleep(3)
    Path(sys.argv[1]).write_text(store.get("sign of 0").decode())

threading.Thread(target=write).start()  # the interpreter waits for it, and can start no thread meanwhile
"""


def test_first_to_fail_is_who_says_so_first_even_if_the_store_is_slow(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    result = run_python([str(script)], tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "True False\n", "")


def test_process_gives_signs_of_life_while_its_interpreter_waits_for_a_thread(tmp_path: Path) -> None:
    script, told = tmp_path / "leaving.py", tmp_path / "signs"
    script.write_text(LEAVING)
    result = run_python([str(script), str(told)], tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert int(told.read_text()) > 10
