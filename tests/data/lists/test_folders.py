"""The walk of folders: nothing in them vanishes without a word."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from omnisource.data.datasets import find_problems, read_items
from omnisource.data.lists.folders import class_names_of_folders, files_below
from omnisource.data.lists.text import Problem
from omnisource.errors import UserError
from omnisource.make_lists.folders import make_folder_lists
from omnisource.prepare.jobs import job_from_folder
from omnisource.recipe.data import Split
from tests.support.list_files import make_files


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a file": (lambda root: link(root / "a/2.mp4", "/gone/2.mp4"), "a/2.mp4: is a link that leads nowhere, to /gone/"),
    "a folder": (lambda root: link(root / "a/more", "/gone/more"), "a/more: is a link that leads nowhere, to /gone/"),
    "a class": (lambda root: link(root / "b", "/gone/b"), "b: is a link that leads nowhere, to /gone/b; without this "),
    "a circle": (lambda root: link(root / "a/2.mp4", "2.mp4"), "a/2.mp4: is a link that cannot be followed: Too many"),
    "a pipe": (lambda root: os.mkfifo(root / "a/2.mp4"), "a/2.mp4: is neither a file nor a folder"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_leads_nowhere_is_a_mistake_for_every_reader(tmp_path: Path, what: str) -> None:
    root = tmp_path / "data"
    make_files(root, "a/1.mp4", "c/1.mp4")
    breaks, message = BROKEN[what]
    breaks(root)
    _, problems = find_problems(str(root), Split(format="folders"), "video", None, None, "tiny")
    assert [str(problem).removeprefix(f"{root}/").startswith(message) for problem in problems] == [True]
    readers: list[Callable[[], object]] = [
        lambda: make_folder_lists(str(root), str(tmp_path / "list.txt"), "video"),
        lambda: job_from_folder(str(root)),
    ]
    if what == "a class":  # its numbers would be those of others
        readers.append(lambda: class_names_of_folders(str(root)))
    for reader in readers:
        with pytest.raises(UserError) as caught:
            reader()
        assert f"{root}/{message}".split(";")[0] in str(caught.value)


def test_foreign_links_lead_where_they_want(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.mp4")
    link(tmp_path / "a/._2.mp4", "/gone")
    link(tmp_path / ".cache", "/gone")
    link(tmp_path / "lost+found", "/gone")
    problems: list[Problem] = []
    assert files_below(str(tmp_path), problems) == ["a/1.mp4"] and problems == []
    assert class_names_of_folders(str(tmp_path)) == ("a",)


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    make_files(tmp_path, "data/a/1.mp4", "data/b/2.mp4", "elsewhere/3.mp4")
    for name, target in (("self", "."), ("up", ".."), ("top", "../.."), ("aside", "../../elsewhere")):
        link(tmp_path / "data/a" / name, target)
    items = read_items(str(tmp_path / "data"), Split(format="folders"), "video", None, None, "tiny")
    assert [item.key for item in items] == ["a/1.mp4", "a/aside/3.mp4", "b/2.mp4"]
    assert items.notes == ()


def test_foreign_folders_are_no_classes(tmp_path: Path) -> None:
    make_files(
        tmp_path, "a/1.jpg", "__MACOSX/a/1.jpg", ".ipynb_checkpoints/1.jpg", "@eaDir/1.jpg", "b/Thumbs.db", "b/2.JFIF"
    )
    items = read_items(str(tmp_path), Split(format="folders"), "image", None, None, "tiny")
    assert [(item.key, item.label) for item in items] == [("a/1.jpg", 0), ("b/2.JFIF", 1)]
    assert items.notes == ()


def test_two_classes_in_one_folder_are_a_mistake(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.mp4")
    link(tmp_path / "b", "a")
    _, problems = find_problems(str(tmp_path), Split(format="folders"), "video", None, None, "tiny")
    assert [str(problem) for problem in problems] == [
        f"{tmp_path}/b: is the same folder as that of the class a; remove one of them"
    ]


def test_files_of_other_kinds_are_told(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.jpg", "a/2.jpg.part", "a/notes.txt", "a/clip.mp4", "README")
    items = read_items(str(tmp_path), Split(format="folders"), "image", None, None, "tiny")
    note = f"files in {tmp_path} that are no images, left out: 4 (1 without a suffix, 1 .part, 1 .txt, 1 .mp4)"
    assert [sorted(text) for text in items.notes] == [sorted(note)]
    assert items.without({0}).notes == items.notes
