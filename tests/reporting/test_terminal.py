"""Text with what rich or a terminal would act on, or no file can hold: on the screen, in tables, in files of a run."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from omnisource.reporting.tables import print_table
from omnisource.reporting.terminal import open_console, plain_text, show_line
from tests.support.reports import lines_of, opened, record

NAME = "p:walking:[red]x[/][link=a]:100:"


@dataclass(frozen=True)
class LeftOut:
    path: str


@pytest.mark.parametrize("is_terminal", [False, True])
def test_emoji_codes_and_markup_are_shown_as_they_are(
    is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    console = open_console(file)
    console.width = 100
    assert console.is_terminal == is_terminal
    show_line(console, NAME)
    console.print(NAME, plain_text(NAME))
    print_table(NAME, [NAME], [[NAME]], file)
    with opened(tmp_path, console=console, tensorboard=False) as report:
        report.message(f"unreadable: {NAME}")
        report.step(record(1, losses={NAME: 1.0}))
        report.validating(NAME, 1)()
        report.validation(1, 1, NAME, {"top1": 0.5})
    assert file.getvalue().count(NAME) >= 9
    assert not any(ord(character) > 0x2FFF for character in file.getvalue())  # no emoji


def test_control_characters_and_names_that_are_no_text_reach_neither_terminal_nor_log(tmp_path: Path) -> None:
    name, seen = "a\x1b]0;t\x07\x9b31m\udcff\r", "a\\x1b]0;t\\x07\\u009b31m\\udcff\\x0d"
    file = io.StringIO()
    print_table("", ["class"], [[name]], file)
    with opened(tmp_path, console=open_console(file), tensorboard=False) as report:
        report.message(name)
        report.step(record(1, losses={name: 1.0}, samples={name: 2}))
        report.left_out(1, name, [LeftOut(name)])
    assert file.getvalue().count(seen) == 3
    assert (tmp_path / "train.log").read_text().count(seen) == 2
    (line,) = lines_of(tmp_path / "unreadable.jsonl")
    assert line == {"kind": "validation", "step": 1, "source": name, "path": name}
    assert lines_of(tmp_path / "metrics.jsonl")[0]["losses"] == {name: 1.0}
    assert json.loads((tmp_path / "run.json").read_text())["state"] == "complete"


def test_work_dir_that_is_not_utf8_has_everything_but_curves_for_tensorboard(tmp_path: Path) -> None:
    work_dir = tmp_path / "run\udcff"
    with opened(work_dir) as report:
        report.step(record(1))
    assert "gets no curves; metrics.jsonl has them" in (work_dir / "train.log").read_text()
    assert len(lines_of(work_dir / "metrics.jsonl")) == 1 and not (work_dir / "tensorboard").exists()
