"""Reading lists: every form, and every mistake with its line."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from omnisource.data.datasets import find_problems, read_items
from omnisource.data.lists import file_finder, rows, text
from omnisource.data.lists.class_maps import read_class_names
from omnisource.data.lists.folders import class_names_of_folders
from omnisource.data.lists.items import Items, is_same_digest
from omnisource.data.lists.text import find_separator
from omnisource.errors import UserError
from omnisource.files import mapped_table
from omnisource.recipe.data import Split
from omnisource.types import Media

NAMES = ("hug", "kick", "shake hands")


def make_files(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def read(root: Path, split: Split, media: Media = "video", names=None, num_classes=None, check_files=True) -> Items:
    return read_items(str(root), split, media, names, num_classes, "tiny", check_files)


def content(items: Items) -> list[tuple[str, int]]:
    return [(item.key, item.label) for item in items]


def read_text(root: Path, text: str | bytes, names=None, num_classes=None, **split) -> Items:
    (root / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(root, Split(list="list.txt", **split), names=names, num_classes=num_classes)


def problems_of(root: Path, text: str | bytes, media: Media = "video", names=None, num_classes=3, **split) -> list[str]:
    """Returns what is wrong with a list, each as `line: what` without the folder that the test runs in."""
    (root / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    _, found = find_problems(str(root), Split(list="list.txt", **split), media, names, num_classes, "tiny")
    return [str(problem).removeprefix(f"{root}/list.txt:").replace(f"{root}/", "") for problem in found]


# The forms


def test_list_of_paths_and_labels_is_read(tmp_path):
    make_files(tmp_path / "videos", "a.mp4", "deep/b.mp4")
    items = read_text(tmp_path, "a.mp4 2\ndeep/b.mp4 0\n", num_classes=3, folder="videos")
    assert content(items) == [("a.mp4", 2), ("deep/b.mp4", 0)]
    assert items[1].path == str(tmp_path / "videos/deep/b.mp4")
    assert os.path.isabs(items[0].path)
    assert items[0].num_frames is None
    assert items.labels.dtype == np.int32


def test_imagenet_list_is_read(tmp_path):
    make_files(tmp_path / "train", "n01440764/n01440764_10026.JPEG", "n01443537/n01443537_2.JPEG")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/train.txt").write_text("n01440764/n01440764_10026.JPEG 0\nn01443537/n01443537_2.JPEG 1\n")
    items = read(tmp_path, Split("train", "meta/train.txt"), media="image", num_classes=1000)
    assert content(items) == [("n01440764/n01440764_10026.JPEG", 0), ("n01443537/n01443537_2.JPEG", 1)]


@pytest.mark.parametrize("separator", [" ", "   ", "\t", ",", ", ", " , ", " \t ", "\t\t"])
def test_separator_is_recognized(tmp_path, separator):
    make_files(tmp_path, "a.mp4", "shake hands/b 1.mp4")
    items = read_text(tmp_path, f"a.mp4{separator}1\nshake hands/b 1.mp4{separator}0\n", num_classes=2)
    assert content(items) == [("a.mp4", 1), ("shake hands/b 1.mp4", 0)]


def test_separator_is_recognized_in_spite_of_separators_in_paths_and_of_mistakes(tmp_path):
    make_files(tmp_path, "a,b.mp4", "c,1.mp4", "d.mp4")
    items = read_text(tmp_path, "a,b.mp4 1\nc,1.mp4 0\nd.mp4 0\n")
    assert content(items) == [("a,b.mp4", 1), ("c,1.mp4", 0), ("d.mp4", 0)]
    assert find_separator(["a b,1", "c d,x", "", "e 5", "f g,2"], 2) == ","


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path, ends, mark, last):
    make_files(tmp_path, "a.mp4", "ü.mp4")
    text = f"a.mp4 1{ends}ü.mp4 0" + (ends if last else "")
    assert content(read_text(tmp_path, mark + text.encode())) == [("a.mp4", 1), ("ü.mp4", 0)]


def test_a_number_sign_begins_no_comment(tmp_path):
    make_files(tmp_path, "#1.mp4", "a #2.mp4")
    assert content(read_text(tmp_path, "#1.mp4 0\na #2.mp4 1\n")) == [("#1.mp4", 0), ("a #2.mp4", 1)]


def test_label_may_be_the_name_of_a_class(tmp_path):
    make_files(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    text = "a.mp4,shake hands\nb.mp4,hug\nc.mp4,1\n"
    assert content(read_text(tmp_path, text, names=NAMES)) == [("a.mp4", 2), ("b.mp4", 0), ("c.mp4", 1)]


def test_a_number_is_an_index_even_where_a_class_has_that_name(tmp_path):
    make_files(tmp_path, "a.mp4")
    assert content(read_text(tmp_path, "a.mp4 1\n", names=("1", "0"))) == [("a.mp4", 1)]


def test_videos_are_found_by_their_ids(tmp_path):
    make_files(tmp_path / "videos", "abc.mp4", "a.b c.WEBM", "x/deep.mkv", "y/far.avi", "whole.mp4", "abc.json")
    text = "abc 300 0\na.b c 10 1\nx/deep -1 2\nfar 7 0\nwhole.mp4 7 1\n"
    items = read_text(tmp_path, text, format="video_frames_label", folder="videos")
    assert [item.key for item in items] == ["abc", "a.b c", "x/deep", "far", "whole.mp4"]
    assert [os.path.relpath(item.path, tmp_path / "videos") for item in items] == [
        *("abc.mp4", "a.b c.WEBM", "x/deep.mkv", "y/far.avi", "whole.mp4")
    ]
    assert items.labels.tolist() == [0, 1, 2, 0, 1]
    assert items.num_frames is None


def test_ids_are_found_without_checking_files_too(tmp_path):
    make_files(tmp_path, "abc.mp4")
    (tmp_path / "list.txt").write_text("abc 3 0\ngone 3 0\n")
    items = read(tmp_path, Split(list="list.txt", format="video_frames_label"), check_files=False)
    assert [item.path for item in items] == [str(tmp_path / "abc.mp4"), str(tmp_path / "gone")]


def test_folders_of_frames_are_read_with_their_counts(tmp_path):
    (tmp_path / "rawframes/a b").mkdir(parents=True)
    (tmp_path / "rawframes/c").mkdir()
    items = read_text(tmp_path, "a b 120 1\nc/ 33 0\n", format="frames_folder", folder="rawframes")
    assert [(item.key, item.num_frames, item.label) for item in items] == [("a b", 120, 1), ("c", 33, 0)]
    assert items[0].path == str(tmp_path / "rawframes/a b")


@pytest.mark.parametrize("mark", [",", "\t", ";"])
def test_csv_list_is_read_by_its_header(tmp_path, mark):
    make_files(tmp_path, "a, b;\tc.mp4", "d.mp4")
    text = f'start{mark}class{mark} file \n3{mark}hug{mark}"a, b;\tc.mp4"\n4{mark}2{mark}d.mp4\n'
    items = read_text(tmp_path, text, names=NAMES, format="csv", path_column="file", label_column="class")
    assert content(items) == [("a, b;\tc.mp4", 0), ("d.mp4", 2)]


def test_class_folders_are_numbered_alphabetically_and_read_at_any_depth(tmp_path):
    make_files(tmp_path, "b/2.jpg", "b/1.JPEG", "a/deep/er/3.png", "C/4.webp")
    make_files(tmp_path, "a/notes.txt", "readme.md", "a/.hidden.jpg", ".cache/5.jpg", "a/.thumbs/6.jpg")
    items = read(tmp_path, Split(format="folders"), media="image")
    assert content(items) == [("C/4.webp", 0), ("a/deep/er/3.png", 1), ("b/1.JPEG", 2), ("b/2.jpg", 2)]
    assert items.num_ignored == 2  # notes.txt and readme.md
    assert class_names_of_folders(str(tmp_path)) == ("C", "a", "b")


def test_class_folders_follow_the_names_of_the_label_space(tmp_path):
    """A validation folder that lacks a class must not shift the numbers of the others."""
    make_files(tmp_path, "kick/1.mp4", "shake hands/2.mp4")
    items = read(tmp_path, Split(format="folders"), names=NAMES)
    assert content(items) == [("kick/1.mp4", 1), ("shake hands/2.mp4", 2)]


def test_names_of_classes_are_the_same_in_other_forms_of_unicode(tmp_path):
    make_files(tmp_path, "cafe\u0301/1.mp4", "bar/2.mp4", "3.mp4")
    names = ("bar", "caf\u00e9")
    assert content(read(tmp_path, Split(format="folders"), names=names)) == [("bar/2.mp4", 0), ("cafe\u0301/1.mp4", 1)]
    assert content(read_text(tmp_path, "3.mp4,cafe\u0301\n", names=names)) == [("3.mp4", 1)]
    assert problems_of(tmp_path, "3.mp4,cafe\u0301\n", names=(*names, "cafe\u0301")) == []
    assert "not the name of a class" in problems_of(tmp_path, "3.mp4,cafe\n", names=names)[0]


def test_links_are_followed_once(tmp_path):
    make_files(tmp_path, "elsewhere/1.mp4", "data/a/2.mp4")
    (tmp_path / "data/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/a/again").symlink_to(tmp_path / "data/a")
    items = read(tmp_path / "data", Split(format="folders"))
    assert content(items) == [("a/2.mp4", 0), ("b/1.mp4", 1)]


def test_absolute_folder_and_list_need_no_root(tmp_path):
    make_files(tmp_path / "videos", "a.mp4")
    (tmp_path / "list.txt").write_text("a.mp4 0\n")
    split = Split(str(tmp_path / "videos"), str(tmp_path / "list.txt"))
    assert content(read(Path("/nowhere"), split)) == [("a.mp4", 0)]


def test_absolute_paths_in_a_list_are_found(tmp_path):
    make_files(tmp_path, "videos/a.mp4")
    (tmp_path / "other").mkdir()
    items = read_text(tmp_path, f"{tmp_path}/videos/a.mp4 0\n", folder="other")
    assert items[0].path == f"{tmp_path}/videos/a.mp4"


def test_names_of_files_need_not_be_utf8(tmp_path):
    (tmp_path / "a").mkdir()
    (Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/\xff.mp4"))).touch()
    items = read(tmp_path, Split(format="folders"))
    assert os.path.exists(items[0].path)


@pytest.mark.shared_data
def test_real_lists_are_read(shared):
    data = shared / "data"
    names = read_class_names(str(data / "ut_interaction/classes.txt"))
    items = read(data / "ut_interaction", Split("videos", "set1.txt"), names=names)
    assert len(items) == 60
    assert items.class_counts(6).tolist() == [10] * 6
    sports = read(data / "sports22", Split("", "train.txt"), media="image", num_classes=22)
    folders = read(data / "sports22", Split(format="folders"), media="image")
    assert sports.class_counts(22).tolist() == [220] * 22
    assert class_names_of_folders(str(data / "sports22")) == read_class_names(str(data / "sports22/classes.txt"))
    labels = dict(content(folders))
    assert all(labels[key] == label for key, label in content(sports))


# Items


def test_items_are_a_sequence(tmp_path):
    make_files(tmp_path, "a.mp4", "b.mp4")
    items = read_text(tmp_path, "a.mp4 1\nb.mp4 0\n")
    assert len(items) == 2
    assert items[-1] == items[1]
    assert [item.key for item in items] == ["a.mp4", "b.mp4"]
    assert list(items.keys) == items.keys[:] == ["a.mp4", "b.mp4"]
    with pytest.raises(IndexError):
        items[2]
    assert items.class_counts(4).tolist() == [1, 1, 0, 0]


def test_digest_changes_with_keys_labels_and_order_only(tmp_path):
    texts = ["ab 1\nc 0\n", "a 1\nbc 0\n", "ab 0\nc 1\n", "c 0\nab 1\n"]
    digests = []
    for content in texts:
        (tmp_path / "list.txt").write_text(content)
        digests.append(read(tmp_path, Split(list="list.txt"), check_files=False).digest())
    assert len(set(digests)) == len(texts)
    (tmp_path / "list.txt").write_text("ab,1\r\nc,0")
    assert read(tmp_path, Split("x", "list.txt"), check_files=False).digest() == digests[0]
    assert digests[0] == "c79afb55005f7e50fa0ed4148ca369d3"  # checkpoints keep it: it must never change


def test_digest_of_folders_of_frames_changes_with_their_numbers_of_frames_too(tmp_path):
    digests = []
    for counts in ((8, 9), (8, 10), (9, 8)):
        (tmp_path / "list.txt").write_text(f"ab {counts[0]} 1\nc {counts[1]} 0\n")
        digests.append(read(tmp_path, Split(list="list.txt", format="frames_folder"), check_files=False).digest())
    assert len(set(digests)) == 3
    assert not is_same_digest(digests[0], digests[1])
    assert is_same_digest(digests[0], digests[0])
    # Earlier checkpoints hold the digest of the keys and labels alone: whatever the numbers, it must be this one.
    for digest in digests:
        assert is_same_digest("c79afb55005f7e50fa0ed4148ca369d3", digest)
    assert not is_same_digest(digests[0], "c79afb55005f7e50fa0ed4148ca369d3")  # a list of files now


def test_items_pickle_compactly(tmp_path):
    keys = [f"class_{index % 10}/video_{index:06d}.mp4" for index in range(20_000)]
    (tmp_path / "list.txt").write_text("".join(f"{key} {index % 10}\n" for index, key in enumerate(keys)))
    items = read(tmp_path, Split(list="list.txt"), check_files=False)
    data = pickle.dumps(items)
    assert len(data) < sum(map(len, keys)) + 12 * len(keys) + 2000  # the characters, an offset and a label each
    copy = pickle.loads(data)
    assert copy[12_345] == items[12_345]
    assert copy.digest() == items.digest()


def test_reading_lists_does_not_import_torch():
    code = "import sys, omnisource.data.datasets; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Large lists

FORMS = {
    "path_label": ("a.mp4 1\ndeep/b c.mp4 0\nü.mp4 2\n", {}),
    "csv": ('path,label\na.mp4,1\n"deep/b c.mp4",0\nü.mp4,2\n', {}),
    "video_frames_label": ("a 3 1\nb c 4 0\nü.mp4 5 2\n", {}),
    "frames_folder": ("deep 3 1\nframes/1/ 4 0\nframes/2 1 2\n", {}),
    "folders": ("", {"folder": "classes"}),
}


def as_tuples(items: Items) -> list[tuple[str, str, int, int | None]]:
    return [(item.path, item.key, item.label, item.num_frames) for item in items]


@pytest.fixture
def forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes files that a list of each of `FORMS` names; every list then counts as large."""
    monkeypatch.setenv("OMNISOURCE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    make_files(root, "a.mp4", "deep/b c.mp4", "ü.mp4", "frames/1/img.jpg", "frames/2/img.jpg")
    make_files(root, "classes/x/1.mp4", "classes/x/2.mkv", "classes/y/3.mp4", "classes/y/notes.txt")
    return root


@pytest.mark.parametrize("form", FORMS)
def test_large_list_is_the_same_when_it_is_read_mapped_or_kept(forms: Path, form: str, monkeypatch) -> None:
    text, options = FORMS[form]
    expected = read_text(forms, text, format=form, **options)
    monkeypatch.setattr(mapped_table, "MEMORY_BYTES", 0)
    for _ in range(2):
        items = read_text(forms, text, format=form, **options)
        assert as_tuples(items) == as_tuples(expected)
        assert list(items.keys) == list(expected.keys)
        assert items.digest() == expected.digest()
        assert items.num_ignored == expected.num_ignored
        assert items.class_counts(4).tolist() == expected.class_counts(4).tolist()
        assert as_tuples(items.without({1})) == [
            row for position, row in enumerate(as_tuples(expected)) if position != 1
        ]
        assert items.labels.dtype == np.int32 and not items.labels.flags.writeable


def test_large_list_is_parsed_once(forms: Path, monkeypatch) -> None:
    monkeypatch.setattr(mapped_table, "MEMORY_BYTES", 0)
    text = FORMS["path_label"][0]
    read_text(forms, text)
    (kept,) = forms.parent.glob("cache/lists/*")
    content = kept.read_bytes()
    kept.write_bytes(content.replace(b"a.mp4", b"A.mp4"))  # as no parser would make it
    assert read(forms, Split(list="list.txt"), check_files=False)[0].key == "A.mp4"
    assert read_text(forms, text.replace(" 2", " 1"))[0].key == "a.mp4"  # a list of the same size and another content


@pytest.mark.parametrize(
    ("text", "options", "labels"),
    [
        ("a.mp4,x\n", ({"names": ("x", "y")}, {"names": ("y", "x")}), ([0], [1])),
        ("a.mp4 1\n", ({"num_classes": 2}, {"num_classes": 1}), ([1], None)),
        (
            "path,label,other\na.mp4,1,2\n",
            ({"format": "csv"}, {"format": "csv", "label_column": "other"}),
            ([1], [2]),
        ),
        (
            "a.mp4,1\nü.mp4,2\n",
            ({}, {"format": "csv", "path_column": "a.mp4", "label_column": "1"}),
            ([1, 2], [2]),
        ),
    ],
)
def test_large_list_is_parsed_again_for_other_options(forms: Path, text, options, labels, monkeypatch) -> None:
    monkeypatch.setattr(mapped_table, "MEMORY_BYTES", 0)
    for chosen, expected in zip(options, labels, strict=True):
        if expected is None:
            with pytest.raises(UserError, match="outside the classes"):
                read_text(forms, text, **chosen)
        else:
            assert read_text(forms, text, **chosen).labels.tolist() == expected


def test_mistakes_of_a_large_list_are_found_each_time(forms: Path, monkeypatch) -> None:
    monkeypatch.setattr(mapped_table, "MEMORY_BYTES", 0)
    for _ in range(2):
        assert problems_of(forms, "a.mp4 0\na.mp4 1\n\nb.mp4 7\n") == [
            "2: the same item as in line 1: a.mp4, with the label 1 here and 0 there",
            "3: empty line",
            "4: label 7 is outside the classes (allowed: 0 to 2)",
            "4: missing file: b.mp4",
        ]
    text = "a.mp4 0\ngone.mp4 1\nü.mp4 0\n"
    for _ in range(2):
        assert problems_of(forms, text) == ["2: missing file: gone.mp4"]
    make_files(forms, "gone.mp4")
    (forms / "ü.mp4").unlink()
    assert problems_of(forms, text) == ["3: missing file: ü.mp4"]


def test_reading_ends_after_many_problems(tmp_path, monkeypatch) -> None:
    for module in (rows, text, file_finder):
        monkeypatch.setattr(module, "MOST_PROBLEMS", 50)
    found = problems_of(tmp_path, "x\n" * 200)
    assert len(found) == 52 and found[-1] == "52: not read from here on: over 50 problems before"
    names = "".join(f"{index // 10}/{index}.mp4 0\n" for index in range(200))
    found = problems_of(tmp_path, names)
    assert len(found) == 61 and found[0].endswith("not looked through further: over 50 items are missing")
    make_files(tmp_path, "a.mp4", "b.mp4")
    found = problems_of(tmp_path, "a.mp4 0\nb.mp4 0\n" * 100)
    assert len(found) == 51
    assert found[:2] == [
        " 148 more items are in the list twice",
        "3: the same item as in line 1: a.mp4",
    ]


# Mistakes


def test_all_mistakes_of_a_list_are_reported_at_once_with_their_lines(tmp_path):
    make_files(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    text = b"a.mp4 0\n\ngone.mp4 1\nb.mp4 3\nc.mp4 one\nd.mp4\na.mp4 1\n\xff.mp4 0\ngone2.mp4 -1\n   \n"
    assert problems_of(tmp_path, text) == [
        "2: empty line",
        "3: missing file: gone.mp4",
        "4: label 3 is outside the classes (allowed: 0 to 2)",
        "5: label 'one' is not a number (allowed: 0 to 2)",
        "6: 1 column instead of 2 (`path label`): 'd.mp4'",
        "7: the same item as in line 1: a.mp4, with the label 1 here and 0 there",
        "8: is not UTF-8 (byte 0xff at 0)",
        "9: label -1 is outside the classes (allowed: 0 to 2)",
        "9: missing file: gone2.mp4",
        "10: empty line",
    ]
    with pytest.raises(UserError) as caught:
        read_text(tmp_path, text, num_classes=3)
    message = str(caught.value)
    assert message.startswith('source tiny: 10 problems in its items (format "path_label")\n')
    assert f"{tmp_path}/list.txt:6: 1 column" in message
    assert "docs/data.md" in message.splitlines()[-1]


def test_a_long_report_fits_on_a_screen(tmp_path):
    with pytest.raises(UserError) as caught:
        read_text(tmp_path, "".join(f"{index}.mp4 0\n" for index in range(1000)))
    lines = str(caught.value).splitlines()
    assert len(lines) == 23
    assert "1000 problems" in lines[0]
    assert lines[-2] == "... and 980 more"
    assert len(problems_of(tmp_path, "".join(f"{index}.mp4 0\n" for index in range(1000)))) == 1000


def test_last_line_end_is_no_empty_line_but_a_second_one_is(tmp_path):
    make_files(tmp_path, "a.mp4")
    assert problems_of(tmp_path, "a.mp4 0\n") == []
    assert problems_of(tmp_path, "a.mp4 0\n\n") == ["2: empty line"]


@pytest.mark.parametrize(
    ("label", "names", "num_classes", "what"),
    [
        ("3", None, 3, "label 3 is outside the classes (allowed: 0 to 2)"),
        ("3", NAMES, None, "label 3 is outside the classes (allowed: 0 to 2 or the name of a class)"),
        ("hugs", NAMES, 3, "label 'hugs' is not the name of a class (allowed: 0 to 2 or the name of a class)"),
        ("x", ("0", "1"), 2, "label 'x' is not the name of a class (allowed: 0 to 1)"),
        ("x", None, None, "label 'x' is not a number (allowed: 0 or more)"),
        ("1.0", None, 3, "label '1.0' is not a number (allowed: 0 to 2)"),
        ("1_0", None, None, "label '1_0' is not a number (allowed: 0 or more)"),
        ("99999999999999", None, None, "label 99999999999999 is outside the classes (allowed: 0 or more)"),
        ("shake hands", NAMES, 2, "label shake hands is outside the classes (allowed: 0 to 1 or the name of a class)"),
    ],
)
def test_wrong_label_names_what_is_allowed(tmp_path, label, names, num_classes, what):
    make_files(tmp_path, "a.mp4")
    assert problems_of(tmp_path, f"a.mp4,{label}\n", names=names, num_classes=num_classes) == [f"1: {what}"]


def test_surplus_column_is_reported(tmp_path):
    make_files(tmp_path, "a.mp4", "b 7.mp4")
    assert problems_of(tmp_path, "a.mp4 120 1\nb 7.mp4 1\n") == [
        "1: 3 columns instead of 2 (`path label`), or a missing file: a.mp4 120; "
        'lists of the form "video_frames_label" are `video_id num_frames label`'
    ]


FRAMES = 'lists of the form "frames_folder" are `folder num_frames label`'


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('"a.mp4"', 'missing file: "a.mp4" (there is a.mp4, without the quotes around it)'),
        ("x\\b.mp4", "missing file: x\\b.mp4 (there is x/b.mp4, with slashes for the backslashes)"),
        ("u\u0308.mp4", "missing file: u\u0308.mp4 (there is \u00fc.mp4, in another form of Unicode (NFC))"),
        (
            "\u00e9.mp4",
            "missing file: \u00e9.mp4 (there is e\u0301.mp4, in another form of Unicode (NFD))",
        ),
        ("\uff11.mp4", "missing file: \uff11.mp4 (there is 1.mp4, in another form of Unicode (NFKC))"),
        ("a%20b.mp4", "missing file: a%20b.mp4 (there is a b.mp4, without the percent signs of a URL)"),
        ("/x/b.mp4", "missing file: /x/b.mp4 (there is x/b.mp4, below the folder)"),
        (
            "videos/x/b.mp4",
            "missing file: videos/x/b.mp4 (there is x/b.mp4, since paths start from the folder of the split)",
        ),
        ("A.MP4", "missing file: A.MP4 (there is a.mp4, with other capital letters)"),
        ("a.avi", "missing file: a.avi (there is a.mp4, with another suffix)"),
        ("a", 'missing file: a (there is a.mp4; lists of names without suffix have format="video_frames_label")'),
        ("a.mp4 0 120", "4 columns instead of 2 (`path label`), or a missing file: a.mp4 0 120"),
        (
            "x 12",
            f"3 columns instead of 2 (`path label`), or a missing file: x 12; x is a folder: {FRAMES}",
        ),
        (
            "x 0 12",
            "4 columns instead of 2 (`path label`), or a missing file: x 0 12; x is a folder: "
            f"{FRAMES}, without an offset",
        ),
        ("x\0y.mp4", r"missing file: x\x00y.mp4 (no path has a zero byte in it)"),
    ],
)
def test_missing_file_tells_which_one_may_be_meant(tmp_path, line, what):
    make_files(tmp_path / "videos", "a.mp4", "x/b.mp4", "\u00fc.mp4", "e\u0301.mp4", "1.mp4", "a b.mp4")
    found = problems_of(tmp_path, f"{line}\t0\n", folder="videos")
    assert [text.replace("videos/", "") for text in found] == [f"1: {what}".replace("videos/", "")]


