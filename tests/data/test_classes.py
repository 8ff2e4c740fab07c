"""The classes of a source."""

from __future__ import annotations

from pathlib import Path

from omnisource.data.classes import class_names_of
from omnisource.recipe.data import Source, Split


def test_source_has_the_class_names_of_its_map_or_of_its_folders_or_none(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("jump\nrun\n")
    for name in ("walk", "climb"):
        (tmp_path / "train" / name).mkdir(parents=True)
    folders = Split("train", format="folders")
    root = str(tmp_path)
    assert class_names_of(Source("video", "c", root, Split(), classes="classes.txt")) == ("jump", "run")
    assert class_names_of(Source("video", "c", root, folders)) == ("climb", "walk")
    assert class_names_of(Source("video", "c", root, folders, classes="classes.txt")) == ("jump", "run")
    assert class_names_of(Source("video", "c", root, Split())) is None
