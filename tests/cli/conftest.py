"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from omnisource.cli.main import main


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def failing(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with exit code 2 and returns its message."""

    def message_of(*arguments: str) -> str:
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse's way
            code = end.code
        error = capsys.readouterr().err
        assert code == 2, error
        assert "Traceback" not in error
        assert "error: " in error
        return error

    return message_of
