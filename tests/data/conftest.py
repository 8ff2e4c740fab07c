"""The miniatures of the published layout and of class folders, where tests of recipes and their data run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.miniature import make_class_folders, make_published_layout


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("miniatures")
    make_published_layout(folder)
    make_class_folders(folder)
    return folder


@pytest.fixture
def in_miniatures(miniatures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(miniatures)
    return miniatures