def test_offset_in_a_list_of_frames_is_told(tmp_path):
    make_files(tmp_path, "x/img_00001.jpg")
    assert problems_of(tmp_path, "x 0 12 1\n", format="frames_folder") == [
        "1: 4 columns, or a missing folder: x 0; x is one: "
        'lists of the form "frames_folder" are `folder num_frames label`, without an offset'
    ]


@pytest.mark.parametrize("labels", [(1, 2, 3), (3, 1, 1)])
def test_labels_that_begin_with_one_are_told(tmp_path, labels):
    make_files(tmp_path, *(f"{number}.mp4" for number in range(3)))
    text = "".join(f"{number}.mp4 {label}\n" for number, label in enumerate(labels))
    assert problems_of(tmp_path, text)[0] == (
        " the labels seem to begin with 1, and classes are numbered from 0: subtract 1 from each"
    )
    assert not any("begin with 1" in problem for problem in problems_of(tmp_path, text + "0.mp4 0\n"))


@pytest.mark.parametrize(
    ("text", "split", "what"),
    [
        (
            "path,label\na.mp4,1\n",
            {},
            "1: label 'label' is not a number (allowed: 0 to 2) (a header? Lists with one have",
        ),
        ("label,youtube_id,time_start,time_end,split\n", {}, "(a Kinetics CSV file: `omnisource lists kinetics` makes"),
        ('"a.mp4","1"\n', {}, "1: label '\"1\"' is not a number (allowed: 0 to 2) (the quotes belong to it; write 1"),
        ("a.mp4 \uff11\n", {}, "(its digits are not those of ASCII; write 1)"),
        ("0 a.mp4\n", {}, "(the path comes first, and the label last)"),
        ("a.mp4,1\n", {"format": "csv"}, '(an item, and no header? Lists without one have format="path_label")'),
        ('[{"id": "1", "label": "hug"}]', {}, "is JSON, and no list"),
        ('{"path": "a.mp4", "label": 1}\n', {"format": "csv"}, "is JSON, and no list"),
        ('{\n  "a.mp4": 1\n}\n', {}, "is JSON, and no list"),
    ],
)
def test_list_of_another_form_is_told(tmp_path, text, split, what):
    make_files(tmp_path, "a.mp4")
    assert any(what in problem for problem in problems_of(tmp_path, text, **split))


