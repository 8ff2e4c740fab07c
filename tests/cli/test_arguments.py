"""What several commands take: paths by one rule, sizes and shares with their units."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnisource.cli.arguments import num_bytes, path, path_text, resumed, share
from omnisource.cli.main import main
from omnisource.cli.mmaction2 import _test_parser, _train_parser
from omnisource.cli.parser import make_parser

NO_PATHS = {"overrides", "cfg_options", "device", "group_pattern", "threshold"}
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
def test_what_can_be_no_path_is_refused(read: object) -> None:
    assert callable(read)
    for text, reason in (("", "the path is empty"), ("a\0b", "no path has a zero byte in it")):
        with pytest.raises(argparse.ArgumentTypeError, match=reason):
            read(text)


def test_files_behind_a_flag_are_paths_too(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # argparse gives these back as unknown.
    with pytest.raises(SystemExit):
        main(["predict", "checkpoint.pt", "a.jpg", "--top", "3", "~nobody_has_this_name/b.jpg"])
    assert "there is no user nobody_has_this_name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1GB", 10**9),
        ("0.1MB", 100_000),
        ("200KB", 200_000),
        ("200kB", 200_000),
        ("200kb", 200_000),
        ("1.5 gb", 1_500_000_000),
        (".5MB", 500_000),
        ("64KiB", 65_536),
        ("2MiB", 2**21),
        ("1gib", 2**30),
        ("0.25TiB", 2**38),
        ("4096B", 4096),
        ("1.1TB", 1_100_000_000_000),
    ],
)
def test_size_with_its_unit_in_bytes(text: str, size: int) -> None:
    assert num_bytes(text) == size


@pytest.mark.parametrize("text", ["", "1", "1G", "GB", "-1GB", "0MB", "0.1B", "1,5GB", "1e3MB", "1GBps", "1iB", "٣MB"])
def test_other_sizes_are_refused_with_the_form(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="KiB, MiB, GiB or TiB, such as 200MB or"):
        num_bytes(text)


def test_share_as_a_number_or_in_percent() -> None:
    assert (share("0.2"), share("20%"), share("12.5 %")) == (0.2, 0.2, 0.125)
    for text in ("a fifth", "%", "20%%"):
        with pytest.raises(argparse.ArgumentTypeError, match="wants a share, such as"):
            share(text)
