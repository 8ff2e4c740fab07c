"""What every test can use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

PROJECT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Gives torch one thread: sums of floats then come out the same on every machine, and tests do not crowd it."""
    torch.set_num_threads(1)


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
def shared() -> Path:
    """Returns the folder of reference media beside the project; skips the test where it is missing."""
    folder = PROJECT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"the reference media are not there: {folder / 'data'}")
    return folder