def test_split_of_hmdb51_is_no_list(tmp_path):
    (tmp_path / "hug_test_split1.txt").write_text("a.avi 1\nb.avi 2\n")
    split = Split(list="hug_test_split1.txt")
    _, (found,) = find_problems(str(tmp_path), split, "video", None, 51, "tiny")
    assert "is a split of HMDB51 by its name" in str(found)


def test_three_columns_are_required_where_the_form_has_three(tmp_path):
    (tmp_path / "a").mkdir()
    assert problems_of(tmp_path, "a 1\na 3 1\n", format="frames_folder") == [
        "1: 2 columns instead of 3 (`folder num_frames label`): 'a 1'"
    ]


def test_label_without_a_path_is_a_mistake(tmp_path):
    make_files(tmp_path, "a.mp4")
    assert problems_of(tmp_path, "a.mp4,1\n,1\n") == ["2: nothing before the label (`path label`): ',1'"]


def test_one_item_in_two_spellings_of_an_id_is_a_duplicate(tmp_path):
    make_files(tmp_path, "a.mp4", "b.mp4")
    found = problems_of(tmp_path, "a 1 0\nb 1 0\na.mp4 1 0\na 1 0\n", format="video_frames_label")
    assert found == ["3: the same item as in line 1: a.mp4", "4: the same item as in line 1: a.mp4"]


