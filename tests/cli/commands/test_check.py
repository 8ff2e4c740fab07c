"""`omnisource check --pictures`: training samples are drawn before the files are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnisource.cli.main import main
from tests.support.checking import CONFIG, REPORT, TRAIN_LIST, checked
from tests.support.miniature import tiny_overrides

pytestmark = pytest.mark.usefixtures("in_data")


def test_training_samples_are_drawn_before_the_files_are_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sheets = tmp_path / "sheets"
    code, text = checked(capsys, CONFIG, *tiny_overrides(), "--pictures", str(sheets))
    assert code == 0 and sorted(path.name for path in sheets.iterdir()) == ["imagenet.png", "kinetics400.png"]
    assert text.index(str(sheets / "imagenet.png")) < text.index("33 files read")
    before = (sheets / "imagenet.png").read_bytes()
    code, text = checked(capsys, CONFIG, *tiny_overrides(), "seed=5", "--pictures", str(sheets))
    assert code == 0 and str(sheets / "imagenet.png") in text
    assert (sheets / "imagenet.png").read_bytes() != before


def test_sheets_of_others_are_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "imagenet.png").write_bytes(b"mine")
    assert main(["check", CONFIG, *tiny_overrides(), "--pictures", str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert output.out == "" and "move it away, or name another folder" in output.err
    assert (tmp_path / "imagenet.png").read_bytes() == b"mine"
    assert not REPORT.exists() and not (tmp_path / "kinetics400.png").exists()


def test_lists_with_mistakes_are_checked_although_no_training_samples_can_be_drawn(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    TRAIN_LIST.write_text(TRAIN_LIST.read_text() + "none.mp4 0\n")
    code, text = checked(capsys, CONFIG, *tiny_overrides(), "--pictures", str(tmp_path / "sheets"))
    assert code == 2 and "missing file" in text and text.splitlines()[-1] == "1 problem"
