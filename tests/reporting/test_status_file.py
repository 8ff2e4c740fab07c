from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnisource.errors import UserError
from omnisource.recipe.plain import to_plain
from omnisource.reporting.events import RunEnded
from omnisource.reporting.records import ValidationRecord
from omnisource.reporting.sinks.status_file import StatusFileSink
from omnisource.reporting.status_file import STATUS, is_alive, read_status, starting_status, validations_until


def test_missing_status_is_none_and_a_damaged_one_is_reported(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    whole = to_plain(starting_status(0, 40))
    for content, reason in (
        ("", "Expecting value"),
        ("[1, 2]", "it holds no fields"),
        (json.dumps({**whole, "step": "three"}), "step = 'three': wants a whole number"),
        (json.dumps({**whole, "state": "asleep"}), "state = 'asleep': wants one of running"),
        (json.dumps({key: value for key, value in whole.items() if key != "host"}), "missing keys host"),
    ):
        (tmp_path / STATUS).write_text(content)
        with pytest.raises(UserError, match=reason) as reported:
            read_status(tmp_path)
        assert str(tmp_path / STATUS) in str(reported.value)


def test_process_is_alive_until_it_ends_even_if_nobody_waits_for_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    status = dataclasses.replace(starting_status(0, 40), process_id=process.pid)
    start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    status = dataclasses.replace(status, process_start=start)
    assert is_alive(status)
    assert not is_alive(dataclasses.replace(status, process_start="1"))
    process.send_signal(signal.SIGKILL)
    while is_alive(status):
        time.sleep(0.005)
    process.wait()  # only now is it gone from the list of processes
    assert not is_alive(status)


def test_process_elsewhere_is_alive_as_long_as_it_is_heard_of() -> None:
    status = dataclasses.replace(starting_status(0, 40), process_id=2**22 + 1)
    assert not is_alive(status)
    for machine in ("another", ""):  # "": a system that does not say
        elsewhere = dataclasses.replace(status, machine=machine)
        assert is_alive(elsewhere)
        assert not is_alive(dataclasses.replace(elsewhere, updated_unix_seconds=time.time() - 301))


def test_process_number_that_no_process_can_have_is_dead() -> None:
    assert not is_alive(dataclasses.replace(starting_status(0, 40), process_id=10**30))


def test_validations_of_steps_that_are_done_again_are_forgotten(tmp_path: Path) -> None:
    early, late = ValidationRecord(4, 1, "clips", {"top1": 0.5}), ValidationRecord(8, 2, "images", {"top1": 0.5})
    StatusFileSink(tmp_path, starting_status(8, 40, (early, late))).close(RunEnded("interrupted"))
    assert validations_until(tmp_path, 8) == (early, late)
    assert validations_until(tmp_path, 7) == (early,)
    assert validations_until(tmp_path, None) == ()
    (tmp_path / STATUS).write_text("{")
    assert validations_until(tmp_path, 8) == ()