SPELLINGS = "a.mp4 0\n./a.mp4 1\nx//b.mp4 0\nx/b.mp4 0\nx/../a.mp4 0\n{root}/a.mp4 0\n"


def test_other_spellings_of_a_path_are_the_same_item(tmp_path):
    make_files(tmp_path, "a.mp4", "x/b.mp4")
    assert problems_of(tmp_path, SPELLINGS.replace("{root}", str(tmp_path))) == [
        "2: the same item as in line 1: ./a.mp4, which is a.mp4 there, with the label 1 here and 0 there",
        "4: the same item as in line 3: x/b.mp4, which is x//b.mp4 there",
        "5: the same item as in line 1: x/../a.mp4, which is a.mp4 there",
        "6: the same item as in line 1: a.mp4, which is a.mp4 there",
    ]
    assert problems_of(tmp_path, "x/b 3 0\n./x/b 3 0\n", format="video_frames_label") == [
        "2: the same item as in line 1: ./x/b.mp4, which is x/b.mp4 there"
    ]
    assert problems_of(tmp_path, "x 3 0\n./x/ 3 0\n", format="frames_folder") == [
        "2: the same item as in line 1: ./x, which is x there"
    ]


def test_links_to_one_file_are_told_and_their_labels_compared(tmp_path):
    make_files(tmp_path, "a.mp4", "b.mp4", "x/c.mp4")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    os.link(tmp_path / "b.mp4", tmp_path / "hard.mp4")
    (tmp_path / "y").symlink_to("x")
    items = read_text(tmp_path, "a.mp4 0\nb.mp4 1\nlink.mp4 1\nhard.mp4 1\nx/c.mp4 0\ny/c.mp4 0\n")
    assert len(items) == 6
    assert items.notes == (
        "items that are the file of another item under another name: 3, such as line 3 (link.mp4), which is line "
        "1 (a.mp4)",
    )
    assert items.label_conflicts == (
        "line 3 (link.mp4) has the label 1, and line 1 (a.mp4), which is the same file, 0",
    )
    (tmp_path / "classes/k").mkdir(parents=True)
    make_files(tmp_path, "classes/h/1.mp4")
    (tmp_path / "classes/k/1.mp4").symlink_to("../h/1.mp4")
    items = read(tmp_path, Split("classes", format="folders"))
    assert items.label_conflicts == ("k/1.mp4 has the label 1, and h/1.mp4, which is the same file, 0",)


