from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from omnisource.errors import UserError
from omnisource.reporting import sinks
from omnisource.reporting.events import (
    BestFound,
    Event,
    IntervalDone,
    Message,
    RunEnded,
    StepDone,
    ValidationDone,
    ending_by,
)
from omnisource.reporting.report import Report, ReportSettings, open_report
from omnisource.reporting.sinks.status_file import StatusFileSink
from omnisource.reporting.status_file import starting_status
from tests.support.reports import opened, plain_console, record, shown, status_of


def test_starving_device_is_warned_of_once_in_the_log_and_on_the_screen(tmp_path: Path) -> None:
    console = plain_console()
    with opened(tmp_path, console=console, tensorboard=False, num_workers=3, interval_steps=1000) as report:
        for step in range(1, 301):
            report.step(record(step, total_steps=1000, step_seconds=0.5, data_seconds=0.2))
    for text in (shown(console), (tmp_path / "train.log").read_text()):
        assert text.count("warning: 40% of the time of the last 100 steps went into waiting for data") == 1
        assert "num_workers is 3, " in text


def test_other_ranks_have_a_report_that_writes_nothing(tmp_path: Path) -> None:
    with open_report(tmp_path / "run", 1, ReportSettings()) as report:
        report.step(record(1))
        report.watch_memory_of(lambda: pytest.fail("nobody sees it"))
        report.validating("clips", 3)()
        report.validation(1, 1, "clips", {"top1": 0.5})
        report.best(0.5, 1)
        report.picture(1, "examples/clips", lambda: pytest.fail("nobody sees it"))
        report.stopped(signal.SIGTERM, tmp_path)
        report.message("hello")
    assert not (tmp_path / "run").exists()
    with opened(tmp_path / "run"):
        assert (tmp_path / "run" / "metrics.jsonl").exists()


class Witness:
    """Notes what comes, under its name, in a list that several share."""

    def __init__(self, name: str, seen: list[tuple[str, object]], failure: BaseException | None = None) -> None:
        self.name, self.seen, self.failure = name, seen, failure

    def handle(self, event: Event) -> None:
        self.seen.append((self.name, event))

    def close(self, ended: RunEnded | None) -> None:
        self.seen.append((self.name, ended))
        if self.failure is not None:
            raise self.failure


class Full(Witness):
    """Notes what comes, and has no place for it."""

    def handle(self, event: Event) -> None:
        super().handle(event)
        raise UserError(self.name)


