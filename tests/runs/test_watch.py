from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from omnisource.cli.main import main
from omnisource.errors import UserError
from omnisource.reporting.metrics_file import drop_after
from omnisource.reporting.status_file import STATUS, read_status
from omnisource.runs.watch import watch
from tests.support.reported_runs import let_go, open_report, record, reporting_process, write_run
from tests.support.terminal import HIDDEN, SHOWN, Terminal

TEN_STEPS = """
with open_report(run) as report:
    for step in range(1, 11):
        report.step(record(step))
    report.validation(10, 1, "clips", {"top1": 0.25, "count": 30})
    report.best(0.25, 10)
    report.message("a worker was replaced")
    wait_for(go)
"""


IS_WRITTEN = "a worker was replaced"
"""What such a run says last before it waits."""


DRAWN = (
    "running",
    "epoch 1 step 10/40",
    "25% 0:00:15 left",  # 30 steps of half a second
    "loss clips 0.3 images 1 lr 0.1 gradient 2.5 50 samples/s waiting for data 10%",
    "validation of clips at step 10: top1 0.25 count 30",
    "best top-1 of clips: 25.00% at 10",
)
"""What a terminal shows of such a run."""


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def watching(run: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "omnisource", "watch", str(run), *flags]


def failed(run: Path) -> Path:
    with pytest.raises(UserError), open_report(run) as report:
        report.step(record(1))
        raise UserError("the loss is not finite\nof these samples")
    return run


# In a terminal.


@pytest.mark.parametrize("columns", [80, 110])
def test_terminal_shows_the_run_and_ends_with_it(tmp_path: Path, columns: int) -> None:
    run = tmp_path / "run"
    code = TEN_STEPS + "    for step in range(11, 41):\n        report.step(record(step))\n"
    with reporting_process(run, code), Terminal(watching(run), columns) as terminal:
        terminal.read_until(lambda text: all(part in flat(text) for part in (*DRAWN, IS_WRITTEN)))
        assert all(part in flat(terminal.text) for part in (*DRAWN, IS_WRITTEN)), terminal.text
        assert "epoch 1  step 10/40" in terminal.text and "25%  0:00:15 left" in terminal.text
        assert "samples/s waiting for data 10% 0:00" not in flat(terminal.text)  # the plain lines of steps
        let_go(run)
        assert terminal.end() == 0
    assert "complete" in terminal.text
    assert "epoch 2  step 40/40" in terminal.text
    assert max(map(len, terminal.text.splitlines())) <= columns
    assert terminal.raw.rfind(SHOWN) > terminal.raw.rfind(HIDDEN) >= 0


def test_interrupting_the_watcher_leaves_the_run_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with reporting_process(run, TEN_STEPS) as process, Terminal(watching(run)) as terminal:
        terminal.read_until(lambda text: IS_WRITTEN in text and DRAWN[-1] in flat(text))
        before = {path: path.read_bytes() for path in run.iterdir() if not path.name.startswith(STATUS)}
        terminal.interrupt()
        assert terminal.end() == 130
        assert process.poll() is None
        assert {path: path.read_bytes() for path in run.iterdir() if not path.name.startswith(STATUS)} == before
        let_go(run)
        assert process.wait(timeout=100) == 0
    assert "Traceback" not in terminal.text
    assert terminal.raw.rfind(SHOWN) > terminal.raw.rfind(HIDDEN) >= 0


