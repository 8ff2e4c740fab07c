"""The command line: help, the order of arguments, exit codes, and a message instead of a traceback for each mistake."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from omnisource.cli.main import main, run
from omnisource.cli.parser import make_parser
from omnisource.errors import UserError
from tests.support.miniature import PUBLISHED_CONFIG

CONFIG = str(PUBLISHED_CONFIG)


def python(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=100, env={**os.environ, **environment}
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["omnisource"], ["train", "test", "predict", "show", "check", "lists", "runs", "watch", "demo", "--version"]),
        (["omnisource", "train"], ["CONFIG", "key=value", "--seed", "--deterministic", "--work-dir", "--resume"]),
        (["omnisource", "test"], ["CONFIG", "CHECKPOINT", "--dump", "--work-dir", "key=value"]),
        (["omnisource", "predict"], ["CHECKPOINT", "FILE", "--top", "--json", "--device", "--precision", "--workers"]),
        (["omnisource", "show"], ["CONFIG", "--keys"]),
        (["omnisource", "check"], ["CONFIG", "key=value"]),
        (["omnisource", "prepare"], ["SOURCE", "OUT", "--short-side", "--keyframe-interval", "--shard-size"]),
        (["omnisource", "lists"], ["kinetics", "folders"]),
        (["omnisource", "lists", "kinetics"], ["CSV", "VIDEOS", "--out", "--classes", "--overwrite"]),
        (["omnisource", "lists", "folders"], ["FOLDER", "--media", "--validation-share", "--group-pattern", "--seed"]),
        (["omnisource", "runs"], ["DIR", "--json"]),
        (["omnisource", "watch"], ["RUN", "--once"]),
        (["omnisource", "demo"], ["--work-dir"]),
        (["tools/train.py"], ["--cfg-options", "--amp", "--resume", "--no-validate", "--launcher", "--auto-scale-lr"]),
        (["tools/test.py"], ["--cfg-options", "--dump", "--show-dir", "--interval", "--wait-time", "--launcher"]),
    ],
    ids=" ".join,
)
def test_help_names_every_argument_and_imports_no_torch(arguments: list[str], words: list[str], project: Path) -> None:
    program = ["-m", "omnisource"] if arguments[0] == "omnisource" else [str(project / arguments[0])]
    result = python(["-X", "importtime", *program, *arguments[1:], "--help"])
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: {' '.join(arguments)}")
    assert [word for word in words if word not in result.stdout] == []
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "omnisource.cli.main" in imported
    assert not imported & {"torch", "numpy", "av", "PIL", "rich", "matplotlib"}


def test_every_argument_has_a_help_text() -> None:
    def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
        yield parser
        for action in parser._actions:
            if isinstance(action.choices, dict):
                for inner in action.choices.values():
                    yield from parsers(inner)

    unexplained = [
        f"{parser.prog}: {action.dest}"
        for parser in parsers(make_parser())
        for action in parser._actions
        if not action.help and not isinstance(action.choices, dict)
    ]
    assert unexplained == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", CONFIG, "seed=3", "num_epochs=2", "--keys"],
        ["show", "--keys", CONFIG, "seed=3", "num_epochs=2"],
        ["show", CONFIG, "--keys", "seed=3", "num_epochs=2"],
        ["show", CONFIG, "seed=3", "--keys", "num_epochs=2"],
    ],
)
def test_overrides_may_stand_before_and_after_flags(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "seed=3" in lines and "num_epochs=2" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["trian"], "invalid choice: 'trian'"),
        (["show"], "the following arguments are required: CONFIG\n"),
        (["test", CONFIG], "the following arguments are required: CHECKPOINT\n"),
        (["predict", "x.pt"], "the following arguments are required: FILE"),
        (["lists"], "the following arguments are required: KIND"),
        (["lists", "folders", "x"], "the following arguments are required: --media, --out"),
        (["lists", "folders", "x", "--media", "audio", "--out", "y"], "invalid choice: 'audio'"),
        (["lists", "folders", "x", "--media", "image", "--out", "y", "z=3"], "unrecognized arguments: z=3"),
        (["show", CONFIG, "--kyes"], "unrecognized arguments: --kyes"),
        (["show", CONFIG, "--\x1b[31mkeys"], "unrecognized arguments: --\\x1b[31mkeys"),
        (["show", CONFIG, "--kyes", "seed=3"], "unrecognized arguments: --kyes"),
        (["show", CONFIG, "--seed=3"], "unrecognized arguments: --seed=3"),
        (["train", CONFIG, "--work", "x"], "unrecognized arguments: --work"),
        (["show", CONFIG, "--key"], "unrecognized arguments: --key"),
        (["train", CONFIG, "--seed", "abc"], "argument --seed: abc: wants a whole number of at least 0"),
        (["train", CONFIG, "--seed", "-1"], "argument --seed: -1: wants a whole number of at least 0"),
        (["predict", "x.pt", "a.jpg", "--top", "0"], "argument --top: 0: wants a whole number of at least 1"),
        (["show", CONFIG, "seed"], "'seed': an override is written key=value"),
        (["show", CONFIG, "sed=3"], "unknown key sed. Did you mean seed?"),
        (["show", CONFIG, "--keys", "num_epochs=ten"], "num_epochs=ten: wants a whole number"),
        (["show", CONFIG, "num_epochs=0"], "num_epochs=0: must be at least 1"),
        (["test", CONFIG, "x.pt", "--dump", "scores.txt"], "--dump scores.txt: the file must end in .pkl or .pickle"),
        (["predict", "none.pt", "a.jpg"], "none.pt: there is no such file"),
    ],
    ids=lambda value: " ".join(value).replace(CONFIG, "CONFIG") if isinstance(value, list) else "",
)
def test_mistake_in_the_arguments_is_a_message(
    arguments: list[str], message: str, failing: Callable[..., str], in_empty_folder: Path
) -> None:
    assert message in failing(*arguments)


@pytest.mark.parametrize("command", ["show", "check", "train"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "config.py: no such config file"),
        ("x = (\n", "config.py:1: not valid Python"),
        ("x = 1\n", "config.py: a config must build `recipe = Recipe(...)`"),
        ("\nraise KeyError('x')\n", "config.py:2: the config failed: KeyError: 'x'"),
    ],
    ids=["missing", "syntax", "no recipe", "failing"],
)
def test_bad_config_is_a_message(
    command: str, text: str | None, message: str, failing: Callable[..., str], in_empty_folder: Path
) -> None:
    if text is not None:
        Path("config.py").write_text(text)
    assert message in failing(command, "config.py")


def test_mistake_ends_the_real_process_with_code_2_and_no_traceback() -> None:
    result = python(["-m", "omnisource", "show", CONFIG, "model.dpeth=18"])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: unknown key model.dpeth. Did you mean model.depth?")
    assert "Traceback" not in result.stderr


def test_user_error_becomes_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise UserError("x.txt:3: wrong")

    assert run(command) == 2
    assert capsys.readouterr().err == "error: x.txt:3: wrong\n"


def test_interrupt_becomes_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert run(command) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_error_of_the_file_system_is_a_message_that_names_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(lambda: len((tmp_path / "none").read_text())) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: No such file or directory\n"


def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)
    with pytest.raises(RuntimeError, match="of the program"):
        run(lambda: (_ for _ in ()).throw(RuntimeError("of the program")))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files: let a process have more of them (ulimit"),
        (OSError(errno.EAGAIN, "Try again"), "Try again: let this user have more processes and threads (ulimit -u)"),
        (RuntimeError("can't start new thread"), "can't start new thread: let this user have more processes"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: No space left on device: make space there"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "File name too long"),
        (OSError("of a library"), "of a library"),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
            "No usable temporary directory found in ['/tmp']: set TMPDIR to a folder that can be written to",
        ),
        (TimeoutError(), "TimeoutError"),
    ],
    ids=str,
)
def test_error_of_the_system_is_one_line_that_says_what_to_do(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda: (_ for _ in ()).throw(error)) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {words}") and message.count("\n") == 1


def test_current_folder_that_is_gone_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["show", CONFIG]) == 2
    assert capsys.readouterr().err == "error: the current folder is gone: change to one that is there\n"


def test_libraries_are_given_no_relative_folders_and_say_nothing_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/full")
    names = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    assert run(lambda: [os.environ.get(name) for name in names] != [None, "/full"]) == 0
    logging.getLogger("matplotlib.font_manager").warning("Matplotlib is building the font cache")
    assert capsys.readouterr().err == ""


def test_reader_that_has_seen_enough_ends_the_command_quietly() -> None:
    # More than a pipe holds, so that the command is still writing when the reader leaves.
    code = (
        "import sys; from omnisource.cli.main import run; "
        "sys.exit(run(lambda: [print('line') for _ in range(10**6)] and 0))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=100) == 141
    assert process.stderr.read() == ""
    process.stderr.close()
