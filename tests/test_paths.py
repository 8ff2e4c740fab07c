"""What `~` means in a path that a user gives."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from omnisource.errors import UserError
from omnisource.files.cache import cache_folder
from omnisource.paths import NoHomeFolder, home_folder, with_home_folder

NOBODY = 2**31 - 7
"""A user id without an entry in the user database, as docker's --user gives it."""


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("~/x/y", "/the home/x/y"),
        ("~", "/the home"),
        ("~/", "/the home/"),
        ("~root/x", f"{pwd.getpwnam('root').pw_dir}/x"),
        ("x/~/y", "x/~/y"),
        ("./~", "./~"),
        ("a~", "a~"),
        ("", ""),
        ("/x", "/x"),
    ],
)
def test_home_folders_are_replaced_at_the_beginning_only(
    given: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/the home")
    assert with_home_folder(given) == meant


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_home_the_user_database_says_it(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    assert home_folder() == pwd.getpwuid(os.getuid()).pw_dir
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    assert home_folder() is None
    with pytest.raises(NoHomeFolder, match=r"~/x: ~ is the home folder, and this user has none: set HOME"):
        with_home_folder("~/x")


@pytest.mark.parametrize("given", ["~nobody_has_this_name/x", "~\0/x"])
def test_unknown_user_is_an_error_and_no_name_of_a_folder(given: str) -> None:
    with pytest.raises(NoHomeFolder, match="there is no user"):
        with_home_folder(given)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"OMNISOURCE_CACHE": "~/c", "XDG_CACHE_HOME": "/xdg"}, "/home/me/c"),
        ({"OMNISOURCE_CACHE": "c"}, "c"),
        ({"OMNISOURCE_CACHE": "", "XDG_CACHE_HOME": "/xdg"}, "/xdg/omnisource"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/omnisource"),
        ({"XDG_CACHE_HOME": "~/xdg"}, "/home/me/.cache/omnisource"),
        ({}, "/home/me/.cache/omnisource"),
    ],
)
def test_cache_folder(variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMNISOURCE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


def test_there_is_no_cache_folder_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMNISOURCE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    assert cache_folder() is None
    monkeypatch.setenv("OMNISOURCE_CACHE", "~/c")
    with pytest.raises(UserError, match=r"OMNISOURCE_CACHE=~/c: ~ is the home folder"):
        cache_folder()
