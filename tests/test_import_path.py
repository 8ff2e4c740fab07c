"""Nothing of the current folder is imported by a command or by what it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from omnisource.import_path import environment_of_children, further_folders, leave_out_current_folder
from tests.support.miniature import OWN_DATA_CONFIG

SHADOWS = (
    "argparse",
    "av",
    "calendar",
    "inspect",
    "json",
    "multiprocessing",
    "numpy",
    "pickle",
    "queue",
    "random",
    "selectors",
    "shlex",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "torch",
    "typing",
    "PIL/__init__",
)


def write_shadows(folder: Path, *more: str) -> None:
    """Writes files that have the names of modules which we import, and end whatever imports them."""
    for name in (*SHADOWS, *more):
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"raise SystemExit('a file of the user is run: {name}')\n")


@pytest.mark.parametrize(
    ("program", "pythonpath", "more"),
    [
        # What Python has not loaded when it comes to our first line is looked for there before that.
        (["-m", "omnisource"], "", []),
        (["-c", "import sys; from omnisource.cli.main import main; sys.exit(main())"], ":/nowhere:", []),
        (["PROJECT/omnisource/__main__.py"], ":", []),
        (
            ["PROJECT/omnisource/__main__.py"],
            "",
            ["re", "pathlib", "enum", "types", "contextlib", "sitecustomize", "omnisource"],
        ),
    ],
    ids=["module", "text with empty entries", "file with an empty entry", "file"],
)
def test_command_imports_nothing_of_the_current_folder(
    program: list[str], pythonpath: str, more: list[str], tmp_path: Path, project: Path
) -> None:
    write_shadows(tmp_path, *more)
    program = [part.replace("PROJECT", str(project)) for part in program]
    done = subprocess.run(
        [sys.executable, *program, "show", str(OWN_DATA_CONFIG), "--keys"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": pythonpath + os.pathsep * bool(pythonpath) + str(project)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "num_epochs" in done.stdout


def test_only_what_means_the_current_folder_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    asked_for = tmp_path / "asked for"
    asked_for.mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    library = os.path.dirname(os.__file__)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(asked_for), ".", "relative"]))
    unwanted = [str(tmp_path), "", ".", "relative", str(tmp_path / "link")]
    monkeypatch.setattr(sys, "path", [*unwanted, str(asked_for), "/missing", library, str(tmp_path)])
    assert environment_of_children()["PYTHONPATH"] == str(asked_for)
    assert further_folders() == [str(asked_for), "/missing", library]
    leave_out_current_folder()
    # What stands behind Python's own library was installed there, and is in nobody's way.
    assert sys.path == [str(asked_for), "/missing", library, str(tmp_path)]
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path), library])
    leave_out_current_folder()
    assert sys.path == [str(tmp_path), library], "its full path was asked for"