def test_missing_and_ambiguous_ids_are_reported(tmp_path):
    make_files(tmp_path, "videos/a.mp4", "videos/a.mkv", "videos/x/b.mp4", "videos/y/b.mp4")
    found = problems_of(tmp_path, "a 1 0\nb 1 0\nc 1 0\n", format="video_frames_label", folder="videos")
    assert found == [
        "1: 2 videos have the id 'a': a.mkv, a.mp4",
        "2: 2 videos have the id 'b': x/b.mp4, y/b.mp4",
        "3: missing video: videos/c with any suffix of videos",
    ]


def test_id_in_quotes_or_another_form_of_unicode_is_told(tmp_path):
    make_files(tmp_path, "a.mp4", "e\u0301.mkv")
    assert problems_of(tmp_path, '"a" 1 0\n\u00e9 1 0\n', format="video_frames_label") == [
        '1: missing video: "a" with any suffix of videos (there is a.mp4, without the quotes around it)',
        "2: missing video: \u00e9 with any suffix of videos (there is e\u0301.mkv, in another form of Unicode (NFD))",
    ]


def test_wrong_folders_of_frames_are_reported(tmp_path):
    make_files(tmp_path, "file", "a/img_00001.jpg", "b/img_00001.jpg")
    text = "file 3 0\na 0 0\nb many 0\ngone 2 0\ngone/deep 2 0\n"
    assert problems_of(tmp_path, text, format="frames_folder") == [
        "1: is a file, not a folder of frames: file",
        "2: num_frames '0' is not a whole number of at least 1",
        "3: num_frames 'many' is not a whole number of at least 1",
        "4: missing folder: gone",
        "5: missing folder: gone/deep",
    ]


