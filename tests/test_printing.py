"""What is printed: names that drive no terminal, and streams that are gone, full or closed."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omnisource.printing import notice, printable, printable_name, show, show_json

PACKAGE = Path(__file__).resolve().parents[1] / "omnisource"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a :walking: [red]b[/] 猫 שלום é", "a :walking: [red]b[/] 猫 שלום é"),
        ("\x1b[31mred\x07\r\x7f", "\\x1b[31mred\\x07\\x0d\\u007f"),
        ("\x9b31m \u202egpj.exe \u2028", "\\u009b31m \\u202egpj.exe \\u2028"),
        ("\udcff.jpg", "\\udcff.jpg"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_nothing_that_a_terminal_acts_on_is_printed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_name_with_line_ends_is_printed_in_one_line() -> None:
    assert printable_name("a\nerror: b\tc.jpg") == "a\\nerror: b\\tc.jpg"


def test_stream_of_few_characters_gets_the_others_escaped_and_json_stays_json() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    show("grün 猫 😀", file=stream)
    show_json({"class": "grün 猫 😀 \udcff \x9b"}, file=stream, flush=True)
    first, second = raw.getvalue().decode("ascii").splitlines()
    assert first == "gr\\xfcn \\u732b \\U0001f600"
    assert json.loads(second) == {"class": "grün 猫 😀 \udcff \x9b"}


def test_json_in_utf8_keeps_its_letters_and_drives_no_terminal() -> None:
    stream = io.StringIO()
    show_json({"class": "grün 猫 \udcff \x1b \x9b \u202e"}, file=stream)
    line = stream.getvalue()
    assert "grün 猫" in line and printable(line) == line
    assert json.loads(line) == {"class": "grün 猫 \udcff \x1b \x9b \u202e"}


def test_lost_reader_is_an_error_for_results_and_none_for_notices() -> None:
    with open("/dev/full", "w") as full:
        notice("work goes on", full)
        with pytest.raises(OSError, match="standard output"):
            show("result", file=full, flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # or closing it fails once more


CODE = """
import sys
from pathlib import Path
from omnisource.cli.main import run
from omnisource.printing import notice, show
def work():
    notice("begun", sys.stdout)
    Path(sys.argv[1]).write_text("kept")
    if "table" in sys.argv:
        from omnisource.reporting.tables import print_table
        print_table("title", ["class"], [["a"]])
    show("result")
    return 0
sys.exit(run(work))
"""


@pytest.mark.parametrize("table", ["", "table"])
@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        ("| true; exit ${PIPESTATUS[0]}", 141, ""),
        ("2>&1 | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("> /dev/full", 2, "error: standard output: No space left on device: make space there\n"),
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("2> /dev/full | cat > /dev/null; exit ${PIPESTATUS[0]}", 0, ""),
    ],
)
def test_output_that_cannot_be_written_loses_no_work(
    redirection: str, code: int, message: str, table: str, tmp_path: Path
) -> None:
    command = f'sleep 0.1; "{sys.executable}" -c "$CODE" {tmp_path / "kept"} {table} {redirection}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env={**os.environ, "CODE": CODE})
    assert (done.returncode, done.stderr) == (code, message)
    assert (tmp_path / "kept").read_text() == "kept"


def test_everything_is_printed_in_one_place() -> None:
    """Rich reads emoji and colors in any text that a console of its own is given, and `print` knows no escape."""
    allowed = {"print": {"printing.py"}, "Console": set()}
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.func.id}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in allowed
        if str(path.relative_to(PACKAGE)) not in allowed[node.func.id]
    ]
    assert found == []
