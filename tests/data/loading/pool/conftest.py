"""Programs that start workers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def run_program(tmp_path: Path, project: Path) -> Iterator[Callable[[str], subprocess.Popen]]:
    """Starts a program, given its text, in a process group of its own, with access to the tests."""
    started = []

    def run(text: str) -> subprocess.Popen:
        (tmp_path / "program.py").write_text(textwrap.dedent(text))
        started.append(
            subprocess.Popen(
                [sys.executable, "-u", "program.py"],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(project)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield run
    for program in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
