"""Making lists: the reader gives back what the writer was given, and nothing is overwritten or left out silently."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omnisource.data.annotations import Split, read_class_names, read_items
from omnisource.data.list_text import format_class_names, format_rows
from omnisource.errors import UserError
from omnisource.lists import make_folder_lists, make_kinetics_list
from omnisource.types import Media

HEADER = "label,youtube_id,time_start,time_end,split\n"


def make_files(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def read_back(folder: Path, list_path: Path, media: Media = "video") -> list[tuple[str, int]]:
    items = read_items(str(folder), Split("", str(list_path)), media, None, None, "tiny")
    return [(item.key, item.label) for item in items]


class Kinetics:
    """A small Kinetics: four clips of three classes, one of them missing."""

    def __init__(self, folder: Path) -> None:
        self.videos = folder / "videos"
        self.csv = folder / "train.csv"
        self.list = folder / "train.txt"
        self.missing = folder / "train.missing.txt"
        self.classes = folder / "classes.txt"
        self.csv.write_text(
            HEADER + "shake hands,-abc_DEF-12,5,15,train\nabseiling,zzzzzzzzzzz,0,10,train\n"
            'air drumming,yyyyyyyyyyy,123,133,train\n"shake hands",xxxxxxxxxxx,1000000,1000010,train\n'
        )
        make_files(
            self.videos,
            "shake_hands/-abc_DEF-12_000005_000015.mp4",
            "air drumming/yyyyyyyyyyy_000123_000133.MKV",
            "xxxxxxxxxxx_1000000_1000010.webm",
            "unknown_000000_000010.mp4",
        )

    def make(self, **options):
        return make_kinetics_list(str(self.csv), str(self.videos), str(self.list), **options)


@pytest.fixture
def kinetics(tmp_path) -> Kinetics:
    return Kinetics(tmp_path)


KINETICS_ROWS = [
    ("shake_hands/-abc_DEF-12_000005_000015.mp4", 2),
    ("air drumming/yyyyyyyyyyy_000123_000133.MKV", 1),
    ("xxxxxxxxxxx_1000000_1000010.webm", 2),
]


def test_kinetics_list_holds_the_clips_that_are_there(kinetics):
    steps = []
    report = kinetics.make(classes_path=str(kinetics.classes), progress=lambda done, total: steps.append((done, total)))
    assert read_back(kinetics.videos, kinetics.list) == KINETICS_ROWS
    assert read_class_names(str(kinetics.classes)) == ("abseiling", "air drumming", "shake hands")
    assert kinetics.missing.read_text() == "zzzzzzzzzzz_000000_000010.mp4\n"
    assert report.missing == ("zzzzzzzzzzz_000000_000010.mp4",)
    assert steps == [(1, 2), (2, 2)]
    assert str(report).splitlines() == [
        f"{kinetics.list}: 3 items of 3 classes",
        f"{kinetics.classes}: 3 classes (written, in alphabetical order)",
        f"{kinetics.missing}: 1 of 4 clips are missing, by name",
        "classes without a clip: 1 (abseiling)",
    ]


def test_kinetics_list_without_class_map_is_numbered_alphabetically(kinetics):
    kinetics.make()
    assert read_back(kinetics.videos, kinetics.list) == KINETICS_ROWS
    assert not kinetics.classes.exists()


def test_validation_list_is_numbered_by_the_class_map_of_training(kinetics):
    kinetics.make(classes_path=str(kinetics.classes))
    before = kinetics.classes.read_bytes()
    kinetics.csv.write_text(HEADER + "shake hands,-abc_DEF-12,5,15,val\n")  # alone it would be class 0
    kinetics.list = kinetics.list.with_name("val.txt")
    report = kinetics.make(classes_path=str(kinetics.classes), overwrite=True)
    assert read_back(kinetics.videos, kinetics.list) == [("shake_hands/-abc_DEF-12_000005_000015.mp4", 2)]
    assert kinetics.classes.read_bytes() == before
    assert f"{kinetics.classes}: 3 classes (read: the labels follow it)" in str(report)


def test_class_that_the_map_lacks_is_refused(kinetics):
    kinetics.classes.write_text("abseiling\nshake hands\n")
    with pytest.raises(UserError, match=r"classes\.txt: the class map lacks classes of .*: air drumming\."):
        kinetics.make(classes_path=str(kinetics.classes))
    assert not kinetics.list.exists()


def test_clips_that_are_there_twice_are_refused_by_line(kinetics):
    make_files(kinetics.videos, "shake hands/-abc_DEF-12_000005_000015.mp4", "yyyyyyyyyyy_000123_000133.mp4")
    with pytest.raises(UserError) as caught:
        kinetics.make()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{kinetics.csv}:2: the clip is there 2 times: shake hands/-abc")
    assert lines[1].startswith(f"{kinetics.csv}:4: the clip is there 2 times: yyyyyyyyyyy_000123_000133.mp4, air")
    assert not kinetics.list.exists()


def test_folder_without_any_clip_is_refused_with_an_example(kinetics, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"none of the 4 clips .* such as -abc_DEF-12_000005_000015\.mp4"):
        make_kinetics_list(str(kinetics.csv), str(tmp_path / "empty"), str(kinetics.list))
    with pytest.raises(UserError, match="missing folder of videos"):
        make_kinetics_list(str(kinetics.csv), str(tmp_path / "gone"), str(kinetics.list))
    assert not kinetics.list.exists()
    assert not kinetics.missing.exists()


def test_mistakes_of_a_kinetics_csv_are_reported_at_once(kinetics):
    kinetics.csv.write_text(HEADER + "a,b,0,ten,train\n,b,0,10,train\n\na,b,0,10,train\na,b\n")
    with pytest.raises(UserError) as caught:
        kinetics.make()
    assert str(caught.value).splitlines()[:-1] == [
        f"{kinetics.csv}:2: time_start '0' and time_end 'ten' are not whole numbers of seconds",
        f"{kinetics.csv}:3: nothing in the column 'label'",
        f"{kinetics.csv}:4: empty line",
        f"{kinetics.csv}:6: 2 columns instead of 5 as in the header",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "label,id\na,b\n",
            "the header has no column 'youtube_id', 'time_start', 'time_end'; its columns are label",
        ),
        (HEADER, "no clips in it"),
        (None, "No such file"),
    ],
)
def test_other_csv_files_are_refused(kinetics, text, what):
    kinetics.csv.unlink()
    if text is not None:
        kinetics.csv.write_text(text)
    with pytest.raises(UserError, match=re.escape(what)):
        kinetics.make()


def test_repeated_rows_are_left_out_and_reported(kinetics):
    with kinetics.csv.open("a") as file:
        file.write("air drumming,yyyyyyyyyyy,123.0,133,train\nabseiling,yyyyyyyyyyy,123,133,train\n")
    report = kinetics.make()
    assert read_back(kinetics.videos, kinetics.list) == KINETICS_ROWS
    assert f"rows of {kinetics.csv} that repeat a clip, left out: 1 (lines 6)" in str(report)
    assert "second label, left out: the first counts: 1 (lines 7)" in str(report)


@pytest.mark.parametrize("existing", ["list", "missing"])
def test_existing_files_are_kept_unless_told_otherwise(kinetics, existing):
    path = getattr(kinetics, existing)
    path.write_text("mine\n")
    with pytest.raises(UserError, match=f"{path.name}: exists already"):
        kinetics.make()
    assert path.read_text() == "mine\n"
    kinetics.make(overwrite=True)
    assert path.read_text() != "mine\n"


def test_old_names_of_missing_clips_do_not_stay_beside_a_complete_list(kinetics):
    kinetics.make()
    assert kinetics.missing.exists()
    make_files(kinetics.videos, "zzzzzzzzzzz_000000_000010.mp4")
    report = kinetics.make(overwrite=True)
    assert not kinetics.missing.exists()
    assert report.missing == ()


def test_no_output_replaces_an_input(kinetics):
    with pytest.raises(UserError, match="the same file is named twice"):
        make_kinetics_list(str(kinetics.csv), str(kinetics.videos), str(kinetics.csv), overwrite=True)
    with pytest.raises(UserError, match="the same file is named twice"):
        kinetics.make(classes_path=str(kinetics.list), overwrite=True)
    assert kinetics.csv.read_text().startswith(HEADER)


def test_list_that_cannot_be_written_leaves_nothing_behind(kinetics, tmp_path):
    (tmp_path / "file").touch()
    kinetics.list = tmp_path / "file" / "train.txt"
    with pytest.raises(UserError, match=r"train\.txt: cannot be written: "):
        kinetics.make()
    kinetics.list = kinetics.videos
    with pytest.raises(UserError, match="is a folder; name the file to write"):
        kinetics.make(overwrite=True)
    assert not list(tmp_path.rglob("*.tmp"))


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
        f"files in {tmp_path}/data that are no images, left out: 1",
    ]
    assert sorted(path.name for path in (tmp_path / "meta").iterdir()) == ["classes.txt", "train.txt"]


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


def test_class_of_one_file_stays_in_training_and_is_named(tmp_path):
    make_files(tmp_path / "data", "a/1.mp4", "a/2.mp4", "lonely/1.mp4")
    report = make_folder_lists(
        *(str(tmp_path / "data"), str(tmp_path / "train.txt"), "video"),
        validation_path=str(tmp_path / "val.txt"),
        validation_share=0.5,
    )
    assert report.lists == {f"{tmp_path}/train.txt": 2, f"{tmp_path}/val.txt": 1}
    assert report.num_classes == 2
    assert f"classes with nothing in {tmp_path}/val.txt: 1 (lonely)" in str(report)


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


ODD = st.text(st.sampled_from(" ,\t\r#;\"'ä語\u3000\u2028\ufeff\x1c01.-ab"), min_size=1, max_size=8)
NAMES = st.lists(ODD, min_size=1, max_size=8, unique=True)


@given(names=NAMES, labels=st.lists(st.integers(0, 999), min_size=8, max_size=8))
@example(names=["a, 1", "b c, 2"], labels=[0] * 8)
@example(names=["\ufeffa", " b"], labels=[1] * 8)
@example(names=["a 1", "b,2", "c\t3"], labels=[4] * 8)
@settings(max_examples=200, deadline=None)
def test_reader_gives_back_what_was_written(names, labels):
    rows = [(f"{name}.mp4", label) for name, label in zip(names, labels, strict=False)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list.txt")
        path.write_bytes(format_rows(rows))
        items = read_items(folder, Split(list="list.txt"), "video", None, None, "tiny", check_files=False)
        assert [(item.key, item.label) for item in items] == rows


@given(names=st.lists(ODD.filter(lambda name: name == name.strip()), min_size=1, max_size=8, unique=True))
@example(names=["a,", "b 1", "2"])
@settings(max_examples=100, deadline=None)
def test_class_map_gives_back_what_was_written(names):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "classes.txt")
        path.write_bytes(format_class_names(names))
        assert read_class_names(str(path)) == tuple(names)


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
