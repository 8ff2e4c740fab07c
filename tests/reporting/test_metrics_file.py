from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from omnisource.errors import UserError
from omnisource.reporting.metrics_file import drop_after, read_metrics
from tests.support.reports import lines_of, opened, record, run_steps

TIMES = ("step_seconds", "data_seconds")


def test_each_step_and_each_validation_is_a_line_that_reads_back_exactly(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 20)
    lines = lines_of(tmp_path / "metrics.jsonl")
    assert [line["kind"] for line in lines] == ["step"] * 20 + ["validation"]
    assert lines[-1]["metrics"] == {"top1": 0.2, "count": 30}
    steps, validations = read_metrics(tmp_path)
    assert steps == [record(step) for step in range(1, 21)]
    assert [(one.step, one.epoch, one.source) for one in validations] == [(20, 1, "clips")]


def test_line_is_in_the_file_when_the_step_has_been_reported(tmp_path: Path) -> None:
    with opened(tmp_path, tensorboard=False) as report:
        report.step(record(1))
        assert len(lines_of(tmp_path / "metrics.jsonl")) == 1


def test_lines_of_two_equal_runs_differ_in_their_times_only(tmp_path: Path) -> None:
    for folder, seconds in (("one", 0.5), ("two", 0.75)):
        with opened(tmp_path / folder, tensorboard=False) as report:
            report.step(record(1, step_seconds=seconds, data_seconds=seconds / 3))
            report.validation(1, 1, "clips", {"top1": 1 / 3})
    texts = [(tmp_path / folder / "metrics.jsonl").read_text() for folder in ("one", "two")]
    assert texts[0] != texts[1]
    kept = [[json.loads(line) for line in text.splitlines()] for text in texts]
    for lines in kept:
        for key in TIMES:
            del lines[0][key]
    assert json.dumps(kept[0]) == json.dumps(kept[1])  # the same order of the keys too


def test_numbers_that_are_not_finite_leave_valid_json(tmp_path: Path) -> None:
    with opened(tmp_path, tensorboard=False) as report:
        report.step(record(1, total_loss=float("nan"), gradient_norm=float("inf")))
    text = (tmp_path / "metrics.jsonl").read_text()
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (line["total_loss"], line["gradient_norm"]) == ("nan", "inf")
    assert read_metrics(tmp_path)[0][0].gradient_norm == float("inf")


def test_resumed_run_leaves_each_step_once_and_keeps_what_it_dropped(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 25)
    run_steps(tmp_path, 18, 40, resumed_step=17)
    assert [line["step"] for line in lines_of(tmp_path / "metrics.jsonl") if line["kind"] == "step"] == [*range(1, 41)]
    validations = [line["step"] for line in lines_of(tmp_path / "metrics.jsonl") if line["kind"] == "validation"]
    assert validations == [20, 40]
    dropped = lines_of(tmp_path / "metrics.discarded.jsonl")
    assert [(line["kind"], line["step"]) for line in dropped] == [
        *(("step", step) for step in (18, 19, 20)),
        ("validation", 20),
        *(("step", step) for step in (21, 22, 23, 24, 25)),
    ]


def test_dropping_twice_adds_to_the_discarded_lines(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 10)
    assert drop_after(tmp_path, 8) == 2
    assert drop_after(tmp_path, 5) == 3
    assert [line["step"] for line in lines_of(tmp_path / "metrics.discarded.jsonl")] == [9, 10, 6, 7, 8]
    assert drop_after(tmp_path, 5) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["invocations.jsonl", "metrics.discarded.jsonl", "metrics.jsonl", "run.json", "train.log"]


def test_dropping_nothing_leaves_the_file_as_it_is_and_makes_no_other(tmp_path: Path) -> None:
    assert drop_after(tmp_path, 3) == 0
    run_steps(tmp_path, 1, 3)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    assert drop_after(tmp_path, 3) == 0
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert not (tmp_path / "metrics.discarded.jsonl").exists()


def test_folder_that_cannot_be_synced_is_let_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):  # as some network disks do
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    run_steps(tmp_path, 1, 10)
    monkeypatch.setattr(os, "fsync", fsync)
    assert drop_after(tmp_path, 8) == 2


@pytest.mark.parametrize("tail", [b'{"kind": "step", "st', b'{"kind": "step", "step": 1', b"\xc3"])
def test_line_cut_off_by_a_kill_is_discarded_on_resume(tmp_path: Path, tail: bytes) -> None:
    run_steps(tmp_path, 1, 4)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(tail)
    assert [one.step for one in read_metrics(tmp_path)[0]] == [1, 2, 3, 4]  # curves can be drawn meanwhile
    run_steps(tmp_path, 5, 6, resumed_step=4)
    assert [line["step"] for line in lines_of(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "metrics.discarded.jsonl").read_bytes() == tail + b"\n"


def test_whole_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 4)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    run_steps(tmp_path, 5, 5, resumed_step=4)
    assert [line["step"] for line in lines_of(path)] == [1, 2, 3, 4, 5]


def test_line_in_the_middle_that_no_run_wrote_is_reported(tmp_path: Path) -> None:
    run_steps(tmp_path, 1, 3)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "nonsense", lines[1]]) + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: this is no line of a training run"):
        read_metrics(tmp_path)
