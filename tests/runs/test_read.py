from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnisource.cli.main import main
from omnisource.errors import UserError
from omnisource.recipe.plain import to_json
from omnisource.reporting.records import metrics_line
from omnisource.reporting.status_file import STATUS, read_status
from omnisource.runs.read import OLD_TAIL_BYTES, age, find_runs, read_run
from omnisource.runs.table import print_runs
from tests.support.reported_runs import open_report, record, reporting_process, write_run
from tests.support.terminal import Terminal


def listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["runs", str(folder)]) == 0
    return capsys.readouterr().out


def row(text: str, name: str) -> list[str]:
    """Returns the cells of the row of a run."""
    [line] = [line for line in text.splitlines() if line.split("  ")[0] == name]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def without_status(run: Path) -> Path:
    """Makes a run one of a version that wrote no run.json."""
    (run / STATUS).unlink()
    return run


def set_updated(run: Path, seconds_ago: float, **changes: object) -> None:
    """Changes a run's status, and puts its last heartbeat back."""
    status = read_status(run)
    assert status is not None
    changed = dataclasses.replace(status, updated_unix_seconds=time.time() - seconds_ago, **changes)  # type: ignore[arg-type]
    (run / STATUS).write_text(to_json(changed))


# Which folders are runs.


def test_runs_are_found_at_any_depth_through_links_and_once(tmp_path: Path) -> None:
    for name in ("b", "group/a", "group/deep/er/c", "b/inner"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "metrics.jsonl").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/recipe.json").touch()
    (tmp_path / "runs/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs/a_latest").symlink_to(tmp_path / "runs/b")
    (tmp_path / "runs/circle").symlink_to(tmp_path / "runs")
    for left_out in (".hidden", "b/checkpoints/x", "b/tensorboard"):
        (tmp_path / "runs" / left_out).mkdir(parents=True)
        (tmp_path / "runs" / left_out / "metrics.jsonl").touch()
    found, faults = find_runs(tmp_path / "runs")
    names = [str(path.relative_to(tmp_path / "runs")) for path in found]
    assert sorted(names) == ["b", "b/inner", "group/a", "group/deep/er/c", "link"]
    assert faults == []


def test_folder_that_is_a_run_itself_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert row(listed(write_run(tmp_path / "only"), capsys), "only")[1] == "complete"


def test_folder_that_is_missing_is_a_mistake_and_one_without_runs_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(tmp_path / "missing")]) == 2
    assert f"{tmp_path / 'missing'}: no such folder" in capsys.readouterr().err
    assert listed(tmp_path, capsys) == f"no runs below {tmp_path}\n"


# States.


def test_row_of_a_run_tells_state_step_epoch_best_loss_and_age(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "done")
    set_updated(tmp_path / "done", 3 * 3600 + 5)
    text = listed(tmp_path, capsys)
    assert text.splitlines()[0].split() == ["run", "state", "step", "epoch", "best", "top-1", "loss", "seen", "left"]
    assert row(text, "done") == ["done", "complete", "40/40", "2", "40.00% at 40", "1.075", "3 h", "-"]


def test_running_run_is_running_and_has_time_left(tmp_path: Path) -> None:
    with open_report(tmp_path / "run") as report:
        assert read_run(tmp_path / "run").step == 0
        for step in range(1, 11):
            report.step(record(step))
        run = read_run(tmp_path / "run")
        assert (run.state, run.step, run.total_steps, run.seconds_left) == ("running", 10, 40, 15.0)
    assert read_run(tmp_path / "run").state == "complete"