def test_folder_in_a_list_of_files_is_reported(tmp_path):
    make_files(tmp_path, "a/img_00001.jpg")
    (found,) = problems_of(tmp_path, "a 0\n")
    assert found.startswith("1: is a folder, not a file: a (")
    assert "frames_folder" in found


def test_broken_link_is_a_missing_file(tmp_path):
    make_files(tmp_path, "real.mp4")
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "good.mp4").symlink_to(tmp_path / "real.mp4")
    assert problems_of(tmp_path, "broken.mp4 0\ngood.mp4 0\n") == [
        "1: missing file: broken.mp4 (is a link that leads nowhere, to gone.mp4)"
    ]


def test_path_with_a_zero_byte_is_missing(tmp_path):
    found = problems_of(tmp_path, "a\0b.mp4 0\nc\0d/e.mp4 0\n")
    assert [line.split(":")[0] for line in found if line[0].isdigit()] == ["1", "2"]


def test_mistakes_of_a_csv_list_are_reported_at_once(tmp_path):
    make_files(tmp_path, "a.mp4", "b.mp4")
    text = b"path,label\na.mp4,0\n\nb.mp4\ngone.mp4,1\nb.mp4,9\n,1\n\xfe.mp4,0\na.mp4,2\n"
    assert problems_of(tmp_path, text, format="csv") == [
        "3: empty line",
        "4: 1 column instead of 2 as in the header",
        "5: missing file: gone.mp4",
        "6: label 9 is outside the classes (allowed: 0 to 2)",
        "7: nothing in the column 'path'",
        "8: is not UTF-8 (byte 0xfe at 0)",
        "9: the same item as in line 2: a.mp4, with the label 2 here and 0 there",
    ]


def test_missing_columns_of_a_csv_list_are_reported(tmp_path):
    (found,) = problems_of(tmp_path, "file,class\na.mp4,0\n", format="csv", label_column="class")
    assert found == "1: the header has no column 'path'; its columns are file, class"


def test_csv_with_an_open_quote_is_a_mistake(tmp_path):
    make_files(tmp_path, "a.mp4")
    (found,) = problems_of(tmp_path, 'path,label\na.mp4,0\n"b.mp4,0\n', format="csv")
    assert found.startswith("3: is not CSV from here on")


@pytest.mark.parametrize("text", ["", "\ufeff"])
@pytest.mark.parametrize("form", ["path_label", "frames_folder", "video_frames_label", "csv"])
def test_empty_list_is_a_mistake(tmp_path, form, text):
    with pytest.raises(UserError, match=r"list\.txt: the list is empty: source tiny has no items"):
        read_text(tmp_path, text, format=form)


def test_csv_with_a_header_only_has_no_items(tmp_path):
    (found,) = problems_of(tmp_path, "path,label\n", format="csv")
    assert "source tiny has no items" in found


def test_utf16_is_reported(tmp_path):
    (found,) = problems_of(tmp_path, "a.mp4 0\n".encode("utf-16"))
    assert found.endswith("is UTF-16 text; save it as UTF-8")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("a.mp4 0\n".encode("utf-32"), "is UTF-32 text"),
        ("a.mp4 0\n".encode("utf-16-le"), "is UTF-16 text"),
        (gzip.compress(b"a.mp4 0\n", mtime=0), "is compressed with gzip; unpack it first (gunzip)"),
        (b"PK\x03\x04 ...", "is a zip file or an Excel workbook"),
        (b"PAR1 ...", "is a Parquet table"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html>\n", "is a web page"),
        (pickle.dumps(["a.mp4"]), "is a pickle"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(20), "is a video, and no text"),
        (b"a.mp4" + bytes(252) + b"ustar\x00" + bytes(250), "is a tar archive"),
    ],
)
@pytest.mark.parametrize("form", ["path_label", "csv"])
def test_file_that_is_no_text_is_one_problem(tmp_path, content, what, form):
    (found,) = problems_of(tmp_path, content, format=form)
    assert what in found


