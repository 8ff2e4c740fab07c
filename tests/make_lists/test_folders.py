"""Lists of class folders: every file is in one of them, and what is held out follows from the seed."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omnisource.data.lists.class_maps import format_class_names, read_class_names
from omnisource.data.lists.text import format_rows
from omnisource.errors import UserError
from omnisource.make_lists.folders import make_folder_lists
from tests.support.list_files import ODD, make_files, read_back


def test_folder_list_holds_every_file_of_every_class(tmp_path):
    make_files(tmp_path / "data", "b/1.jpg", "a b/x/2.JPEG", "a b/notes.txt", "c,d/3 4.png", "b/.hidden.jpg")
    steps = []
    report = make_folder_lists(
        str(tmp_path / "data"),
        str(tmp_path / "meta/train.txt"),
        "image",
        str(tmp_path / "meta/classes.txt"),
        progress=lambda done, total: steps.append((done, total)),
    )
    rows = read_back(tmp_path / "data", tmp_path / "meta/train.txt", "image")
    assert rows == [("a b/x/2.JPEG", 0), ("b/1.jpg", 1), ("c,d/3 4.png", 2)]
    assert read_class_names(str(tmp_path / "meta/classes.txt")) == ("a b", "b", "c,d")
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert str(report).splitlines() == [
        f"{tmp_path}/meta/train.txt: 3 items of 3 classes",
        f"{tmp_path}/meta/classes.txt: 3 classes (written, in alphabetical order)",
        f"files in {tmp_path}/data that are no images, left out: 1 (1 .txt)",
    ]
    assert sorted(path.name for path in (tmp_path / "meta").iterdir()) == ["classes.txt", "train.txt"]


def test_links_are_told_with_their_labels(tmp_path):
    make_files(tmp_path / "data", "a/1.mp4", "b/2.mp4")
    (tmp_path / "data/b/1.mp4").symlink_to("../a/1.mp4")
    report = make_folder_lists(str(tmp_path / "data"), str(tmp_path / "list.txt"), "video")
    assert report.notes == (
        "items that are the file of another item under another name: 1, such as b/1.mp4, which is a/1.mp4",
        "files with two labels: 1, such as b/1.mp4 has the label 1, and a/1.mp4, which is the same file, 0",
    )


def test_list_of_names_without_blanks_has_the_published_form(tmp_path):
    make_files(tmp_path / "data", "a/1,2.mp4", "b/3.mp4")
    make_folder_lists(str(tmp_path / "data"), str(tmp_path / "list.txt"), "video")
    assert (tmp_path / "list.txt").read_bytes() == b"a/1,2.mp4 0\nb/3.mp4 1\n"


def test_second_folder_is_numbered_by_the_class_map_of_the_first(tmp_path):
    make_files(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "val/b/3.mp4", "other/c/4.mp4")
    classes = str(tmp_path / "classes.txt")
    make_folder_lists(str(tmp_path / "train"), str(tmp_path / "train.txt"), "video", classes)
    make_folder_lists(str(tmp_path / "val"), str(tmp_path / "val.txt"), "video", classes)
    assert read_back(tmp_path / "val", tmp_path / "val.txt") == [("b/3.mp4", 1)]
    with pytest.raises(UserError, match=r"lacks classes of .*other: c\."):
        make_folder_lists(str(tmp_path / "other"), str(tmp_path / "other.txt"), "video", classes)


def test_empty_class_folders_are_refused_all_at_once(tmp_path):
    make_files(tmp_path / "data", "a/1.jpg", "b/2.mp4", "c/readme.txt")
    with pytest.raises(UserError) as caught:
        make_folder_lists(str(tmp_path / "data"), str(tmp_path / "list.txt"), "video")
    assert [line.split(":")[0] for line in str(caught.value).splitlines()[:-1]] == [
        f"{tmp_path}/data/a",
        f"{tmp_path}/data/c",
    ]
    assert not (tmp_path / "list.txt").exists()


def held_out(folder: Path, seed: int = 0, share: float = 0.25, group_pattern: str | None = None):
    """Returns the rows of the training and of the validation list."""
    lists = folder / "train.txt", folder / "val.txt"
    make_folder_lists(
        str(folder / "data"),
        str(lists[0]),
        "video",
        validation_path=str(lists[1]),
        validation_share=share,
        seed=seed,
        group_pattern=group_pattern,
        overwrite=True,
    )
    return tuple(read_back(folder / "data", path) for path in lists)


def test_held_out_share_is_taken_of_each_class_and_depends_on_the_seed_only(tmp_path):
    sizes = {"a": 20, "b": 8, "c": 2}
    make_files(tmp_path / "data", *(f"{name}/{i:02d}.mp4" for name, size in sizes.items() for i in range(size)))
    train, val = held_out(tmp_path)
    assert Counter(label for _, label in val) == {0: 5, 1: 2, 2: 1}
    rows = [(f"{name}/{i:02d}.mp4", label) for label, (name, size) in enumerate(sizes.items()) for i in range(size)]
    assert sorted(train + val) == rows
    assert held_out(tmp_path) == (train, val)
    assert held_out(tmp_path, seed=1) != (train, val)


def test_class_of_one_file_stays_in_training_and_is_reported(tmp_path):
    make_files(tmp_path / "data", "a/1.mp4", "a/2.mp4", "lonely/1.mp4")
    report = make_folder_lists(
        *(str(tmp_path / "data"), str(tmp_path / "train.txt"), "video"),
        validation_path=str(tmp_path / "val.txt"),
        validation_share=0.5,
    )
    assert report.lists == {f"{tmp_path}/train.txt": 2, f"{tmp_path}/val.txt": 1}
    assert report.num_classes == 2
    assert f"{tmp_path}/val.txt: classes without items: 1 of 2 (lonely)" in str(report)


@pytest.mark.parametrize("pattern", [r"seq\d+", r"(seq\d+)_"])
def test_groups_stay_together(tmp_path, pattern):
    make_files(tmp_path / "data", *(f"{n}/seq{g}_{i}.mp4" for n in "abc" for g in range(6) for i in range(3)))
    train, val = held_out(tmp_path, group_pattern=pattern)
    groups = [{re.findall(r"seq\d", key)[0] for key, _ in rows} for rows in (train, val)]
    assert groups[0] | groups[1] == {f"seq{g}" for g in range(6)}
    assert not groups[0] & groups[1]
    assert Counter(label for _, label in val) == {0: 6, 1: 6, 2: 6}  # two of six groups: at least the share


def test_group_pattern_must_match_every_path(tmp_path):
    make_files(tmp_path / "data", "a/seq1_1.mp4", "a/other.mp4")
    with pytest.raises(UserError, match=r"matches nothing in a/other\.mp4"):
        held_out(tmp_path, group_pattern=r"seq\d")
    with pytest.raises(UserError, match="is not a regular expression"):
        held_out(tmp_path, group_pattern="(")


def test_nothing_to_hold_out_is_refused(tmp_path):
    make_files(tmp_path / "data", "a/seq1_1.mp4", "a/seq1_2.mp4")
    with pytest.raises(UserError, match="nothing can be held out"):
        held_out(tmp_path, group_pattern=r"seq\d")


@pytest.mark.parametrize(("share", "path"), [(0.1, None), (0.0, "val.txt"), (1.0, "val.txt"), (-0.1, "val.txt")])
def test_share_and_validation_list_belong_together(tmp_path, share, path):
    with pytest.raises(UserError, match="validation share"):
        make_folder_lists(
            *(str(tmp_path), str(tmp_path / "l.txt"), "video"), validation_path=path, validation_share=share
        )


def test_names_that_a_list_cannot_hold_are_refused(tmp_path):
    make_files(tmp_path / "data", "a/1\n2.mp4", "b/3.mp4")
    with pytest.raises(UserError, match=r"cannot hold these names.*'a/1\\n2.mp4'"):
        make_folder_lists(str(tmp_path / "data"), str(tmp_path / "list.txt"), "video")
    for path in ("a\udcff.mp4", "a ", "a\n"):
        with pytest.raises(UserError, match="Rename them"):
            format_rows([(path, 0)])
    with pytest.raises(UserError, match="blanks around"):
        format_class_names([" a"])
    assert not (tmp_path / "list.txt").exists()


FILE = ODD.filter(lambda name: not name.startswith("."))


@given(classes=st.dictionaries(FILE, st.lists(FILE, min_size=1, max_size=3, unique=True), min_size=1, max_size=3))
@example(classes={" a ": [" b "], "#": ["1,2"]})
@settings(max_examples=60, deadline=None)
def test_list_of_folders_with_odd_names_is_read_back_and_all_files_are_found(classes):
    with tempfile.TemporaryDirectory() as folder:
        rows = sorted((f"{name}/{file}.mp4", name) for name, files in classes.items() for file in files)
        make_files(Path(folder, "data"), *(key for key, _ in rows))
        make_folder_lists(f"{folder}/data", f"{folder}/list.txt", "video")
        numbers = {name: index for index, name in enumerate(sorted(classes))}
        read = read_back(Path(folder, "data"), Path(folder, "list.txt"))
        assert sorted(read) == [(key, numbers[name]) for key, name in rows]
