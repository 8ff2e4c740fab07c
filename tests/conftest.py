"""What every test can use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from tests.support.miniature import make_class_folders, make_published_layout

PROJECT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Gives torch one thread: sums of floats then come out the same on every machine, and tests do not crowd it."""
    torch.set_num_threads(1)
    os.environ["PYTHONPATH"] = str(PROJECT)  # workers import what tests have them run


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps what the package caches away from the user's own folder; returns where it is."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["OMNISOURCE_CACHE"] = str(folder)  # processes that tests start have it too
    return folder


@pytest.fixture(scope="session")
def project() -> Path:
    """Returns the root of the project's checkout."""
    return PROJECT


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the published layout and class folders in miniature. Not to be changed: see `in_data`."""
    folder = tmp_path_factory.mktemp("miniature")
    make_published_layout(folder)
    make_class_folders(folder)
    return folder


@pytest.fixture
def in_data(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a copy of the miniature the working directory, and returns it: it may be changed."""
    folder = shutil.copytree(miniature, tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """Returns the folder of reference media beside the project; skips the test where it is missing."""
    folder = PROJECT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"the reference media are not there: {folder / 'data'}")
    return folder
