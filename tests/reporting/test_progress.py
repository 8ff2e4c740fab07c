from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnisource.reporting.progress import Counter, counted_progress, progress_bar
from tests.support.terminal import Terminal


def test_work_ends_with_a_plain_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("reading lists", 3, "lists") as advance:
        for _ in range(3):
            advance()
    output, errors = capsys.readouterr()
    assert output == ""
    assert re.fullmatch(r"reading lists  3/3 lists  \S+ lists/s  0:00:00 left\n", errors)


def test_plain_lines_come_while_the_work_lasts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnisource.reporting.progress.PLAIN_INTERVAL_SECONDS", 0.0)
    with counted_progress("reading folders", "folders") as update:
        for done in (1, 2, 2, 4):
            update(done, 4)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        ["reading folders", f"{done}/4 folders"] for done in (1, 2, 3, 4)
    ]


def test_rate_and_time_left_follow_from_the_bytes_where_they_are_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bar("preparing", 2, "files", 5_000_000) as advance:
        advance(4_000_000, True)
        advance(1_000_000, False)
    assert re.fullmatch(r"preparing  2/2 files, 1 failed  \S+ MB/s  0:00:00 left\n", capsys.readouterr().err)
    counter = Counter("preparing", 2, "files", 5_000_000)
    counter.advance(4_000_000)
    assert counter.progress().share == 0.8


def test_nothing_to_do_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("reading lists", 0), counted_progress("reading folders"):
        pass
    assert capsys.readouterr() == ("", "")


def test_rate_is_that_of_the_last_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    counter = Counter("testing clips", 10_000)
    assert str(counter.progress()) == "testing clips  0/10000 items  0 items/s  - left"
    for _ in range(3000):  # one a second
        now += 1
        counter.advance()
    assert str(counter.progress()) == "testing clips  3000/10000 items  1 items/s  1:56:40 left"
    for _ in range(3000):  # ten a second, for five minutes
        now += 0.1
        counter.advance()
        counter.progress()
    assert str(counter.progress()) == "testing clips  6000/10000 items  10 items/s  0:06:40 left"


def test_rate_of_quick_work_is_written_without_an_exponent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    counter = Counter("looking at files", 133_624)
    for _ in range(33_406):
        counter.advance()
    now += 1
    assert str(counter.progress()) == "looking at files  33406/133624 items  33406 items/s  0:00:03 left"


CODE = """
import sys
from omnisource.reporting.progress import progress_bar
with progress_bar("testing clips", 3) as advance:
    advance()
    print("line of the command", flush=True)
    advance()
    advance()
print("the end")
"""


def test_terminal_has_one_line_that_is_written_again_and_messages_pass_above_it() -> None:
    with Terminal([sys.executable, "-c", CODE], columns=100) as terminal:
        assert terminal.end() == 0
    lines = terminal.text.splitlines()
    assert re.match(r"testing clips  0/3 items ━+ 0%  0 items/s  - left$", lines[0].strip())
    assert "line of the command" in lines
    bars = [line for line in lines if line.startswith("testing clips  3/3 items ━")]
    assert bars and all(re.search(r"━ 100%  \S+ items/s  0:00:00 left$", line.rstrip()) for line in bars)
    assert lines[-1] == "the end"


def test_what_a_command_prints_into_a_pipe_stays_out_of_the_terminal_of_the_bar() -> None:
    master, slave = pty.openpty()
    with open(slave, "wb") as terminal:
        result = subprocess.run([sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=terminal, timeout=100)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert (result.returncode, result.stdout) == (0, b"line of the command\nthe end\n")
    assert "testing clips" in shown and "line of the command" not in shown


def test_work_goes_on_when_its_terminal_is_lost(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from omnisource.reporting.progress import progress_bar\n"
        "with progress_bar('testing clips', 2) as advance:\n"
        "    os.read(0, 1); advance(); advance()\n"
        "Path(sys.argv[1]).touch()"
    )
    master, slave = pty.openpty()
    command = [sys.executable, "-c", code, str(tmp_path / "done")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=slave, start_new_session=True) as process:
        os.close(slave)
        os.read(master, 1)  # the bar is there
        os.close(master)
        process.communicate(b"x", timeout=100)
    assert (process.returncode, (tmp_path / "done").exists()) == (0, True)
