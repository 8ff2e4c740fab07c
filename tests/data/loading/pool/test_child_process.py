"""Workers and their server import nothing of the user's, and end when they are to."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from omnisource.data.loading.pool.child_process import StartMethod
from tests.support.obedient_workers import assert_fine, pool, wait_until_ready
from tests.test_import_path import write_shadows

PROGRAM = """
import os, sys
here = sys.path.pop(0)  # this program's own imports are not to be tried
from tests.support.obedient_workers import assert_fine, pool
open("runs", "a").write("once ")
sys.path[:0] = [here, "", "."]
sys.path.append(os.pardir + "/program_folder")
os.environ["PYTHONPATH"] += os.pathsep  # an empty entry
with pool(2, start_method="START_METHOD") as workers:
    assert_fine(workers)
"""


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_workers_import_nothing_of_the_current_folder_and_do_not_run_the_program(
    start_method: StartMethod, run_program: Callable[[str], subprocess.Popen], tmp_path: Path
) -> None:
    write_shadows(tmp_path)
    program = run_program(PROGRAM.replace("START_METHOD", start_method))
    output, errors = program.communicate()
    assert (program.returncode, output, errors) == (0, "", "")
    assert (tmp_path / "runs").read_text() == "once "


def test_workers_need_no_folder_for_their_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("x" * 200) / "missing"))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pool(1) as workers:
        assert_fine(workers)


def test_server_that_was_killed_is_replaced() -> None:
    notices: list[str] = []
    with pool(1, notify=notices.append) as workers:
        (before,) = wait_until_ready(workers)
        server = int(Path(f"/proc/{before}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(server, signal.SIGKILL)
        os.kill(before, signal.SIGKILL)
        assert_fine(workers)
    assert len(notices) == 1 and notices[0].startswith("worker 0 ended (exit code 255)")


def test_workers_for_which_no_descriptor_is_left_are_an_error_of_the_system() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            pool(8)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) <= used + 1  # the server's socket
