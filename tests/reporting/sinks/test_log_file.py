from __future__ import annotations

import os
from pathlib import Path

import pytest

from omnisource.errors import UserError
from tests.support.reports import opened, plain_console, record, shown, status_of


def test_log_holds_the_lines_that_were_shown_with_the_time_of_day(tmp_path: Path) -> None:
    console = plain_console()
    with opened(tmp_path, console=console, tensorboard=False) as report:
        report.message("started\non 2 processes [gloo]")
        report.step(record(1))
        report.validation(1, 1, "images", {"top1": 0.12345})
    logged = (tmp_path / "train.log").read_text().splitlines()
    assert [line[21:] for line in logged] == shown(console).splitlines()
    assert logged[1].endswith("on 2 processes [gloo]")
    assert logged[-1].endswith("epoch 1  step 1  validation of images: top1 0.1235")


def test_run_json_and_the_log_tell_why_a_run_failed(tmp_path: Path) -> None:
    console = plain_console()
    with pytest.raises(UserError), opened(tmp_path, console=console, tensorboard=False) as report:
        report.step(record(1))
        raise UserError("list.txt:3: no such file\nfix the list")
    assert (status_of(tmp_path).state, status_of(tmp_path).reason) == (
        "failed",
        "list.txt:3: no such file\nfix the list",
    )
    log = (tmp_path / "train.log").read_text()
    assert "  the run failed: list.txt:3: no such file\n" in log and log.endswith("  fix the list\n")
    assert "the run failed" not in shown(console)  # the command line says it


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_run_that_cannot_log_its_failure_is_still_reported_as_failed(tmp_path: Path) -> None:
    (tmp_path / "train.log").symlink_to("/dev/full")
    with pytest.raises(UserError), opened(tmp_path, tensorboard=False):
        raise UserError("the first error")
    assert (status_of(tmp_path).state, status_of(tmp_path).reason) == ("failed", "the first error")
