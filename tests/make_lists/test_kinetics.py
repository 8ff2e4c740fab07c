"""Lists of a Kinetics CSV file: nothing is overwritten, and what is left out is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from omnisource.data.lists.class_maps import read_class_names
from omnisource.errors import UserError
from omnisource.make_lists.kinetics import make_kinetics_list
from tests.support.list_files import make_files, read_back

HEADER = "label,youtube_id,time_start,time_end,split\n"


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
        "classes without items: 1 of 3 (abseiling)",
    ]


def test_link_that_leads_nowhere_is_no_missing_clip(kinetics):
    (kinetics.videos / "air drumming/zzzzzzzzzzz_000000_000010.mp4").symlink_to("/gone.mp4")
    (kinetics.videos / "abseiling").symlink_to("/gone")
    with pytest.raises(UserError) as caught:
        kinetics.make()
    assert [line.split(";")[0] for line in str(caught.value).splitlines()] == [
        f"{kinetics.videos}/abseiling: is a link that leads nowhere, to /gone",
        f"{kinetics.videos}/air drumming/zzzzzzzzzzz_000000_000010.mp4: is a link that leads nowhere, to /gone.mp4",
    ]
    assert not kinetics.list.exists()


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