def test_lines_that_end_in_cr_alone_are_read(tmp_path):
    make_files(tmp_path, "a.mp4", "b\rc.mp4", "d.mp4")
    assert content(read_text(tmp_path, "a.mp4 1\rd.mp4 0\r")) == [("a.mp4", 1), ("d.mp4", 0)]
    assert content(read_text(tmp_path, "a.mp4\t1\rd.mp4\t0")) == [("a.mp4", 1), ("d.mp4", 0)]
    assert content(read_text(tmp_path, "path,label\ra.mp4,1\rd.mp4,0\r", format="csv")) == [("a.mp4", 1), ("d.mp4", 0)]
    assert content(read_text(tmp_path, "a.mp4 1\nb\rc.mp4 0\n")) == [("a.mp4", 1), ("b\rc.mp4", 0)]


def test_control_characters_of_a_list_do_not_reach_the_terminal(tmp_path):
    (found,) = problems_of(tmp_path, "\x1b[31mred\u2028.mp4 0\n")
    assert found == r"1: missing file: \x1b[31mred\u2028.mp4"


def test_missing_root_list_and_folder_are_all_reported_with_the_remedy(tmp_path):
    root = tmp_path / "kinetics400"
    with pytest.raises(UserError) as caught:
        read(root, Split("videos_train", "train.txt"))
    lines = str(caught.value).splitlines()
    assert lines[1:4] == [
        f"{root}: missing root folder",
        f"{root}/train.txt: missing list",
        f"{root}/videos_train: missing folder",
    ]
    assert "sources.tiny.root=" in lines[4]
    assert "docs/data.md" in lines[4]


def test_missing_folder_is_one_problem_beside_those_of_the_list(tmp_path):
    found = problems_of(tmp_path, "a.mp4 0\nb.mp4 7\nc.mp4 0\n", folder="videos")
    assert found == ["videos: missing folder", "2: label 7 is outside the classes (allowed: 0 to 2)"]


def test_list_that_is_a_folder_or_not_named_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="is a folder, not a list"):
        read(tmp_path.parent, Split("", tmp_path.name))
    with pytest.raises(UserError, match="the split names no list"):
        read(tmp_path, Split())


def test_forms_for_videos_are_refused_for_images(tmp_path):
    (found,) = problems_of(tmp_path, "a 3 0\n", media="image", format="frames_folder")
    assert found.endswith('lists of the form "frames_folder" are for videos, not for images')


def test_mistakes_of_class_folders_are_reported_at_once(tmp_path):
    make_files(tmp_path, "hug/1.mp4", "jump/2.mp4", "kick/readme.txt")
    _, found = find_problems(str(tmp_path), Split(format="folders"), "video", NAMES, None, "tiny")
    assert [(problem.path, problem.what.split(" (")[0]) for problem in found] == [
        (f"{tmp_path}/kick", "no videos in this class folder"),
        (f"{tmp_path}/jump", "not the name of a class: hug, kick, shake hands"),
    ]


def test_more_class_folders_than_classes_are_a_mistake(tmp_path):
    make_files(tmp_path, "a/1.mp4", "b/2.mp4")
    _, found = find_problems(str(tmp_path), Split(format="folders"), "video", None, 1, "tiny")
    assert [str(problem) for problem in found] == [f"{tmp_path}/b: label 1 is outside the classes (allowed: 0 to 0)"]


def test_folder_of_other_files_says_what_is_known(tmp_path):
    make_files(tmp_path, "a/1.mp4", "b/2.mp4")
    with pytest.raises(UserError) as caught:
        read(tmp_path, Split(format="folders"), media="image")
    assert f"{tmp_path}: 2 files of other kinds; images are known by .apng, .avif" in str(caught.value)


def test_folder_without_class_folders_is_a_mistake(tmp_path):
    make_files(tmp_path, "1.mp4")
    with pytest.raises(UserError, match="no folders in it; it should hold one folder a class"):
        read(tmp_path, Split(format="folders"))
    with pytest.raises(UserError, match="missing folder"):
        read(tmp_path, Split("gone", format="folders"))
    with pytest.raises(UserError, match="missing folder"):
        class_names_of_folders(str(tmp_path / "gone"))


def test_folder_that_cannot_be_listed_is_reported(tmp_path):
    found = problems_of(tmp_path, f"{'x' * 300}/1.mp4 0\n")
    assert found == [
        f"{'x' * 300}: cannot be listed: File name too long",
        f"1: missing file: {'x' * 300}/1.mp4 (no name has more than 255 bytes)",
    ]


def test_files_are_not_looked_for_where_they_are_not_checked(tmp_path):
    (tmp_path / "list.txt").write_text("gone.mp4 0\n")
    assert content(read(tmp_path, Split("gone", "list.txt"), check_files=False)) == [("gone.mp4", 0)]


def test_items_that_are_there_are_given_beside_the_problems(tmp_path):
    make_files(tmp_path / "videos", "a.mp4", "b.mp4")
    (tmp_path / "list.txt").write_text("a.mp4 7\ngone.mp4 1\nb.mp4 2\n")
    items, found = find_problems(str(tmp_path), Split("videos", "list.txt"), "video", None, 3, "tiny")
    assert [problem.line for problem in found] == [1, 2]
    assert content(items) == [("a.mp4", 0), ("b.mp4", 2)]
    items, found = find_problems(str(tmp_path), Split("gone", "list.txt"), "video", None, 8, "tiny")
    assert [str(problem) for problem in found] == [f"{tmp_path}/gone: missing folder"]
    assert len(items) == 0


def test_ids_and_folders_of_frames_that_are_there_are_given_beside_the_problems(tmp_path):
    make_files(tmp_path, "a.mp4", "frames/img_00001.jpg")
    (tmp_path / "ids.txt").write_text("gone 5 1\na 5 2\n")
    items, _ = find_problems(str(tmp_path), Split("", "ids.txt", "video_frames_label"), "video", None, 3, "tiny")
    assert [(item.key, item.path, item.label) for item in items] == [("a", f"{tmp_path}/a.mp4", 2)]
    (tmp_path / "frames.txt").write_text("gone 5 1\nframes 1 2\n")
    items, _ = find_problems(str(tmp_path), Split("", "frames.txt", "frames_folder"), "video", None, 3, "tiny")
    assert [(item.key, item.num_frames, item.label) for item in items] == [("frames", 1, 2)]


