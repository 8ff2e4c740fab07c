"""Every argument that is a path is read by one rule."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnisource.cli.arguments import path, path_text, resumed
from omnisource.cli.main import main
from omnisource.cli.mmaction2 import _test_parser, _train_parser
from omnisource.cli.parser import make_parser

NO_PATHS = {"overrides", "cfg_options", "device", "group_pattern"}
"""Arguments of text that are no paths. Overrides obey the rule key by key: tests/recipe/test_paths.py."""


def actions(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for inner in action.choices.values():
                yield from actions(inner)
        else:
            yield parser.prog, action


ACTIONS = [found for parser in (make_parser(), _train_parser(), _test_parser()) for found in actions(parser)]


def test_every_argument_of_text_is_known_to_be_a_path_or_none() -> None:
    texts = [
        f"{program}: {action.dest}"
        for program, action in ACTIONS
        if action.nargs != 0 and action.choices is None and action.type in (None, str, Path)
        if action.dest not in NO_PATHS
    ]
    assert texts == [], "give it the type `path` or `path_text`, or name it above"
    assert len([action for _, action in ACTIONS if action.type in (path, path_text, resumed)]) > 30


@pytest.mark.parametrize("read", [path, path_text, resumed])
def test_path_has_the_home_folder(read: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(read)
    monkeypatch.setenv("HOME", "/home/me")
    assert str(read("~/x")) == "/home/me/x"
    assert str(read("x/~")) == "x/~"
    with pytest.raises(argparse.ArgumentTypeError, match="there is no user nobody_has_this_name"):
        read("~nobody_has_this_name/x")


@pytest.mark.parametrize("read", [path, path_text])
def test_empty_path_is_refused(read: object) -> None:
    assert callable(read)
    with pytest.raises(argparse.ArgumentTypeError, match="the path is empty"):
        read("")


def test_files_behind_a_flag_are_paths_too(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # argparse gives these back as unknown.
    with pytest.raises(SystemExit):
        main(["predict", "checkpoint.pt", "a.jpg", "--top", "3", "~nobody_has_this_name/b.jpg"])
    assert "there is no user nobody_has_this_name" in capsys.readouterr().err
