"""Originals that the tests of `omnisource prepare` prepare."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.media import moving_square, numbered_frames, write_image, write_video


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """A folder with three videos, two images and a text."""
    folder = tmp_path / "originals"
    (folder / "deep/er").mkdir(parents=True)
    write_video(folder / "first.mp4", numbered_frames(9, 40, 48))
    write_video(folder / "deep/second.avi", numbered_frames(12, 40, 48, first=100), codec="mpeg4")
    write_video(folder / "deep/er/third one.mkv", numbered_frames(7, 80, 96, first=200))
    write_image(folder / "deep/small.png", moving_square(1, 20, 30)[0])
    write_image(folder / "large.JPG", moving_square(1, 80, 100)[0], format="JPEG")
    (folder / "notes.txt").write_text("not media")
    return folder


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A list of 12 videos."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(12):
        frames = numbered_frames(60, 40, 48, first=100 * number)
        write_video(folder / f"{number:02d}.avi", frames, codec="mpeg4")
    (folder / "list.txt").write_text("".join(f"{number:02d}.avi {number % 3}\n" for number in range(12)))
    return folder / "list.txt"