# Class maps


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("hug\nkick\nshake hands\n", NAMES),
        ("hug 0\nkick 1\nshake hands 2\n", NAMES),
        ("shake hands 2\nhug 0\nkick 1\n", NAMES),
        ("shake hands,2\nhug, 0\nkick,1", NAMES),
        ("shake hands\t2\r\nhug\t0\r\nkick\t1\r\n", NAMES),
        ("\ufeffhug\nkick\nshake hands", NAMES),
        ("0\n1\n2\n", ("0", "1", "2")),
        ("digit 0\nother\n", ("digit 0", "other")),
        ("digit 1 0\ndigit 0 1\n", ("digit 1", "digit 0")),
        ("jump, high\nrun\n", ("jump, high", "run")),
        ("jump, high 1\nrun 0\n", ("run", "jump, high")),
        ("0 hug\n1 kick\n2 shake hands\n", NAMES),
        ("id,name\n2,shake hands\n0,hug\n1,kick\n", NAMES),
        ('id;name\n0;"hug"\n1;"kick"\n2;"shake hands"\n', NAMES),
        ("0: hug\n1: kick\n2: shake hands\n", NAMES),
        ("0. hug\n1. kick\n2. shake hands\n", NAMES),
        ("0 = hug\n1 = kick\n2 = shake hands\n", NAMES),
        ("hug = 0\nkick = 1\nshake hands = 2\n", NAMES),
        ("hug: 0\nkick: 1\nshake hands: 2\n", NAMES),
        ("name,id\nhug,0\nkick,1\nshake hands,2\n", NAMES),
        ("name index\nhug 0\nkick 1\nshake hands 2\n", NAMES),
        ("index name\n0 hug\n1 kick\n2 shake hands\n", NAMES),
        ("24 hours\n7 days\nother\n", ("24 hours", "7 days", "other")),
        ("take 1\ntake 2\nother\n", ("take 1", "take 2", "other")),
        ("0,jump, high\n1,run\n", ("jump, high", "run")),
        ("hug\rkick\rshake hands\r", NAMES),
        ('["hug", "kick", "shake hands"]', NAMES),
        ('{"shake hands": 2,\n\n "hug": "0", "kick": 1}', NAMES),
        ('{"0": "hug", "2": "shake hands", "1": "kick"}', NAMES),
        ('{"\\"hug\\"": 0, "kick": 1, "\\"shake hands\\"": 2}', NAMES),  # as that of Kinetics
    ],
)
def test_class_map_is_read(tmp_path, text, names):
    (tmp_path / "classes.txt").write_bytes(text.encode())
    assert read_class_names(str(tmp_path / "classes.txt")) == names


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("hug\n\nkick\nhug\n", [":2: empty line", ":4: the same name as in line 1: 'hug'"]),
        ("a 0\nb 2\n", [": no line has the index 1", ":2: index 2 in a map of 2 classes: 0 to 1"]),
        ("a 1\nb 2\nc 3\n", [": no line has the index 0", ":3: index 3 in a map of 3 classes: 0 to 2"]),
        ("a 0\nb 0\n", [": no line has the index 1", ":2: the same index as in line 1: 0"]),
        ("digit 0\ndigit 1\n", [":2: the same name as in line 1: 'digit'"]),
        ("", [": no names in it"]),
        (b"hug\nk\xffck\n", [":2: is not UTF-8 (byte 0xff at 1)"]),
        ("1 a\n2 b\n3 c\n", [": no line has the index 0", ":3: index 3 in a map of 3 classes: 0 to 2"]),
        ("1\ta\n2\tb\n", [": no line has the index 0", ":2: index 2 in a map of 2 classes: 0 to 1"]),
        (
            "100 m race\n200 m race\n",
            [
                ": every line begins with a number, but they are no indices from 0 on; if they belong to the names, "
                "write an index after each"
            ],
        ),
        ("hug 0\nkick\nrun 2\n", [":2: has no index, which the other lines have"]),
        ("0 hug\nkick\n2 run\n", [":2: has no index, which the other lines have"]),
        ("0,n1,a\n1,n2,b\n", [": 3 columns; a class map has two, of an index and a name. Keep the names alone"]),
        ("hug,kick,run\n", [":1: all names are in one line; write one a line"]),
        ("hug=0\nkick=1\n", [": every line ends in an index behind a mark; write a blank, a comma or a tab there"]),
        (
            'item { id: 1 name: "hug" }\n',
            [":1: looks like a label map of TensorFlow (`item { ... }`); write the names alone"],
        ),
        ("- hug\n- kick\n", [": every line begins with a dash, as in YAML; write the names alone"]),
        ("names:\n  0: hug\n  1: kick\n", [":1: has no index, which the other lines have"]),
        ("name\nhug\nkick\n", [":1: is the header of a table, 'name', and no class; remove it"]),
        ("hug\nki\x1b[31mck\nhug\n", [":3: the same name as in line 1: 'hug'"]),
        ('{"1": "a", "2": "b"}', [": its indices are not those from 0 to 1: 1, 2"]),
        ('{"a": 0, "b": 0}', [': is JSON, but none of the forms {"hug": 0}, {"0": "hug"} and ["hug"]']),
        (
            '{"0": ["n1", "a"]}',
            [': is JSON, but none of the forms {"hug": 0}, {"0": "hug"} and ["hug"]: [\'n1\', \'a\']'],
        ),
        ('["a", "a"]', [": names that are there twice: 'a'"]),
        ("hug\nkick\n".encode("utf-16"), [": is UTF-16 text; save it as UTF-8"]),
    ],
)
def test_mistakes_of_a_class_map_are_reported_at_once(tmp_path, text, problems):
    path = tmp_path / "classes.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        read_class_names(str(path))
    assert str(caught.value).splitlines()[:-1] == [f"{path}{problem}" for problem in problems]


def test_class_map_that_begins_with_one_says_so(tmp_path):
    for map_text in ("a 1\nb 2\n", "1 a\n2 b\n", "id,name\n1,a\n2,b\n", '{"a": 1, "b": 2}'):
        (tmp_path / "classes.txt").write_text(map_text)
        with pytest.raises(UserError, match=r"The indices begin with 1, .*: subtract 1 here, and from the labels"):
            read_class_names(str(tmp_path / "classes.txt"))


def test_missing_class_map_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="missing class map"):
        read_class_names(str(tmp_path / "gone.txt"))