def test_watcher_of_a_run_that_is_killed_ends_with_an_error(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with reporting_process(run, TEN_STEPS) as process, Terminal(watching(run)) as terminal:
        terminal.read_until(lambda text: "best top-1" in text)
        process.kill()
        assert terminal.end() == 1
    assert "did not say how it ended" in flat(terminal.text)


def test_dumb_terminal_gets_plain_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run")
    with Terminal(["env", "TERM=dumb", *watching(run)]) as terminal:
        assert terminal.end() == 0
    assert HIDDEN not in terminal.raw
    assert "step 40/40" in terminal.text


# Elsewhere.


def test_elsewhere_lines_of_the_log_are_added_as_they_come(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = TEN_STEPS + "    report.message('the last word')\n"
    with reporting_process(run, code):
        watcher = subprocess.Popen(watching(run), stdout=subprocess.PIPE, text=True)
        assert watcher.stdout is not None
        lines = [watcher.stdout.readline() for _ in range(4)]
        assert [line[21:].split("  ")[1].strip() for line in lines[:2]] == ["step 1/40", "step 10/40"]
        assert "validation of clips: top1 0.25" in lines[2]
        assert lines[3].endswith("a worker was replaced\n")
        let_go(run)
        rest = watcher.stdout.read().splitlines()
        assert watcher.wait(timeout=100) == 0
    assert rest[0].endswith("the last word")
    assert rest[1].startswith(f"{run}  complete  last heartbeat ")
    assert "\x1b" not in "".join(rest)
    assert "━" not in "".join(rest)


@pytest.mark.parametrize(("name", "code"), [("complete", 0), ("failed", 1), ("interrupted", 1), ("killed", 1)])
def test_exit_code_tells_how_a_run_ended(
    tmp_path: Path, name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "failed":
        failed(tmp_path)
    elif name == "interrupted":
        with pytest.raises(KeyboardInterrupt), open_report(tmp_path):
            raise KeyboardInterrupt
    else:
        write_run(tmp_path)
    if name == "killed":
        text = (tmp_path / STATUS).read_text().replace('"complete"', '"running"')
        (tmp_path / STATUS).write_text(re.sub(r'"process_start": "\d+"', '"process_start": "1"', text))
    assert main(["watch", str(tmp_path)]) == code
    assert f"{tmp_path}  {name}  last heartbeat " in capsys.readouterr().out


def test_once_shows_how_a_run_stands_and_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_report(tmp_path) as report:
        for step in range(1, 4):
            report.step(record(step))
        while (status := read_status(tmp_path)) is None or status.activity != "training":
            time.sleep(0.01)
        capsys.readouterr()
        assert main(["watch", str(tmp_path), "--once"]) == 0
        first, *others = capsys.readouterr().out.splitlines()
        assert re.fullmatch(rf"{re.escape(str(tmp_path))}  running  last heartbeat \d+ s ago", first)
        assert others == [
            "epoch 1  step 3/40  8%  0:00:18 left",
            "loss  clips 1  images 1  lr 0.1  gradient 2.5  50 samples/s  waiting for data 10%",
        ]
    failed(tmp_path / "failed")
    assert main(["watch", str(tmp_path / "failed"), "--once"]) == 0
    assert "the loss is not finite ... (the rest is in train.log)" in capsys.readouterr().out


def test_validation_under_way_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_report(tmp_path) as report:
        report.step(record(1))
        advance = report.validating("clips", 30)
        for _ in range(12):
            advance()
        report.best(None, None)  # written at once
        while (status := read_status(tmp_path)) is None or "12" not in status.activity:
            time.sleep(0.01)
        assert watch(tmp_path, is_once=True) == 0
        assert "running, validating clips, 12 of 30 items  last heartbeat" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--once"]])
def test_folder_without_a_run_is_a_mistake(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, words in ((tmp_path, "holds no run"), (tmp_path / "missing", "no such folder")):
        assert main(["watch", str(folder), *flags]) == 2
        assert f"error: {folder}: {words}; name the work dir of a run" in capsys.readouterr().err


def test_run_without_status_is_followed_to_its_last_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, steps=39)
    (tmp_path / STATUS).unlink()
    codes: list[int] = []
    watcher = threading.Thread(target=lambda: codes.append(watch(tmp_path, is_once=False)))
    watcher.start()
    watcher.join(timeout=1.5)
    assert watcher.is_alive()  # whether it still runs is not known, so it is waited for
    with open_report(tmp_path, resumed_step=39) as report:
        report.step(record(40))
    watcher.join(timeout=100)
    assert codes == [0]
    assert "step 40/40" in capsys.readouterr().out


def test_resume_that_drops_steps_and_a_line_half_written_are_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown() -> list[str]:
        capsys.readouterr()
        assert watch(tmp_path, is_once=True) == 0
        return capsys.readouterr().out.splitlines()

    write_run(tmp_path, steps=30)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"kind": "step", "step": 31, "ep')
    assert shown()[1].startswith("epoch 2  step 30/40")
    assert not any("damaged" in line for line in shown())
    drop_after(tmp_path, 25)  # what a resumed run does first
    assert shown()[1].startswith("epoch 2  step 25/40")
    with open_report(tmp_path, resumed_step=15) as report:
        lines = shown()
        assert lines[0].split()[1] == "running,"  # starting
        assert lines[1].startswith("epoch 1  step 15/40")
        assert not any(line.startswith("validation") for line in lines)  # that of step 20 is done again
        report.step(record(16))
        assert shown()[1].startswith("epoch 1  step 16/40")


def test_watching_writes_nothing(tmp_path: Path) -> None:
    write_run(tmp_path)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    folder_time = os.stat(tmp_path).st_mtime_ns
    assert watch(tmp_path, is_once=True) == watch(tmp_path, is_once=False) == 0
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before
    assert os.stat(tmp_path).st_mtime_ns == folder_time
