from __future__ import annotations

import io
import os
import pty
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.reports import lines_of, opened, plain_console, record, run_steps, shown, status_of


def test_plain_lines_come_first_then_every_interval_and_at_the_end(tmp_path: Path) -> None:
    text = shown(run_steps(tmp_path, 1, 40, interval_steps=15))
    steps = [line.split("step ")[1].split()[0] for line in text.splitlines() if "lr" in line]
    assert steps == ["1/40", "15/40", "30/40", "40/40"]


def test_plain_line_has_mean_losses_rate_waiting_and_time_left(tmp_path: Path) -> None:
    console = plain_console()
    with opened(tmp_path, console=console, tensorboard=False, interval_steps=2) as report:
        for step, loss in ((1, 9.0), (2, 2.0), (3, 4.0), (4, 5.0)):
            report.step(record(step, losses={"clips": loss, "images": 1.0}, total_loss=loss + 1, learning_rate=0.05))
    last = shown(console).splitlines()[-1]
    assert last == (
        "epoch 1  step 4/40  loss 5.5  clips 4.5  images 1  lr 0.05  gradient 1.414  "
        "50 samples/s  waiting for data 20%  0:00:18 left"
    )


def test_terminal_shows_a_bar_and_the_log_still_has_the_plain_lines(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    with opened(tmp_path, console=console, tensorboard=False) as report:
        for step in range(1, 41):
            report.step(record(step))
        report.message("saved step_40.pt")
    text = shown(console)
    assert "step 40/40" in text and "100%  0:00:00 left" in text
    assert "clips 0.07143  images 40.33" in text
    assert "50 samples/s  waiting for data 20%" in text
    assert "saved step_40.pt" in text
    assert "gradient 1.414  50 samples/s  waiting for data 20%  0:00:00 left\n" not in text
    assert (tmp_path / "train.log").read_text().count("samples/s") == 5


def test_bar_leaves_the_cursor_visible_when_the_run_ends_with_an_error(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, console=console, tensorboard=False) as report:
        report.step(record(1))
        raise KeyboardInterrupt
    text = shown(console)
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0


def test_lost_terminal_ends_no_run_and_the_log_has_its_lines(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with open(slave, "w") as terminal:
        console = Console(file=terminal, force_terminal=True, width=80)
        with opened(tmp_path, console=console, tensorboard=False, interval_steps=1) as report:
            report.step(record(1))
            os.close(master)  # from here on, writing is an input/output error
            report.message("still here")
            for step in range(2, 41):
                report.step(record(step))
            report.validating("clips", 1)()
            report.validation(40, 2, "clips", {"top1": 0.5})
        console.print("nobody sees this")  # nor does it fail
    assert [line["step"] for line in lines_of(tmp_path / "metrics.jsonl")] == [*range(1, 41), 40]
    log = (tmp_path / "train.log").read_text()
    assert "still here" in log and "step 40/40" in log
    assert status_of(tmp_path).state == "complete"


def test_validation_moves_on_in_a_terminal_and_its_line_goes_afterward(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with opened(tmp_path, console=console, tensorboard=False) as report:
        report.step(record(1))
        advance = report.validating("clips", 30)
        for _ in range(30):
            advance()
        assert "validating clips  30/30 items" in shown(console)
        assert shown(console).endswith("0:00:00 left")
        report.validation(1, 1, "clips", {"top1": 0.5})
    last = shown(console).rpartition("validation of clips")[2]
    assert "step 1/40" in last and "validating" not in last


def test_long_validation_has_plain_lines_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnisource.reporting.report.VALIDATION_LINE_SECONDS", 0.0)
    console = plain_console()
    with opened(tmp_path, console=console, tensorboard=False) as report:
        advance = report.validating("clips", 3)
        for _ in range(3):
            advance()
    lines = shown(console).splitlines()
    assert [line.split("  ")[:2] for line in lines] == [["validating clips", f"{done}/3 items"] for done in (1, 2, 3)]
    assert [line[21:] for line in (tmp_path / "train.log").read_text().splitlines()] == lines
