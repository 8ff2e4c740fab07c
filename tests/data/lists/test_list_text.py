"""The text of lists and class maps: the reader gives back what the writer was given."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from omnisource.data.datasets import read_items
from omnisource.data.lists.class_maps import format_class_names, read_class_names
from omnisource.data.lists.text import format_rows
from omnisource.recipe.data import Split
from tests.support.list_files import ODD

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