def test_each_event_goes_to_each_sink_in_their_order() -> None:
    seen: list[tuple[str, object]] = []
    report = Report([Witness("first", seen), Witness("second", seen)], interval_steps=2)
    report.message("hello")
    for step in (1, 2, 3, 4):
        report.step(record(step))
    report.validation(4, 1, "clips", {"top1": 0.5})
    report.best(0.5, 4)
    assert [name for name, _ in seen] == ["first", "second"] * (len(seen) // 2)
    events = [event for name, event in seen if name == "first"]
    assert events == [event for name, event in seen if name == "second"]
    kinds = [type(event) for event in events]
    steps = [StepDone, IntervalDone, StepDone, IntervalDone, StepDone, StepDone, IntervalDone]
    assert kinds == [Message, *steps, ValidationDone, BestFound]
    of_intervals = [[one.step for one in event.records] for event in events if isinstance(event, IntervalDone)]
    assert of_intervals == [[1], [2], [3, 4]]


def test_sink_that_fails_keeps_no_event_from_the_others() -> None:
    seen: list[tuple[str, object]] = []
    report = Report([Full("first", seen), Full("second", seen), Witness("third", seen)])
    with pytest.raises(UserError, match="first"):
        report.message("hello")
    assert seen == [(name, Message("hello")) for name in ("first", "second", "third")]


def test_no_sink_knows_another() -> None:
    folder = Path(sinks.__path__[0])
    shared = {"line_file", "memory"}
    names = {path.stem for path in folder.glob("*.py")} - shared - {"__init__"}
    assert {"console", "log_file", "metrics_file", "status_file", "tensorboard", "unreadable_file"} <= names
    for name in names:
        imported = re.findall(r"omnisource\.reporting\.sinks\.(\w+)", (folder / f"{name}.py").read_text())
        assert set(imported) <= shared, name


def test_report_without_sinks_does_nothing() -> None:
    with Report() as report:
        report.step(record(1))
        report.validating("clips", 3)()
        report.picture(1, "examples/clips", lambda: pytest.fail("nobody sees it"))
        report.watch_memory_of(lambda: pytest.fail("nobody sees it"))


def test_sinks_learn_how_the_run_ended_the_first_one_last() -> None:
    seen: list[tuple[str, object]] = []
    with Report([Witness("first", seen), Witness("second", seen)]):
        pass
    assert seen == [("second", RunEnded("complete")), ("first", RunEnded("complete"))]


def test_sink_that_cannot_be_closed_makes_the_run_fail_and_the_others_are_closed() -> None:
    seen: list[tuple[str, object]] = []
    witnesses = [Witness("first", seen), Witness("second", seen, UserError("the disk is full")), Witness("third", seen)]
    with pytest.raises(UserError, match="the disk is full"), Report(witnesses):
        pass
    complete, failed = RunEnded("complete"), RunEnded("failed", "the disk is full")
    assert seen == [("third", complete), ("second", complete), ("first", failed)]


def test_ctrl_c_while_a_sink_is_closed_ends_the_run_and_the_others_are_closed() -> None:
    seen: list[tuple[str, object]] = []
    witnesses = [Witness("first", seen), Witness("second", seen, KeyboardInterrupt()), Witness("third", seen)]
    with pytest.raises(KeyboardInterrupt), Report(witnesses):
        pass
    complete, interrupted = RunEnded("complete"), ending_by(KeyboardInterrupt())
    assert seen == [("third", complete), ("second", complete), ("first", interrupted)]


def test_ctrl_c_while_a_sink_is_closed_is_in_run_json(tmp_path: Path) -> None:
    status = StatusFileSink(tmp_path, starting_status(0, 40))
    with pytest.raises(KeyboardInterrupt), Report([status, Witness("second", [], KeyboardInterrupt())]):
        pass
    assert (status_of(tmp_path).state, status_of(tmp_path).activity) == ("interrupted", "")


def test_of_several_sinks_that_cannot_be_closed_the_first_failure_is_raised() -> None:
    seen: list[tuple[str, object]] = []
    witnesses = [Witness("first", seen, UserError("later")), Witness("second", seen, KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt), Report(witnesses):
        pass
    assert [name for name, _ in seen] == ["second", "first"]


def test_work_dir_that_cannot_be_written_is_an_error_for_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"file/run/metrics\.jsonl: cannot be written \(Not a directory\)"):
        opened(tmp_path / "file" / "run", tensorboard=False)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_full_disk_is_an_error_for_the_user_and_close_still_works(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    report = opened(tmp_path, tensorboard=False)
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written \(No space left on device\)"):
        report.step(record(1))
    report.close()
    report.close()


def test_importing_the_report_imports_neither_tensorboard_nor_matplotlib() -> None:
    code = (
        "import sys, omnisource.reporting.report;"
        "print([name for name in ('tensorboard', 'matplotlib', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


def test_ending_follows_from_what_was_raised() -> None:
    assert ending_by(UserError("no\nspace")) == RunEnded("failed", "no\nspace")
    assert ending_by(ZeroDivisionError("division by zero")) == RunEnded("failed", "ZeroDivisionError: division by zero")
    assert ending_by(KeyboardInterrupt()).state == "interrupted"
    assert ending_by(SystemExit(2)) == RunEnded(
        "failed",
        "another process of the run failed; the output of the run names the error; --resume auto continues it once "
        "that is fixed",
    )
