"""A check that was ended goes on where it was, and a later one reads what has changed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from omnisource.cli.main import main
from omnisource.data.shards.write import ShardFile, write_shards
from tests.support.checking import (
    CONFIG,
    IMAGENET,
    REPORT,
    SHARDS_CONFIG,
    TRAIN_LIST,
    VALIDATION_LIST,
    checked,
    findings,
    first_clip,
    journal,
    report,
)
from tests.support.holding import held_at_file
from tests.support.http_server import serving
from tests.support.media import moving_square, scenery, truncate, write_image, write_video
from tests.support.miniature import tiny_overrides

pytestmark = pytest.mark.usefixtures("in_data")

PATIENCE_SECONDS = 100.0
"""Time for a process to end that was asked to: enough on any machine."""

NUM_FILES, NUM_BEFORE = 33, 12 + 3
"""Files of all lists, and those before the one at which a check is held."""


def started(
    project: Path,
    *arguments: str,
    config: str = CONFIG,
    folder: Path = REPORT,
    num_read: int = 9,
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Returns a check that has read some files, and is going on."""
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1", **(variables or {})}
    command = [sys.executable, "-m", "omnisource", "check", config, *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    path = folder / "journal.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < 1 + num_read:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process


def held(project: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Returns a check that has read some files and does not come to its end: it waits at one in the middle.

    A signal finds it in Python code there, and not in a callback of a decoder, which can keep an exception for later.
    """
    name = VALIDATION_LIST.read_text().splitlines()[NUM_BEFORE - 12].rsplit(" ", 1)[0]
    variables = held_at_file(folder / "held", name)
    process = started(project, *arguments, variables=variables)
    while not Path(variables["HELD_MARK"]).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process


def test_second_check_reads_what_has_changed_and_says_what_it_took_over(capsys: pytest.CaptureFixture[str]) -> None:
    clip = first_clip()
    truncate(clip, 0.5)
    assert checked(capsys, CONFIG, *tiny_overrides())[0] == 2
    before = report()
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 2 and "0 files read" in text and "33 files taken over" in text
    assert report() == {**before, "files": {"all": 33, "taken_over": 33}}
    assert len(journal()) == 33

    write_video(clip, moving_square(12, 40, 48, seed=7))
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 0 and "1 file read" in text and "32 files taken over" in text
    assert "damaged lines" not in text
    lines = (REPORT / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (REPORT / "journal.jsonl").write_bytes(b"".join([*lines[:5], b"\0" * 50 + b"\n", *lines[6:]]))
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 0 and "1 damaged lines are left out" in text
    (REPORT / "journal.jsonl").unlink()
    assert "33 files read" in checked(capsys, CONFIG, *tiny_overrides())[1]


def test_file_that_took_too_long_is_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    for path in (TRAIN_LIST, VALIDATION_LIST, IMAGENET / "meta/train.txt"):
        path.write_text(path.read_text().splitlines()[0] + "\n")
    code, _ = checked(capsys, CONFIG, *tiny_overrides(num_workers=1), "item_timeout_seconds=0.000001")
    slow = [finding["path"] for finding in findings("unreadable") if "took longer" in finding["what"]]
    assert code == 2 and slow
    code, _ = checked(capsys, CONFIG, *tiny_overrides(num_workers=1))
    assert code == 0 and report()["files"] == {"all": 3, "taken_over": 3 - len(slow)}


def test_check_goes_on_after_it_was_killed(capsys: pytest.CaptureFixture[str], project: Path, tmp_path: Path) -> None:
    process = held(project, tmp_path, *tiny_overrides(num_workers=1))
    process.kill()
    process.communicate()
    kept = (REPORT / "journal.jsonl").read_bytes().count(b"\n") - 1
    assert 9 <= kept <= NUM_BEFORE
    with (REPORT / "journal.jsonl").open("ab") as file:
        file.write(b'{"file": {"path": "torn')
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 0 and f"{NUM_FILES - kept} files read" in text
    assert report()["files"] == {"all": NUM_FILES, "taken_over": kept}
    assert len(journal()) == len({line["file"]["path"] for line in journal()}) == NUM_FILES


@pytest.mark.parametrize(("number", "num_workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 0), (signal.SIGUSR1, 0)])
def test_check_that_is_asked_to_stop_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], project: Path, tmp_path: Path, number: signal.Signals, num_workers: int
) -> None:
    flags = ["--report", str(REPORT), "--pictures", "my sheets"]
    process = held(project, tmp_path, *tiny_overrides(num_workers=num_workers), *flags)
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + number and "Traceback" not in errors
    kept = len(journal())
    assert 9 <= kept <= NUM_BEFORE and not (REPORT / "report.json").exists()
    words = shlex.split(output.splitlines()[-1].removeprefix("continue with: omnisource "))
    assert words == ["check", CONFIG, *tiny_overrides(num_workers=num_workers), *flags]
    assert main(words) == 0
    capsys.readouterr()
    assert report()["files"] == {"all": NUM_FILES, "taken_over": kept}


def test_file_that_takes_long_holds_back_nothing_that_is_read_after_it(
    capsys: pytest.CaptureFixture[str], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMNISOURCE_CACHE", str(tmp_path / "cache"))
    files = [ShardFile(write_image(tmp_path / f"{seed}.png", scenery(seed)), f"{seed}.png", 0) for seed in range(20)]
    for number, of_shard in enumerate((files[:1], files[1:18])):
        write_shards(of_shard, tmp_path / "all", f"train-{number}", 10**9)
    write_shards(files[18:], tmp_path, "validation", 10**9)
    report_folder = Path("check")
    with serving(tmp_path / "all") as server:
        shards = f"{server.url}/train-{{0..1}}-000000.tar"
        Path("shards.py").write_text(SHARDS_CONFIG.replace("train-{000000..000001}.tar", shards))
        server.stuck = ("train-0-000000.tar",)  # with the first file of all
        arguments = ("num_workers=2", "--report", str(report_folder))
        # All but that one and, perhaps, one that its worker was given to be the next.
        process = started(project, *arguments, config="shards.py", folder=report_folder, num_read=20 - 2)
        process.kill()
        process.communicate()
        kept = [line["file"]["path"] for line in journal(report_folder)]
        assert 20 - 2 <= len(kept) < 20 and not any(path.endswith("train-0-000000.tar") for path in kept)
        server.stuck = ()
        assert checked(capsys, "shards.py", *arguments)[0] == 0
        after_kill = report(report_folder)
        assert after_kill["files"] == {"all": 20, "taken_over": len(kept)}
        (report_folder / "journal.jsonl").unlink()
        checked(capsys, "shards.py", *arguments)
        assert report(report_folder) == {**after_kill, "files": {"all": 20, "taken_over": 0}}