def test_run_whose_process_was_killed_is_killed_though_its_file_says_running(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = "with open_report(run) as report:\n    report.step(record(1))\n    wait_for(go)\n"
    with reporting_process(run, code) as process:
        while (status := read_status(run)) is None or read_run(run).step != 1:
            time.sleep(0.01)
        assert read_run(run).state == "running"
        process.send_signal(signal.SIGKILL)
        while read_run(run).state == "running":  # dead, and not waited for by its parent: us
            time.sleep(0.01)
        killed = read_run(run)
        assert killed.state == "killed"
        process.wait()
    assert read_run(run).state == "killed"
    assert f"process {status.process_id} on {status.host}" in read_run(run).reason
    assert read_run(run).seconds_left is None


def test_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it(tmp_path: Path) -> None:
    with open_report(tmp_path) as report:
        report.step(record(1))
        report.close()
        set_updated(tmp_path, 0)
        assert read_run(tmp_path).state == "running"
        set_updated(tmp_path, 0, process_start="1")
        assert read_run(tmp_path).state == "killed"


def test_run_on_another_machine_is_killed_once_it_is_silent_for_minutes(tmp_path: Path) -> None:
    with open_report(tmp_path) as report:
        report.close()
        for seconds, state in ((5, "running"), (200, "running"), (400, "killed")):
            set_updated(tmp_path, seconds, machine="another", host="elsewhere", process_id=1)
            assert read_run(tmp_path).state == state
        assert "process 1 on elsewhere gave its last heartbeat 0:06:40 ago" in read_run(tmp_path).reason


def test_reasons_stand_below_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_report(tmp_path / "stopped") as report:
        report.step(record(1))
        report.stopped(signal.SIGTERM, Path("work_dirs/stopped/checkpoints/step_000000001.pt"))
    with pytest.raises(UserError), open_report(tmp_path / "failed"):
        raise UserError("the disk is full\nand more")
    with pytest.raises(ZeroDivisionError), open_report(tmp_path / "broken"):
        1 / 0  # noqa: B018
    lines = listed(tmp_path, capsys).splitlines()
    assert "stopped (interrupted): SIGTERM, saved as step_000000001.pt" in lines
    assert "failed (failed): the disk is full" in lines
    assert "broken (failed): ZeroDivisionError: division by zero" in lines


def test_newest_signs_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seconds in (("old", 900), ("new", 3), ("middle", 200)):
        write_run(tmp_path / name, steps=1)
        set_updated(tmp_path / name, seconds)
    assert [line.split()[0] for line in listed(tmp_path, capsys).splitlines()] == ["run", "new", "middle", "old"]


# Runs of older versions, long ones, damaged ones.


def test_run_without_status_is_unknown_and_judged_by_its_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_status(write_run(tmp_path / "old"))
    assert row(listed(tmp_path, capsys), "old")[1:6] == ["unknown", "40/40", "2", "40.00% at 40", "1.075"]
    [validation] = read_run(tmp_path / "old").validations
    assert (validation.step, validation.metrics["top1"]) == (40, 0.4)


@pytest.mark.parametrize("has_status", [True, False])
def test_of_a_long_run_the_end_alone_is_read(tmp_path: Path, has_status: bool) -> None:
    run = write_run(tmp_path / "run", steps=1)
    best = '{"kind": "validation", "step": 1, "epoch": 1, "source": "clips", "metrics": {"top1": 0.25}}\n'
    with (run / "metrics.jsonl").open("r+b") as file:
        file.truncate(OLD_TAIL_BYTES * 50)  # a hole of 200 MB, which reading would find to be no line of a run
        file.seek(0, os.SEEK_END)
        lines = [metrics_line(record(step, total_steps=500_000)) for step in range(400_000, 400_200)]
        file.write(("\n" + best + "\n".join(lines) + "\n").encode())
    if not has_status:
        without_status(run)
    found = read_run(run)
    if not has_status:
        assert (found.best_score, found.is_best_certain) == (0.25, False)
    assert found.faults == ()
    assert (found.step, found.total_steps, len(found.steps)) == (400_199, 500_000, 50)
    assert [one.step for one in found.steps] == list(range(400_150, 400_200))


def test_best_of_a_long_run_without_status_is_a_lower_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = without_status(write_run(tmp_path / "long"))
    content = (run / "metrics.jsonl").read_bytes()
    padding = (metrics_line(record(1)) + "\n").encode()
    (run / "metrics.jsonl").write_bytes(padding * (OLD_TAIL_BYTES // len(padding) + 1) + content)
    assert row(listed(tmp_path, capsys), "long")[4] == "at least 40.00% at 40"


def test_damaged_and_half_written_runs_are_reported_and_do_not_break_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("whole", "status", "line", "cut", "recipe", "types"):
        write_run(tmp_path / name)
    (tmp_path / "status/run.json").write_text('{"state": "runn')
    (tmp_path / "types/run.json").write_text('{"state": "running", "step": "many"}')
    for name, end in (("line", b"\x00\xff garbage\n[1]\n"), ("cut", b'{"kind": "step", "st')):
        with (tmp_path / name / "metrics.jsonl").open("ab") as file:
            file.write(end)
    (tmp_path / "recipe/recipe.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/run.json").touch()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/recipe.json").write_text('{"main_source": "clips"}')
    text = listed(tmp_path, capsys)
    assert row(text, "whole")[1] == "complete"
    for name, state, step in (
        ("status", "unknown", "40/40"),
        ("types", "unknown", "40/40"),
        ("line", "complete", "40/40"),
        ("cut", "complete", "40/40"),
        ("recipe", "complete", "40/40"),
        ("empty", "unknown", "-"),
        ("begun", "unknown", "-"),
    ):
        assert row(text, name)[1:3] == [state, step], name
    assert f"{tmp_path}/status/run.json: is damaged (Unterminated string" in text
    assert f"{tmp_path}/types/run.json: missing keys" in text
    assert f"{tmp_path}/line/metrics.jsonl: is damaged (2 lines near its end are not of a training run)" in text
    assert f"{tmp_path}/recipe/recipe.json: is damaged" in text
    assert f"{tmp_path}/empty/run.json: is damaged" in text
    assert f"{tmp_path}/cut" not in text and f"{tmp_path}/whole" not in text


def test_status_of_a_newer_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    write_run(tmp_path)
    content = json.loads((tmp_path / STATUS).read_text())
    (tmp_path / STATUS).write_text(json.dumps({**content, "temperature_celsius": 20}))
    assert (read_run(tmp_path).state, read_run(tmp_path).faults) == ("complete", ())


def test_link_that_leads_to_itself_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "around").symlink_to("around")
    text = listed(tmp_path, capsys)
    assert f"{tmp_path}/around: cannot be looked into: Too many levels of symbolic links" in text and "complete" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_folder_that_may_not_be_read_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "closed").mkdir(mode=0)
    assert f"{tmp_path}/closed: cannot be looked into: Permission denied" in listed(tmp_path, capsys)


def test_run_that_is_removed_while_it_is_looked_at_is_a_mistake_of_that_run_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; name the work dir of a run"):
        read_run(tmp_path / "gone")


# How it is shown.


def test_json_has_a_line_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "one")
    with open_report(tmp_path / "two") as report:
        report.step(record(1, total_loss=float("nan")))
    capsys.readouterr()
    assert print_runs(tmp_path, is_json=True) == 0
    lines = capsys.readouterr().out.splitlines()
    runs = {line["run"]: line for line in (json.loads(line, parse_constant=pytest.fail) for line in lines)}
    one = runs[str(tmp_path / "one")]
    assert (one["state"], one["step"], one["total_steps"], one["epoch"]) == ("complete", 40, 40, 2)
    assert (one["best_score"], one["best_step"], one["losses"]) == (0.4, 40, {"clips": 0.075, "images": 1.0})
    assert runs[str(tmp_path / "two")]["loss"] == "nan"


