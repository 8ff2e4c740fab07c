"""What is prepared of a folder or a source, and under which names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from omnisource.cli.arguments import load_recipe
from omnisource.errors import UserError
from omnisource.prepare.jobs import job_from_folder, job_from_source
from omnisource.recipe.data import TarShards
from tests.support.media import numbered_frames, write_video
from tests.support.miniature import tiny_overrides
from tests.support.preparing import CONFIG, entries, numbers_in, prepared


def test_folder_without_media_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"no images and no videos.*\.mp4"):
        job_from_folder(str(tmp_path))


def test_shards_of_a_source_are_refused(in_data: Path) -> None:
    recipe = load_recipe(CONFIG, tiny_overrides())
    source = recipe.sources["kinetics400"]
    changed = replace(recipe, sources={**recipe.sources, "kinetics400": replace(source, train=TarShards(("a.tar",)))})
    with pytest.raises(UserError, match=r"sources\.kinetics400\.train: its items lie in shards"):
        job_from_source(changed, "kinetics400", CONFIG)


def test_videos_of_one_name_keep_apart(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index, name in enumerate(("clip.mp4", "clip.avi", "clip.mkv")):
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        write_video(tmp_path / "in" / name, numbered_frames(5, 40, 48, first=100 * index), codec=codec)
    prepared(job_from_folder(str(tmp_path / "in")), tmp_path / "out")
    firsts = {name: numbers_in(tmp_path / "out" / name)[0] for name in entries(tmp_path / "out")}
    assert firsts == {"clip.mp4": 0, "clip.avi.mp4": 100, "clip.mkv.mp4": 200}