@pytest.mark.parametrize("columns", [80, 110])
def test_table_fits_the_terminal_and_no_name_is_cut(tmp_path: Path, columns: int) -> None:
    name = "slowonly_r50_imagenet-kinetics400-rgb"
    write_run(tmp_path / name)
    with Terminal([sys.executable, "-m", "omnisource", "runs", str(tmp_path)], columns) as terminal:
        assert terminal.end() == 0
    lines = terminal.text.splitlines()
    assert max(map(len, lines)) <= columns
    assert any(line.startswith(name) for line in lines)
    has_own_line = name in lines  # too long for one line with its figures
    assert has_own_line == (columns == 80)


def test_lines_in_a_pipe_are_not_broken(tmp_path: Path) -> None:
    reason = "a long reason " * 15
    with pytest.raises(UserError), open_report(tmp_path / "run"):
        raise UserError(reason)
    command = [sys.executable, "-m", "omnisource", "runs", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert f"run (failed): {reason.strip()}" in [line.strip() for line in result.stdout.splitlines()]


@pytest.mark.parametrize("command", ["runs", "watch"])
def test_listing_and_watching_import_neither_torch_nor_numpy(tmp_path: Path, command: str) -> None:
    write_run(tmp_path / "run")
    arguments = ["-X", "importtime", "-m", "omnisource", command, str(tmp_path / "run")]
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "omnisource.runs.read" in imported
    assert not imported & {"torch", "numpy", "matplotlib", "tensorboard"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (119, "1 min"), (7199, "119 min"), (7200, "2 h"), (200000, "2 d")],
)
def test_age_is_said_in_one_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_copied_run_keeps_its_age_and_state(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    set_updated(tmp_path / "run", 7200)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert age(read_run(tmp_path / "copy").age_seconds) == "2 h"
